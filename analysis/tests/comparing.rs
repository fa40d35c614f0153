//! Claims judged and runs compared on the command line: what is printed, and how the program ends.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use assert_cmd::Command;
use fixture::{Fixture, load, row, rule};
use record::{Finding, RunDir, Weight};

/// A run of five repetitions in which the invocations of a system take so long, in milliseconds by repetition.
fn run(system: &str, latencies_ms: [u64; 5]) -> Fixture {
    let fixture = Fixture::new("cluster-100");
    add(&fixture, system, latencies_ms);
    fixture
}

fn add(fixture: &Fixture, system: &str, latencies_ms: [u64; 5]) {
    for (repetition, latency_ms) in (1..).zip(latencies_ms) {
        let rows = [row(0, "a", 0, latency_ms, 10), row(1, "b", 10, latency_ms, 10)];
        fixture.repetition(system, repetition, &rows, &load(&rows));
    }
    fixture.verified();
}

/// Exit code, standard output and standard error.
fn analysis(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(assert_cmd::cargo::cargo_bin!("analysis")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn compared(before: &Fixture, after: &Fixture) -> (Option<i32>, String, String) {
    let [before, after] = [before, after].map(|run| run.path().to_str().unwrap());
    analysis(&["compare", before, after, "--format", "csv"])
}

/// The line of a statistic of the only system and point.
fn line<'a>(csv: &'a str, statistic: &str) -> Vec<&'a str> {
    let found = csv.lines().find(|line| line.split(',').nth(2) == Some(statistic));
    found.unwrap_or_else(|| panic!("no {statistic} in {csv}")).split(',').collect()
}

const STEADY: [u64; 5] = [40, 41, 42, 43, 44];

#[test]
fn what_became_worse_is_found_with_its_interval_and_ends_with_four() {
    let (before, after) = (run("dirigent", STEADY), run("dirigent", [80, 82, 84, 86, 88]));
    let (code, out, notes) = compared(&before, &after);
    assert_eq!((code, notes.as_str()), (Some(4), ""), "{out}");
    let found = line(&out, "latency.p50");
    assert_eq!(found[..7], ["dirigent", "azure-500", "latency.p50", "ms", "42", "84", "2"], "{found:?}");
    assert_eq!(found[10], "worse");
    let [lower, upper, p] = [7, 8, 9].map(|place| found[place].parse::<f64>().unwrap());
    assert!(lower > 1.8 && upper < 2.3 && p < 0.01, "{found:?}");
    assert_eq!(line(&out, "failed")[10], "no-difference", "none failed in either");
    let (code, out, _) = compared(&after, &before);
    assert_eq!((code, line(&out, "latency.p50")[10]), (Some(0), "better"));
}

#[test]
fn what_may_be_chance_is_no_difference() {
    let (code, out, _) = compared(&run("dirigent", STEADY), &run("dirigent", [41, 42, 43, 44, 45]));
    assert_eq!((code, line(&out, "latency.p50")[10]), (Some(0), "no-difference"), "{out}");
}

#[test]
fn what_may_not_be_used_is_left_out_and_said() {
    let (before, after) = (run("dirigent", STEADY), run("dirigent", [80, 82, 84, 86, 88]));
    after.verified_but(vec![rule(("dirigent", "azure-500", 3), Weight::Validity, Finding::NotHeld)]);
    let (code, out, notes) = compared(&before, &after);
    assert_eq!((code, line(&out, "latency.p50")[10]), (Some(0), "too-few"), "{out}");
    assert!(notes.contains("dirigent, azure-500, repetition 3 is left out: \"a rule\" is not held"), "{notes}");
    add(&after, "knative", STEADY);
    let (_, out, notes) = compared(&before, &after);
    assert!(notes.contains("knative, azure-500 is in") && !out.contains("knative"), "{notes}");
    let other = RunDir(after.path().to_owned());
    let mut manifest = other.read_manifest().unwrap();
    manifest.quick = true;
    record::write_json(&other.manifest(), &manifest).unwrap();
    let (code, out, notes) = compared(&before, &after);
    assert_eq!((code, line(&out, "latency.p50")[10]), (Some(0), "too-few"), "{out}");
    assert!(notes.contains("a quick run is no evidence"), "{notes}");
    manifest.scale = "laptop".to_owned();
    record::write_json(&other.manifest(), &manifest).unwrap();
    let (code, _, said) = compared(&before, &after);
    assert_eq!(code, Some(2));
    assert!(said.contains("azure-500 at scale cluster-100 and azure-500 at scale laptop"), "{said}");
}

#[test]
fn what_was_not_checked_is_not_judged() {
    let (before, after) = (run("dirigent", STEADY), run("dirigent", [80, 82, 84, 86, 88]));
    std::fs::remove_file(after.path().join("invariants.json")).unwrap();
    let (code, out, notes) = compared(&before, &after);
    assert_eq!(code, Some(0), "{out}");
    assert!(!out.contains("worse"), "{out}");
    assert!(notes.contains("repetition 3 is left out: its invariants were not checked"), "{notes}");
}

#[test]
fn another_trace_and_another_schedule_are_said() {
    let (before, after) = (run("dirigent", STEADY), run("dirigent", STEADY));
    let with = |run: &Fixture, sums: &[(&str, &str)]| {
        let run = RunDir(run.path().to_owned());
        let mut manifest = run.read_manifest().unwrap();
        manifest.checksums = sums.iter().map(|(name, sum)| ((*name).to_owned(), (*sum).to_owned())).collect();
        record::write_json(&run.manifest(), &manifest).unwrap();
    };
    let (trace, schedule) = ("trace/invocations.csv", "schedules/replay/1/schedule.csv");
    with(&before, &[(trace, "a"), (schedule, "b")]);
    with(&after, &[(trace, "a"), (schedule, "b"), ("schedules/replay/2/schedule.csv", "c")]);
    assert_eq!(compared(&before, &after).2, "", "one has more repetitions of the same load");
    with(&after, &[(trace, "x"), (schedule, "y")]);
    let (_, _, notes) = compared(&before, &after);
    assert!(notes.contains("their traces differ") && notes.contains("their schedules differ"), "{notes}");
    with(&after, &[(schedule, "b")]);
    assert!(compared(&before, &after).2.contains("their traces differ"), "one was given none");
}

#[test]
fn claims_are_printed_in_each_form_and_decide_the_exit_code() {
    let definition = "[load]\nkind = \"rate\"\nevery = \"60s\"\ncooldown = \"60s\"\ntimeout = \"9s\"\n\
        [sandbox]\nruntime = \"hollow\"\n\
        [[points]]\nname = \"burst-100-delay-500ms\"\nload.burst = 100\nsandbox.delay = \"500ms\"\n";
    let fixture = Fixture::of_rates("overhead", definition, &["dirigent", "knative"]);
    fixture.burst(("dirigent", "burst-100-delay-500ms", 1), 100, 505);
    let path = fixture.path().to_str().unwrap();
    let (code, out, _) = analysis(&["claims", path, "--format", "csv"]);
    assert_eq!(code, Some(0), "what was not measured says nothing either way: {out}");
    assert!(out.contains("overhead-share-knative,not measured,,,,%,,"), "{out}");
    for (latency_ms, code, outcome) in [(4_000, 0, "held"), (1_000, 4, "not held")] {
        (1..=5).for_each(|repetition| fixture.burst(("knative", "burst-100-delay-500ms", repetition), 100, latency_ms));
        fixture.verified();
        let (found, out, _) = analysis(&["claims", path]);
        assert_eq!(found, Some(code), "{out}");
        let line = out.lines().find(|line| line.contains("overhead-share-knative")).unwrap();
        assert!(line.contains(&format!(" {outcome} ")), "{line}");
        let (_, json, _) = analysis(&["claims", path, "--format", "json"]);
        let claims: record::Claims = serde_json::from_str(&json).unwrap();
        assert_eq!(claims.claims[0].outcome.as_str(), outcome);
    }
    let run = RunDir(fixture.path().to_owned());
    let mut manifest = run.read_manifest().unwrap();
    manifest.discarded.push(record::DiscardedTry {
        system: "knative".to_owned(),
        point: "burst-100-delay-500ms".to_owned(),
        repetition: 1,
        at: "2026-01-01T00:00:00Z".to_owned(),
        reason: "its rows were removed".to_owned(),
    });
    record::write_json(&run.manifest(), &manifest).unwrap();
    let reported = "overhead-share-knative: Tries at repetitions of its systems that were discarded: 1 (1: \"its rows";
    let (_, out, _) = analysis(&["claims", path]);
    assert!(out.contains(reported), "{out}");
    fixture.verified_but(vec![rule(("knative", "burst-100-delay-500ms", 3), Weight::Validity, Finding::NotHeld)]);
    assert_eq!(analysis(&["claims", path]).0, Some(3));
    assert!(!fixture.path().join("claims.json").exists(), "nothing is written");
}
