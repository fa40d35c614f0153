//! The load generator's command lines: a schedule made once per run, and one replay of it per repetition.

use std::{path::Path, time::Duration};

use crate::{
    definition::{
        load::{Calls, EQUIDISTANT, Rate, Trace},
        settings::Settings,
        template::Values,
    },
    run::programs::Programs,
    system::Invoke,
};

/// The command that writes the schedule and names its functions.
#[must_use]
pub fn schedule_command(programs: &Programs, settings: &Settings, schedule: &Path, functions: &Path) -> Vec<String> {
    let load = &settings.load;
    let mut command = vec![programs.path("loadgen"), "schedule".to_owned()];
    command.extend(load.trace().map(trace_options).unwrap_or_default());
    command.extend(load.rate().map(rate_options).unwrap_or_default());
    let mut option = |name: &str, value: String| command.extend([format!("--{name}"), value]);
    if load.rate().is_some() {
        option("duration", duration(load.length()));
    }
    option("warmup", duration(load.warmup()));
    option("arrivals", load.arrivals.clone());
    // At equal gaps nothing is drawn, and the load generator refuses a seed there.
    if load.rate().is_none() || load.arrivals != EQUIDISTANT {
        option("seed", settings.seed.to_string());
    }
    option("out", schedule.display().to_string());
    option("functions-out", functions.display().to_string());
    command
}

fn trace_options(trace: &Trace) -> Vec<String> {
    let mut options = Vec::new();
    let mut option = |name: &str, value: String| options.extend([format!("--{name}"), value]);
    match &trace.trace {
        Some(folder) => option("trace", folder.display().to_string()),
        None => option("synthetic", trace.synthetic.clone()),
    }
    option("minutes", trace.minutes.to_string());
    option("minute", duration(trace.minute));
    option("start-minute", trace.start_minute.to_string());
    if let Some(functions) = trace.functions {
        option("functions", functions.to_string());
    }
    if let Some(cores) = trace.max_cores {
        option("max-cores", cores.to_string());
    }
    if let Some(max_run) = trace.max_run {
        option("max-run", duration(max_run));
    }
    options
}

fn rate_options(rate: &Rate) -> Vec<String> {
    let mut options = vec!["--rate".to_owned(), rate.rate_per_s.to_string(), "--run".to_owned(), duration(rate.run)];
    if let Some(bursts) = rate.bursts {
        options.extend(["--burst".to_owned(), bursts.size.to_string()]);
    }
    match rate.calls {
        Calls::Warm { functions } => options.extend(["--warm-functions".to_owned(), functions.to_string()]),
        Calls::Cold { cooldown } => options.extend(["--cold".to_owned(), "--cooldown".to_owned(), duration(cooldown)]),
    }
    options
}

fn duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// The command that replays the schedule against a started system.
///
/// # Errors
/// When a template of the system names an unknown value.
pub fn run_command(
    programs: &Programs,
    settings: &Settings,
    invoke: &Invoke,
    values: &Values,
    files: (&Path, &Path),
) -> anyhow::Result<Vec<String>> {
    let (schedule, out) = files;
    let mut command = vec![programs.path("loadgen"), "run".to_owned()];
    let mut option = |name: &str, value: String| command.extend([format!("--{name}"), value]);
    option("schedule", schedule.display().to_string());
    option("target", invoke.target.clone());
    option("address", values.expand(&invoke.address)?);
    for (name, value) in &invoke.headers {
        option("header", format!("{name}: {}", values.expand(value)?));
    }
    option("protocol", settings.load.protocol.name().to_owned());
    if settings.load.connections > 0 {
        option("open-connections", settings.load.connections.to_string());
    }
    option("timeout", duration(settings.load.timeout));
    option("out", out.display().to_string());
    Ok(command)
}
