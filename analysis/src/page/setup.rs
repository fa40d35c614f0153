//! Sentences about the run's load and sandboxes, from the points in the manifest, and their differences
//! from the set-up of the published figures.

use std::time::Duration;

use record::{ExecutionMode, Manifest, Point, Runtime, TraceLoad};

use crate::{format::rate, plan::Plan};

/// Duration of a minute of a trace that is replayed as it was recorded.
const REAL_MINUTE: Duration = Duration::from_secs(60);

/// Points or rates named in a sentence; of more, only the number is given.
const MAX_NAMED: usize = 4;

/// The load, in one sentence per aspect.
pub(super) fn load(plan: Plan<'_>) -> Vec<String> {
    if plan.is_at_rate() {
        let what = if plan.is_cold() { "cold starts" } else { "invocations" };
        return vec![if plan.is_in_bursts() {
            format!(
                "Load: bursts of {what} that are due at once: {}.",
                numbers(&plan.each(|point| point.rate()?.burst.map(f64::from)))
            )
        } else {
            format!(
                "Load: {what} at constant rates, per second: {}.",
                numbers(&plan.each(|point| point.rate()?.rate_per_s))
            )
        }];
    }
    let traces = plan.each(recorded_trace);
    if !traces.is_empty() {
        let length = length(plan);
        return traces
            .into_iter()
            .map(|(path, points)| format!("Load{}: the trace in `{path}`{length}.", at(&points)))
            .collect();
    }
    let synthetic = plan.each(synthetic_trace);
    if synthetic.is_empty() {
        return vec!["Load: a trace; which one is not on record.".to_owned()];
    }
    let length = length(plan);
    let sentence = |(name, points): (&str, Vec<&str>)| {
        let at = at(&points);
        format!("Load{at}: the synthetic trace `{name}`{length}. The load generator made it up: nobody recorded it.")
    };
    synthetic.into_iter().map(sentence).collect()
}

/// Folder of the recorded trace at a point.
fn recorded_trace(point: &Point) -> Option<&str> {
    point.trace()?.trace.as_deref()
}

/// Name of the synthetic trace at a point. Where a trace was recorded, too, that one is replayed.
fn synthetic_trace(point: &Point) -> Option<&str> {
    point.trace()?.synthetic.as_deref()
}

/// The values, or of many how many there are and which are the least and the greatest.
fn numbers(each: &[(f64, Vec<&str>)]) -> String {
    let mut sorted: Vec<f64> = each.iter().map(|(value, _)| *value).collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.as_slice() {
        [least, .., greatest] if sorted.len() > MAX_NAMED => {
            format!("{} of them, from {} to {}", sorted.len(), rate(*least), rate(*greatest))
        }
        few => few.iter().map(|value| rate(*value)).collect::<Vec<_>>().join(", "),
    }
}

/// Length of the replayed trace.
fn length(plan: Plan<'_>) -> String {
    let of = |setting: fn(&TraceLoad) -> Option<u32>| plan.shared(|point| setting(point.trace()?));
    let counted = |count: Option<u32>, what: &str| match count {
        None => String::new(),
        Some(1) => format!(", 1 {what}"),
        Some(count) => format!(", {count} {what}s"),
    };
    let (functions, minutes) =
        (counted(of(|trace| trace.functions), "function"), counted(of(|trace| trace.minutes), "minute"));
    let from = of(|trace| trace.start_minute).filter(|_| !minutes.is_empty());
    let from = from.map(|minute| format!(" from minute {minute}")).unwrap_or_default();
    let compressed = plan.shared(|point| point.trace()?.minute).filter(|minute| *minute != REAL_MINUTE);
    let compressed = compressed.map(|minute| format!(", each in {}", humantime::format_duration(minute)));
    format!("{functions}{minutes}{from}{}", compressed.unwrap_or_default())
}

/// The sandboxes, in one sentence per runtime.
pub(super) fn sandboxes(plan: Plan<'_>) -> Vec<String> {
    let runtimes = plan.each(|point| point.sandbox.runtime.as_ref());
    if runtimes.is_empty() {
        return vec!["Sandboxes: the runtime is not on record.".to_owned()];
    }
    let sentence = |(runtime, points): (&Runtime, Vec<&str>)| {
        let delays = plan.each(|point| point.sandbox.delay).into_iter();
        let delays: Vec<String> = delays.map(|(delay, _)| humantime::format_duration(delay).to_string()).collect();
        let delay = if *runtime == Runtime::Hollow && !delays.is_empty() {
            format!(", a creation is a modelled delay of {}", delays.join(" or "))
        } else {
            String::new()
        };
        format!("Sandboxes{}: runtime `{}`{delay}.", at(&points), runtime.name())
    };
    runtimes.into_iter().map(sentence).collect()
}

/// The points that a sentence is about; empty if it is about all.
fn at(points: &[&str]) -> String {
    match points.len() {
        0 => String::new(),
        few if few <= MAX_NAMED => format!(" at {}", points.join(", ")),
        many => format!(" at {many} of the points"),
    }
}

/// Differences from the published set-up, one sentence each.
pub(super) fn differences(manifest: &Manifest, plan: Plan<'_>) -> Vec<String> {
    let mut found = Vec::new();
    if manifest.scale == "laptop" {
        found.push(format!(
            "One machine ({} cores) holds load generator, system and sandboxes, connected by its loopback device. Published: \
             17 or 93 worker machines (xl170, 10 cores) and a network.",
            manifest.host.cores
        ));
    }
    let about = |points: &[&str], what: &str| match at(points).trim() {
        "" => what.to_owned(),
        at => format!("{}{}: {what}", at[..1].to_uppercase(), &at[1..]),
    };
    let runtimes = plan.each(|point| point.sandbox.runtime.as_ref()).into_iter();
    found.extend(runtimes.filter_map(|(known, points)| Some(about(&points, runtime(known)?))));
    if !plan.is_at_rate() {
        let modes = plan.each(|point| point.sandbox.mode).into_iter();
        let sleeping = modes.filter(|(mode, _)| *mode == ExecutionMode::Sleep);
        found.extend(sleeping.map(|(_, points)| {
            about(
                &points,
                "Functions sleep for the time they are asked to run instead of using a core, so that a large trace fits a \
                 small machine. Published: they spin.",
            )
        }));
        found.extend(trace(plan));
    }
    found.push(
        "Latency counts from the instant an invocation was due. Published: from the instant the load generator got to send \
         it, which hides its lateness."
            .to_owned(),
    );
    found
}

/// Difference of a runtime's sandboxes from the published ones; `None` if there is none or it is unknown.
fn runtime(runtime: &Runtime) -> Option<&'static str> {
    match runtime {
        Runtime::Hollow => Some(
            "Sandboxes are hollow: a creation is a modelled delay, nothing is isolated, and the node responds to invocations \
             itself. Published: containerd containers or Firecracker snapshots.",
        ),
        Runtime::Process => Some(
            "Sandboxes are child processes of the worker, limited but not isolated. Published: containerd containers or \
             Firecracker snapshots.",
        ),
        Runtime::Other(_) => None,
    }
}

/// Difference of the trace from the published one, as far as the points show it.
fn trace(plan: Plan<'_>) -> Option<String> {
    let published = "Published: a sample of the Azure Functions trace.";
    if let Some((path, _)) = plan.each(recorded_trace).first() {
        let what = format!("The trace is the one in `{path}`, with its checksums under the run's facts");
        return Some(format!("{what}; whether it is the published sample this page cannot tell. {published}"));
    }
    let (name, _) = *plan.each(synthetic_trace).first()?;
    Some(format!("The trace is synthetic (`{name}`), made to the published shape. {published}"))
}

/// The part of the set-up that every caption of a figure states.
pub(super) fn caption(plan: Plan<'_>) -> String {
    let mut runtimes = plan.each(|point| point.sandbox.runtime.as_ref()).into_iter();
    let hollow = runtimes.find(|(runtime, _)| **runtime == Runtime::Hollow);
    let hollow = hollow.map(|(_, points)| format!(" Sandboxes are hollow{}.", at(&points)));
    let is_synthetic = plan.each(recorded_trace).is_empty() && !plan.each(synthetic_trace).is_empty();
    let synthetic = is_synthetic.then(|| " The trace is synthetic.".to_owned());
    [hollow, synthetic].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use record::points_of_definition;

    use super::*;

    fn of(definition: &str, command: &[&str]) -> (Vec<String>, Vec<String>, String) {
        let mut manifest: Manifest = serde_json::from_str(
            r#"{"schema_version":1,"experiment":"e","scale":"laptop","started":"","ended":null,"git_revision":"",
            "command":[],"definition":"","host":{"cpu":"","cores":1,"memory_mib":1,"kernel":"","mitigations":{},"clock":""},
            "systems":{},"seeds":{},"checksums":{},"exit":"done","notes":[]}"#,
        )
        .unwrap();
        manifest.points = points_of_definition(definition).unwrap();
        manifest.command = command.iter().map(|argument| (*argument).to_owned()).collect();
        let plan = Plan::of(&manifest);
        (load(plan), sandboxes(plan), differences(&manifest, plan).join("\n"))
    }

    #[test]
    fn a_synthetic_trace_is_named_by_the_key_that_chose_it() {
        let (load, sandboxes, differences) = of(
            "[load]\nminutes = 30\nstart_minute = 0\nminute = \"1m\"\nfunctions = 500\nsynthetic = \"azure-sample\"\n\
             [sandbox]\nruntime = \"process\"\nmode = \"spin\"\ndelay = \"0s\"\n",
            &["repro", "run"],
        );
        let expected = "Load: the synthetic trace `azure-sample`, 500 functions, 30 minutes from minute 0. The load \
                        generator made it up: nobody recorded it.";
        assert_eq!(load, [expected]);
        assert_eq!(sandboxes, ["Sandboxes: runtime `process`."]);
        assert!(differences.contains("The trace is synthetic (`azure-sample`)"), "{differences}");
        assert!(differences.contains("child processes") && !differences.contains("hollow"), "{differences}");
        assert!(!differences.contains("sleep"), "{differences}");
    }

    #[test]
    fn words_elsewhere_in_a_definition_or_command_say_nothing() {
        // The resolved definition of a real trace still names the synthetic default.
        let (load, sandboxes, differences) = of(
            "question = \"What does a hollow process sleep?\"\n[load]\nminutes = 1\ntrace = \"/data/synthetic/hollow\"\n\
             synthetic = \"azure-sample\"\n[sandbox]\nruntime = \"containerd\"\n[parameters]\nmode = \"sleep\"\n",
            &["repro", "run", "--out", "/tmp/synthetic process"],
        );
        assert_eq!(load, ["Load: the trace in `/data/synthetic/hollow`, 1 minute."]);
        assert_eq!(sandboxes, ["Sandboxes: runtime `containerd`."]);
        for untrue in ["is synthetic", "Sandboxes are", "Functions sleep"] {
            assert!(!differences.contains(untrue), "{differences}");
        }
        assert!(differences.contains("this page cannot tell"), "{differences}");
    }

    #[test]
    fn a_rate_has_no_trace_and_points_are_named_where_they_differ() {
        let (load, sandboxes, differences) = of(
            "[load]\nkind = \"rate\"\nseconds = 60\n[sandbox]\nmode = \"sleep\"\n[[points]]\nname = \"a\"\nload.rate = 1.5\n\
             sandbox = { runtime = \"hollow\", delay = \"40ms\" }\n[[points]]\nname = \"b\"\nload.rate = 3\n\
             sandbox = { runtime = \"process\", delay = \"40ms\" }\n",
            &[],
        );
        assert_eq!(load, ["Load: invocations at constant rates, per second: 1.5, 3."]);
        let hollow = "Sandboxes at a: runtime `hollow`, a creation is a modelled delay of 40ms.";
        assert_eq!(sandboxes, [hollow, "Sandboxes at b: runtime `process`."]);
        assert!(
            differences.contains("At a: Sandboxes are hollow") && differences.contains("At b: Sandboxes are child")
        );
        assert!(!differences.contains("trace") && !differences.contains("sleep"), "{differences}");
    }

    #[test]
    fn what_is_not_on_record_is_said_to_be_so() {
        let (load, sandboxes, _) = of("", &["hollow", "synthetic"]);
        assert_eq!(load, ["Load: a trace; which one is not on record."]);
        assert_eq!(sandboxes, ["Sandboxes: the runtime is not on record."]);
    }
}
