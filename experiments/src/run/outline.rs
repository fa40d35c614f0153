//! Head of a plan: the load, the sample or the varied values, and the sandboxes.

use std::fmt::Write;

use crate::definition::{
    load::{Bursts, Calls, Load, Rate, Trace},
    points::Point,
    settings::{Sandbox, Settings},
};

/// The outline of an experiment's points: what is the same for all of them, then what differs.
#[must_use]
pub fn text(points: &[Point]) -> String {
    let Some(first) = points.first() else { return String::new() };
    let settings = &first.settings;
    let mut text = match (settings.load.trace(), settings.load.rate()) {
        (Some(trace), _) => of_trace(&settings.load, trace, &seeds(settings)),
        (None, Some(rate)) => of_rate(&settings.load, rate, points),
        (None, None) => String::new(),
    };
    if points.len() > 1 {
        let names: Vec<&str> = points.iter().map(|point| point.name.as_str()).collect();
        let _ = writeln!(text, "  points   {}: {}", names.len(), names.join(", "));
    }
    let varies = |key: &str| points.iter().any(|point| point.values.contains_key(key));
    text.push_str(&of_sandbox(&settings.sandbox, varies("sandbox.delay")));
    text
}

/// The seeds of all repetitions, in words.
fn seeds(settings: &Settings) -> String {
    match settings.repetitions {
        1 => format!("seed {}", settings.seed),
        several => format!("seeds {} to {}", settings.seed, settings.seed_of(several)),
    }
}

fn of_trace(load: &Load, trace: &Trace, seeds: &str) -> String {
    let source = trace
        .trace
        .as_ref()
        .map_or_else(|| format!("the synthetic trace {}", trace.synthetic), |path| path.display().to_string());
    let mut text = format!(
        "  load     {} min of {source} from minute {}, the first {} warm-up, {seeds}\n",
        trace.minutes,
        trace.start_minute,
        humantime::format_duration(load.warmup()),
    );
    if let Some(functions) = trace.functions {
        let bound = trace.max_cores.map(|cores| format!(", mean execution at most {cores} cores")).unwrap_or_default();
        let _ = writeln!(text, "  sample   {functions} functions{bound}");
    }
    text
}

fn of_rate(load: &Load, rate: &Rate, points: &[Point]) -> String {
    let differ = points.iter().filter_map(|point| point.settings.load.rate()).any(|other| other.calls != rate.calls);
    let calls = match rate.calls {
        _ if differ => "functions as the point says".to_owned(),
        Calls::Warm { functions } => format!("{functions} functions called in turn"),
        Calls::Cold { cooldown } => {
            format!("every one cold: no function again within {}", humantime::format_duration(cooldown))
        }
    };
    format!(
        "  load     {} for {} s after {} of warm-up, {calls}\n",
        rate_range(points),
        rate.seconds,
        humantime::format_duration(load.warmup()),
    )
}

/// Rate of invocations: from the slowest point to the fastest.
fn rate_range(points: &[Point]) -> String {
    let rates = || points.iter().filter_map(|point| point.settings.load.rate());
    let range = |least: f64, most: f64| if least < most { format!("{least} to {most}") } else { least.to_string() };
    let over = |value: &dyn Fn(&Rate) -> f64| {
        let values = || rates().map(value);
        range(values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max))
    };
    match rates().find_map(|rate| rate.bursts) {
        Some(Bursts { every, .. }) => {
            let sizes = over(&|rate| rate.bursts.map_or(1.0, |bursts| bursts.size.into()));
            format!("{sizes} at the same moment every {}", humantime::format_duration(every))
        }
        None => format!("{} per second", over(&|rate| rate.rate_per_s)),
    }
}

fn of_sandbox(sandbox: &Sandbox, delay_varies: bool) -> String {
    let nodes = match sandbox.nodes {
        1 => String::new(),
        nodes => format!(" × {nodes} nodes"),
    };
    let mode = sandbox.mode.name();
    let delay = if delay_varies {
        String::new()
    } else {
        format!(", creation delay {}", humantime::format_duration(sandbox.delay))
    };
    let starts = match sandbox.parallel_starts {
        0 => String::new(),
        starts => format!(", at most {starts} at once in each worker"),
    };
    format!(
        "  sandbox  {}, {mode} mode, {} workers{nodes} of {} cores and {}{delay}{starts}\n",
        sandbox.runtime, sandbox.workers, sandbox.cpu, sandbox.memory,
    )
}
