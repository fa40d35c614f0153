//! Sentences about the run's load and sandboxes, from the resolved definition in the manifest, and their differences
//! from the set-up of the published figures.

use record::Manifest;

use crate::{
    design::{BURST, Design, HOLLOW, RATE, RUNTIME},
    format::rate,
};

/// Keys of a definition that say what sandboxes are and what is sent.
const MODE: &str = "sandbox.mode";
const DELAY: &str = "sandbox.delay";
const TRACE: &str = "load.trace";
const SYNTHETIC: &str = "load.synthetic";

/// The runtime whose sandboxes are processes of the worker.
const PROCESS: &str = "process";
/// Mode in which functions wait instead of computing.
const SLEEP: &str = "sleep";

/// Points or rates named in a sentence; of more, only the number is given.
const MAX_NAMED: usize = 4;

/// The load, in one sentence per aspect.
pub(super) fn load(design: &Design) -> Vec<String> {
    if design.at_rate {
        let what = if design.cold { "cold starts" } else { "invocations" };
        return vec![if design.in_bursts {
            format!("Load: bursts of {what} that are due at once: {}.", numbers(&design.each(BURST)))
        } else {
            format!("Load: {what} at constant rates, per second: {}.", numbers(&design.each(RATE)))
        }];
    }
    let traces = design.each(TRACE);
    if !traces.is_empty() {
        let length = length(design);
        return traces
            .into_iter()
            .map(|(path, points)| format!("Load{}: the trace in `{path}`{length}.", at(&points)))
            .collect();
    }
    let synthetic = design.each(SYNTHETIC);
    if synthetic.is_empty() {
        return vec!["Load: a trace; which one is not on record.".to_owned()];
    }
    let length = length(design);
    let sentence = |(name, points): (&str, Vec<&str>)| {
        let at = at(&points);
        format!("Load{at}: the synthetic trace `{name}`{length}. The load generator made it up: nobody recorded it.")
    };
    synthetic.into_iter().map(sentence).collect()
}

/// The values, or of many how many there are and which are the least and the greatest.
fn numbers(each: &[(&str, Vec<&str>)]) -> String {
    let mut sorted: Vec<f64> = each.iter().filter_map(|(value, _)| value.parse().ok()).collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.as_slice() {
        [least, .., greatest] if sorted.len() > MAX_NAMED => {
            format!("{} of them, from {} to {}", sorted.len(), rate(*least), rate(*greatest))
        }
        few => few.iter().map(|value| rate(*value)).collect::<Vec<_>>().join(", "),
    }
}

/// Length of the replayed trace.
fn length(design: &Design) -> String {
    let of = |key: &str| design.shared(key);
    let counted = |key: &str, what: &str| match of(key) {
        None => String::new(),
        Some("1") => format!(", 1 {what}"),
        Some(count) => format!(", {count} {what}s"),
    };
    let (functions, minutes) = (counted("load.functions", "function"), counted("load.minutes", "minute"));
    let from = of("load.start_minute").filter(|_| !minutes.is_empty());
    let from = from.map(|minute| format!(" from minute {minute}")).unwrap_or_default();
    let pressed = of("load.minute").filter(|minute| !["1m", "60s"].contains(minute));
    let pressed = pressed.map(|minute| format!(", each in {minute}")).unwrap_or_default();
    format!("{functions}{minutes}{from}{pressed}")
}

/// The sandboxes, in one sentence per runtime.
pub(super) fn sandboxes(design: &Design) -> Vec<String> {
    let runtimes = design.each(RUNTIME);
    if runtimes.is_empty() {
        return vec!["Sandboxes: the runtime is not on record.".to_owned()];
    }
    let sentence = |(runtime, points): (&str, Vec<&str>)| {
        let delays: Vec<&str> = design.each(DELAY).into_iter().map(|(delay, _)| delay).collect();
        let delay = if runtime == HOLLOW && !delays.is_empty() {
            format!(", a creation is a modelled delay of {}", delays.join(" or "))
        } else {
            String::new()
        };
        format!("Sandboxes{}: runtime `{runtime}`{delay}.", at(&points))
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
pub(super) fn differences(manifest: &Manifest, design: &Design) -> Vec<String> {
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
    found.extend(design.each(RUNTIME).into_iter().filter_map(|(name, points)| Some(about(&points, runtime(name)?))));
    if !design.at_rate {
        let sleeping = design.each(MODE).into_iter().filter(|(mode, _)| *mode == SLEEP);
        found.extend(sleeping.map(|(_, points)| {
            about(
                &points,
                "Functions sleep for the time they are asked to run instead of using a core, so that a large trace fits a \
                 small machine. Published: they spin.",
            )
        }));
        found.extend(trace(design));
    }
    found.push(
        "Latency counts from the instant an invocation was due. Published: from the instant the load generator got to send \
         it, which hides its lateness."
            .to_owned(),
    );
    found
}

/// Difference of a runtime's sandboxes from the published ones; `None` if there is none or it is unknown.
fn runtime(name: &str) -> Option<&'static str> {
    match name {
        HOLLOW => Some(
            "Sandboxes are hollow: a creation is a modelled delay, nothing is isolated, and the node answers invocations \
             itself. Published: containerd containers or Firecracker snapshots.",
        ),
        PROCESS => Some(
            "Sandboxes are child processes of the worker, limited but not isolated. Published: containerd containers or \
             Firecracker snapshots.",
        ),
        _ => None,
    }
}

/// Difference of the trace from the published one, as far as the definition shows it.
fn trace(design: &Design) -> Option<String> {
    let published = "Published: a sample of the Azure Functions trace.";
    if let Some((path, _)) = design.each(TRACE).first() {
        let what = format!("The trace is the one in `{path}`, with its checksums under the run's facts");
        return Some(format!("{what}; whether it is the published sample this page cannot tell. {published}"));
    }
    let (name, _) = *design.each(SYNTHETIC).first()?;
    Some(format!("The trace is synthetic (`{name}`), made to the published shape. {published}"))
}

/// The part of the set-up that every caption of a figure states.
pub(super) fn caption(design: &Design) -> String {
    let hollow = design.each(RUNTIME).into_iter().find(|(runtime, _)| *runtime == HOLLOW);
    let hollow = hollow.map(|(_, points)| format!(" Sandboxes are hollow{}.", at(&points)));
    let is_synthetic = !design.at_rate && design.each(TRACE).is_empty() && !design.each(SYNTHETIC).is_empty();
    let synthetic = is_synthetic.then(|| " The trace is synthetic.".to_owned());
    [hollow, synthetic].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(definition: &str, command: &[&str]) -> (Vec<String>, Vec<String>, String) {
        let mut manifest: Manifest = serde_json::from_str(
            r#"{"schema_version":1,"experiment":"e","scale":"laptop","started":"","ended":null,"git_revision":"",
            "command":[],"definition":"","host":{"cpu":"","cores":1,"memory_mib":1,"kernel":"","mitigations":{},"clock":""},
            "systems":{},"seeds":{},"checksums":{},"exit":"done","notes":[]}"#,
        )
        .unwrap();
        manifest.definition = definition.to_owned();
        manifest.command = command.iter().map(|argument| (*argument).to_owned()).collect();
        let design = Design::of(&manifest);
        (load(&design), sandboxes(&design), differences(&manifest, &design).join("\n"))
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
