//! Several repetitions: each has its own seed and another system first, and one that fails keeps nothing else from being
//! measured, counts as nothing, and is tried again.

use std::fs;

use experiments::run::plan::{Action, Plan, StepState};
use record::{ExitState, LoadSummary, Manifest, RunDir, read_json};

use crate::toy::{Toy, said};

/// The toy, and another system that is the same.
fn with_twin(more: &str) -> Toy {
    let toy = Toy::new("well");
    toy.edit("experiments/systems.toml", "[toy]\n", &format!("[twin]\nlike = \"toy\"\n{more}[toy]\n"));
    toy.edit("experiments/definitions/toy.toml", "systems = [\"toy\"]", "systems = [\"toy\", \"twin\"]");
    toy
}

fn repetitions(run: &RunDir) -> Vec<(String, u32)> {
    run.points().unwrap().into_iter().map(|point| (point.system, point.repetition)).collect()
}

#[test]
fn a_failed_repetition_is_not_counted_and_is_tried_again() {
    let toy = Toy::new("well");
    toy.write("bin/fails-at", toy.point().path.to_str().unwrap());
    let output = toy.run(&["--repetitions", "3"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(repetitions(&toy.out()), [("toy".to_owned(), 2), ("toy".to_owned(), 3)], "{}", said(&output));
    toy.assert_exit(ExitState::Failed);
    let manifest = toy.manifest();
    let failure = manifest.failures.first().unwrap();
    assert_eq!((failure.system.as_str(), failure.repetition, manifest.failures.len()), ("toy", 1, 1));
    assert!(failure.untried && failure.reason.contains("the load generator ended with exit code 1"), "{failure:?}");
    assert!(toy.path("out/toy/replay/1.failed/logs").is_dir(), "what it left is kept");
    let plan: Plan = read_json(&toy.out().plan()).unwrap();
    let states: Vec<StepState> = plan.steps.iter().map(|step| step.state).collect();
    assert_eq!(states[2..5], [StepState::Failed, StepState::Done, StepState::Done]);
    assert!(said(&output).contains("not measured: toy, point replay, repetition 1: the load"), "{}", said(&output));
    let verified = toy.command(&["verify", toy.path("out").to_str().unwrap(), "--format", "csv"]).output().unwrap();
    let found = "every repetition of every system is there,not held,2 of 3; toy replay 1: the load generator";
    assert!(said(&verified).contains(found), "{}", said(&verified));

    let before = toy.pids().len();
    fs::remove_file(toy.path("bin/fails-at")).unwrap();
    let resumed = toy.resume();
    assert_eq!(resumed.status.code(), Some(0), "{}", said(&resumed));
    assert_eq!(said(&resumed).matches("already done").count(), 3, "the schedules and two: {}", said(&resumed));
    assert_eq!(toy.pids().len() - before, 6, "one repetition is measured again");
    assert_eq!(repetitions(&toy.out()).len(), 3);
    toy.assert_exit(ExitState::Done);
    let inputs = |manifest: &Manifest| {
        let of_inputs = manifest.checksums.iter().filter(|(name, _)| name.starts_with("schedules/"));
        of_inputs.map(|(name, sum)| (name.clone(), sum.clone())).collect::<Vec<_>>()
    };
    let listed = inputs(&manifest);
    let manifest = toy.manifest();
    assert!(!listed.is_empty() && inputs(&manifest) == listed, "what is replayed is known as before: {manifest:?}");
    assert!(manifest.failures.is_empty() && !toy.path("out/toy/replay/1.failed").exists());
    let [discarded] = manifest.discarded.as_slice() else { panic!("one was measured again: {manifest:?}") };
    assert_eq!((discarded.system.as_str(), discarded.point.as_str(), discarded.repetition), ("toy", "replay", 1));
    assert!(discarded.reason.starts_with("it failed: the load generator ended"), "{discarded:?}");
    assert!(!manifest.notes.iter().any(|note| note.contains("failed")), "{:?}", manifest.notes);
}

#[test]
fn repetitions_have_their_own_seed_and_first_system_and_share_the_schedule() {
    let toy = with_twin("");
    let output = toy.run(&["--repetitions", "2", "--seed", "7"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let printed = said(&output);
    let measured =
        printed.lines().filter(|line| line.starts_with('[')).filter_map(|line| line.split("measure ").nth(1));
    let order = ["toy, point replay, repetition 1", "twin, point replay, repetition 1"];
    let order = order.into_iter().chain(["twin, point replay, repetition 2", "toy, point replay, repetition 2"]);
    assert_eq!(measured.collect::<Vec<_>>(), order.collect::<Vec<_>>(), "{printed}");
    let seeds = toy.manifest().seeds;
    let seed = |name: &str| seeds.get(name).copied();
    assert_eq!([seed("schedule"), seed("repetition-1"), seed("repetition-2")], [Some(7), Some(7), Some(8)]);
    let plan: Plan = read_json(&toy.out().plan()).unwrap();
    let mut schedules = Vec::new();
    for (repetition, seed) in [(1, 7), (2, 8)] {
        let sums = ["toy", "twin"].map(|system| {
            let point = toy.out().point(system, "replay", repetition);
            let config = fs::read_to_string(point.path.join("config.toml")).unwrap();
            assert!(config.contains(&format!("seed = {seed}\n")), "{config}");
            let action = Action::Measure { system: system.to_owned(), point: "replay".to_owned(), repetition };
            let step = plan.steps.iter().find(|step| step.action == action).unwrap();
            assert_eq!(step.seed, Some(seed));
            read_json::<LoadSummary>(&point.loadgen()).unwrap().schedule_sha256
        });
        assert_eq!(sums[0], sums[1], "both systems are given the same schedule");
        let place = format!("out/schedules/replay/{repetition}/schedule.csv");
        let schedule = fs::read_to_string(toy.path(&place)).unwrap();
        assert!(schedule.contains(&format!("seed,{seed}\n")), "{schedule}");
        schedules.push(sums[0].clone());
    }
    assert_ne!(schedules[0], schedules[1], "repetitions are not given the same");
}

#[test]
fn a_seed_that_is_too_large_is_refused() {
    let toy = Toy::new("well");
    let output = toy.command(&["plan", "toy", "--seed", "18446744073709551615"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("--seed: "), "{}", said(&output));
    assert!(said(&output).contains("seed: must be at most"), "{}", said(&output));
}

#[test]
fn a_lost_schedule_is_generated_again() {
    let toy = Toy::new("well");
    assert_eq!(toy.run(&[]).status.code(), Some(0));
    let schedule = toy.path("out/schedules/replay/1/schedule.csv");
    fs::remove_file(&schedule).unwrap();
    let resumed = toy.resume();
    assert_eq!(resumed.status.code(), Some(0), "{}", said(&resumed));
    assert!(schedule.is_file() && said(&resumed).contains("repetition 1: already done"), "{}", said(&resumed));
}

#[test]
fn a_run_with_one_shared_schedule_is_not_resumed_but_can_be_verified() {
    let toy = Toy::new("well");
    assert_eq!(toy.run(&[]).status.code(), Some(0));
    for file in ["schedule.csv", "functions.ndjson"] {
        fs::rename(toy.path("out/schedules/replay/1").join(file), toy.path("out").join(file)).unwrap();
    }
    fs::remove_dir_all(toy.path("out/schedules")).unwrap();
    toy.edit("out/manifest.json", "schedules/replay/1/", "");
    toy.edit("out/plan.json", "\"schema_version\": 2", "\"schema_version\": 1");
    let before = toy.pids().len();
    let resumed = toy.resume();
    assert_eq!(resumed.status.code(), Some(2), "{}", said(&resumed));
    assert!(said(&resumed).contains("a version whose repetitions all had one schedule"), "{}", said(&resumed));
    assert_eq!(toy.pids().len(), before, "nothing is measured");
    let verified = toy.command(&["verify", toy.path("out").to_str().unwrap()]).output().unwrap();
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
    toy.edit("out/plan.json", "\"schema_version\": 1", "\"schema_version\": 9");
    let newer = said(&toy.resume());
    assert!(newer.contains("its plan has version 9"), "{newer}");
}

#[test]
fn other_systems_are_measured_if_one_has_no_build_or_version() {
    for (more, why) in [
        ("build.command = [\"false\"]\n", "building it failed: false failed"),
        ("version = [\"true\"]\n", "true does not print its version"),
    ] {
        let toy = with_twin(more);
        let output = toy.run(&["--repetitions", "2"]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert_eq!(repetitions(&toy.out()), [("toy".to_owned(), 1), ("toy".to_owned(), 2)], "{}", said(&output));
        let reasons: Vec<String> = toy.manifest().failures.into_iter().map(|failure| failure.reason).collect();
        assert!(reasons.len() == 2 && reasons.iter().all(|reason| reason.starts_with(why)), "{reasons:?}");
        assert_eq!(said(&output).matches("\ntwin: ").count(), 1, "said once while it runs: {}", said(&output));
    }
}
