//! Traces that are written: what is in them is what was said of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod program;

use program::{Scratch, run};

#[test]
fn a_trace_that_is_written_is_what_was_said_of_it() {
    let scratch = Scratch::new();
    let directory = scratch.path("whole");
    let (code, _, errors) = run(&["synth", "--functions", "50", "--minutes", "3", "--out", &directory]);
    assert_eq!(code, 0, "{errors}");
    let figures = |arguments: &[&str], of: &str| {
        let (code, printed, errors) = run(&[arguments, &["--format", "json"]].concat());
        assert_eq!(code, 0, "{arguments:?}: {errors}");
        let found: serde_json::Value = serde_json::from_str(&printed).unwrap();
        let trace = found.pointer(of).unwrap();
        let names = ["functions", "minutes", "invocations", "per_second", "cores", "busiest_cores", "cores_by_average"];
        (names.map(|name| trace[name].clone()), found["notes"].to_string())
    };
    let bounded = ["--min-run", "2ms", "--max-run", "5ms"];
    let compressed = ["--minute", "1s", "--min-run", "0s"];
    let sampled = ["sample", "--trace", &directory, "--functions", "5", "--max-cores", "0.01"];
    let made = ["synth", "--functions", "20", "--minutes", "3"];
    let fitted = ["synth", "--functions", "20", "--minutes", "3", "--max-cores", "0.01"];
    let of_second = ["sample", "--trace", &directory, "--functions", "2"];
    for (place, (command, bounds, again)) in [
        (&sampled[..], &bounded[..], &[][..]),
        (&made[..], &bounded[..], &[]),
        (&fitted[..], &["--max-run", "5ms"][..], &[]),
        (&of_second[..], &compressed[..], &compressed[..]),
    ]
    .into_iter()
    .enumerate()
    {
        let out = scratch.path(&format!("made-{place}"));
        let (said, notes) = figures(&[command, bounds, &["--out", &out]].concat(), "");
        let (found, _) = figures(&[&["inspect", "--trace", &out], again].concat(), "/trace");
        assert_eq!(said, found, "{command:?} {bounds:?}");
        let to_repeat = notes.contains("this is so when it is replayed with --minute 1s --min-run 0s");
        assert_eq!(to_repeat, !again.is_empty(), "{notes}");
        if bounds == bounded {
            let (code, printed, _) = run(&["inspect", "--trace", &out, "--format", "json"]);
            let run_us = serde_json::from_str::<serde_json::Value>(&printed).unwrap()["run_us"].clone();
            let within = run_us.as_array().unwrap().iter().all(|us| (2000..=5000).contains(&us.as_u64().unwrap()));
            assert!(code == 0 && within, "{printed}");
        }
    }
}
