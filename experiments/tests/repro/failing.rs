//! Repetitions that failed, in resumed runs: that is a result, which stays until there is another one.

use std::fs;

use experiments::run::plan::{Plan, StepState};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use record::{ExitState, read_json};

use crate::{
    resuming::{resume, resume_and_stop},
    toy::{Toy, is_alive, said, wait_until},
};

/// A toy whose two repetitions failed.
fn failed() -> Toy {
    let toy = Toy::new("fails");
    assert_eq!(toy.run(&["--repetitions", "2"]).status.code(), Some(1));
    toy
}

/// Asserts that both failures are on record, with what they left.
fn assert_on_record(toy: &Toy, said: &str) {
    let failures = toy.manifest().failures;
    let is_tried = |failure: &record::FailedRepetition| !failure.untried && failure.reason.contains("exit code 1");
    assert!(failures.len() == 2 && failures.iter().all(is_tried), "{failures:?}\n{said}");
    for number in 1..=2 {
        assert!(toy.out().failed("toy", "replay", number).join("logs").is_dir(), "{said}");
    }
}

#[test]
fn a_skipped_attempt_replaces_no_failure_and_deletes_no_log() {
    let toy = failed();
    toy.edit("bin/toyd", "echo \"toyd 1.0\"; exit 0", "exit 1");
    for _ in 0..2 {
        let (code, text) = resume(&toy, &[]);
        assert!(code == Some(1) && text.contains("toy: ") && text.contains("does not print its version"), "{text}");
        assert_on_record(&toy, &text);
        assert!(toy.manifest().discarded.is_empty(), "nothing was measured again");
    }
}

/// Has the toy be another version, so that what it failed with does not stand for it.
fn change(toy: &Toy) {
    toy.edit("bin/toyd", "toyd 1.0", "toyd 2.0");
}

#[test]
fn a_system_failure_is_a_result_that_resuming_keeps() {
    let toy = failed();
    toy.write("bin/behaviour", "well");
    for options in [&[][..], &["--again"]] {
        let (code, text) = resume(&toy, options);
        assert!(code == Some(1) && text.matches("failed, which is its result: ").count() == 2, "{text}");
        assert!(
            !text.contains("to measure what failed") && text.contains("to measure another version of it: "),
            "{text}"
        );
        assert_on_record(&toy, &text);
        assert!(toy.manifest().discarded.is_empty() && !toy.path("bin/loading").exists(), "nothing is tried: {text}");
    }
    change(&toy);
    let (code, text) = resume(&toy, &[]);
    assert!(code == Some(2) && text.contains("2 of 2 finished repetitions do not stand any longer"), "{text}");
    assert_on_record(&toy, &text);
    let stopped = resume_and_stop(&toy, &["--again"]);
    assert_on_record(&toy, &said(&stopped));
    // What was stopped was of the other version: the one that failed has failed.
    toy.edit("bin/toyd", "toyd 2.0", "toyd 1.0");
    let (code, text) = resume(&toy, &[]);
    assert!(code == Some(1) && text.matches("failed, which is its result: ").count() == 2, "{text}");
    assert_on_record(&toy, &text);
    assert!(!toy.point().path.exists(), "nothing of the other version is left in its place: {text}");
    let reasons: Vec<_> = toy.manifest().discarded.into_iter().map(|one| (one.repetition, one.reason)).collect();
    assert_eq!(reasons, [(1, "it was stopped".to_owned())]);
}

#[test]
fn a_failure_is_kept_until_another_attempt_has_ended() {
    let toy = failed();
    change(&toy);
    let stopped = resume_and_stop(&toy, &["--again"]);
    assert_on_record(&toy, &said(&stopped));
    let (code, text) = resume(&toy, &[]);
    assert_eq!(code, Some(0), "{text}");
    let manifest = toy.manifest();
    assert!(manifest.failures.is_empty() && !toy.path("out/toy/replay/1.failed").exists(), "{text}");
    let reasons: Vec<_> = manifest.discarded.iter().map(|one| (one.repetition, &one.reason[..9])).collect();
    assert_eq!(reasons, [(1, "it was st"), (1, "it failed"), (2, "it failed")]);
}

#[test]
fn a_harness_failure_is_no_result_and_replaces_no_system_failure() {
    let toy = failed();
    change(&toy);
    toy.write("bin/behaviour", "well");
    toy.write("bin/fails-at", toy.point().path.to_str().unwrap());
    let (code, text) = resume(&toy, &["--again"]);
    let [failure] = toy.manifest().failures.try_into().unwrap();
    assert!(code == Some(1) && text.contains("the load generator ended with exit code 1"), "{text}");
    assert!(!failure.untried && !failure.reason.contains("the load generator"), "{failure:?}");
    assert!(toy.out().failed("toy", "replay", 1).join("logs").is_dir() && !toy.point().path.exists(), "{text}");
    let discarded = toy.manifest().discarded;
    let is_listed = |one: &record::DiscardedTry| {
        one.reason == "it failed: the load generator ended with exit code 1: its messages are above"
    };
    assert!(discarded.iter().any(|one| one.repetition == 1 && is_listed(one)), "{discarded:?}");
    fs::remove_file(toy.path("bin/fails-at")).unwrap();
    assert_eq!(resume(&toy, &[]).0, Some(0));
    let ended = Toy::new("dies");
    ended.write("bin/fails-at", ended.point().path.to_str().unwrap());
    // It fails only when the system has ended.
    let dead = "touch \"$bin/loading\"\nfirst=$(head -n 1 \"$bin/pids\")\nwhile [ -e /proc/$first ] && ! grep -q 'State:.Z' \
                /proc/$first/status; do sleep 0.05; done\ncp \"$bin/invocations.csv.zst\" \"$out/invocations.csv.zst\"\n    exit 1";
    ended.edit("bin/loadgen", "cp \"$bin/invocations.csv.zst\" \"$out/invocations.csv.zst\"\n    exit 1", dead);
    let output = ended.run(&[]);
    let [failure] = ended.manifest().failures.try_into().unwrap();
    assert!(!failure.untried && failure.reason.starts_with("ended early: toy-"), "{failure:?}: {}", said(&output));
}

#[test]
fn a_system_that_configuration_or_disk_prevents_from_starting_has_no_result() {
    let register = "[\"cp\", \"{functions}\", \"{dirs.toy-1}/registered\"]";
    let of_harness = |script: &str| format!("[\"{{bin}}/loadgen\", \"register\", \"sh\", \"-c\", \"{script}\"]");
    let [unknown, killed] = ["exit 2", "kill -9 $$"].map(of_harness);
    let [refused, overdue] = ["echo nobody is there; exit 1", "exec sleep 99"].map(of_harness);
    let overdue = overdue + ", timeout = \"1s\"";
    let of_testbed = unknown.replace("/loadgen", "/knative");
    let no_log = "mkdir -p \"$1/../../logs/register.log\"; touch \"$1/up\"";
    for (place, from, to, untried, why) in [
        (
            "experiments/systems.toml",
            register,
            "[\"false\"]",
            false,
            "registering the functions: false ended with exit code 1",
        ),
        ("experiments/systems.toml", register, "[\"sh\", \"-c\", \"exit 2\"]", false, "sh ended with exit code 2"),
        ("experiments/systems.toml", register, &unknown, true, "loadgen ended with exit code 2"),
        ("experiments/systems.toml", register, &of_testbed, true, "knative ended with exit code 2"),
        ("experiments/systems.toml", register, &killed, true, "loadgen was ended by signal 9"),
        ("experiments/systems.toml", register, &refused, false, "loadgen ended with exit code 1: nobody is there;"),
        ("experiments/systems.toml", register, &overdue, false, "loadgen did not end within 1 s"),
        (
            "experiments/systems.toml",
            register,
            "[\"sleep\", \"99\"], timeout = \"1s\"",
            false,
            "sleep did not end within 1 s",
        ),
        ("bin/toyd", "touch \"$1/up\"", no_log, true, "registering the functions: cannot start cp"),
        ("experiments/systems.toml", "{dir}/up", "{no.such}/up", true, "{no.such} is not known"),
        ("bin/toyd", "{\"http\":", "no JSON {", false, "ports.json"),
    ] {
        let toy = Toy::new("well");
        fs::copy(toy.path("bin/loadgen"), toy.path("bin/knative")).unwrap();
        toy.edit(place, from, to);
        let output = toy.run(&[]);
        let [failure] = toy.manifest().failures.try_into().unwrap_or_else(|_| panic!("{to}: {}", said(&output)));
        assert!(failure.untried == untried && failure.reason.contains(why), "{to}: {failure:?}");
    }
}

#[test]
fn an_attempt_that_did_not_start_replaces_nothing() {
    let toy = Toy::new("well");
    toy.write("bin/fails-at", toy.out().point("toy", "replay", 2).path.to_str().unwrap());
    assert_eq!(toy.run(&["--repetitions", "2"]).status.code(), Some(1));
    let known = toy.manifest().failures;
    assert!(known.len() == 1 && known[0].untried && known[0].reason.contains("the load generator"), "{known:?}");
    // The schedule of the second one is lost while the first one is measured.
    toy.edit("bin/toyd", "touch \"$1/up\"", "rm -f \"$bin/../out/schedules/replay/2/schedule.csv\"; touch \"$1/up\"");
    for _ in 0..2 {
        fs::remove_dir_all(toy.point().path).unwrap();
        let (code, text) = resume(&toy, &[]);
        assert!(code == Some(1) && text.contains("schedule.csv"), "{text}");
        let manifest = toy.manifest();
        assert_eq!(manifest.failures, known, "{text}");
        assert!(manifest.discarded.iter().all(|one| one.repetition == 1), "{:?}", manifest.discarded);
        assert!(toy.out().failed("toy", "replay", 2).join("logs").is_dir(), "{text}");
    }
}

#[test]
fn a_system_that_exits_before_its_load_is_stopped_has_failed_also_after_a_stop() {
    let toy = Toy::new("dies");
    toy.edit("bin/loadgen", "|| length=2.2", "|| length=1000");
    let child = toy.start_and_load();
    wait_until("both daemons have ended with their children", || !toy.pids()[..4].iter().any(|pid| is_alive(*pid)));
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let stopped = child.wait_with_output().unwrap();
    assert_eq!(stopped.status.code(), Some(1), "{}", said(&stopped));
    toy.assert_exit(ExitState::Interrupted);
    let [failure] = toy.manifest().failures.try_into().unwrap();
    let why = "ended early: toy-1 ended with exit code 7, toy-2 ended with exit code 7: then its load was stopped";
    assert!(!failure.untried && failure.reason == why, "{failure:?}: {}", said(&stopped));
    assert!(toy.out().failed("toy", "replay", 1).join("invocations.csv.zst").is_file() && !toy.point().path.exists());
    toy.edit("bin/loadgen", "|| length=1000", "|| length=2.2");
    toy.write("bin/behaviour", "well");
    let pids = toy.pids().len();
    let (code, text) = resume(&toy, &[]);
    assert!(code == Some(2) && text.contains("changed: the load generator"), "its programs are others by now: {text}");
    toy.edit("bin/loadgen", "|| length=2.2", "|| length=1000");
    let (code, text) = resume(&toy, &[]);
    assert!(code == Some(1) && text.contains(&format!("failed, which is its result: {why}")), "{text}");
    let manifest = toy.manifest();
    assert!(
        manifest.failures == [failure] && manifest.discarded.is_empty() && toy.pids().len() == pids,
        "{manifest:?}"
    );
}

/// Stops a run as soon as `dead` of the toy's processes have ended; what it said.
fn stop_after_death(toy: &Toy, dead: usize) -> String {
    let child = toy.start_and_load();
    let has_died = || toy.pids().iter().filter(|pid| !is_alive(**pid)).count() >= dead;
    wait_until("so many of its processes have ended", || toy.pids().len() >= 4 && has_died());
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let stopped = child.wait_with_output().unwrap();
    assert_eq!(stopped.status.code(), Some(1), "{}", said(&stopped));
    toy.assert_exit(ExitState::Interrupted);
    said(&stopped)
}

#[test]
fn a_stop_during_start_or_registration_fails_only_a_system_that_has_exited() {
    let register = "[\"cp\", \"{functions}\", \"{dirs.toy-1}/registered\"]";
    let waits = "[\"sh\", \"-c\", 'touch \"$0/loading\"; exec sleep 99', \"{bin}\"]";
    let registering = |behaviour: &str| {
        let toy = Toy::new(behaviour);
        toy.edit("experiments/systems.toml", register, waits);
        toy
    };
    let starting = Toy::new("well");
    starting.edit("experiments/systems.toml", "timeout = \"2s\"", "timeout = \"60s\"");
    let second = "case $1 in *toy-2) kill $child; touch \"$bin/loading\"; exit 7 ;; esac";
    starting.edit("bin/toyd", "touch \"$1/up\"", second);
    let both = "ended early: toy-1 ended with exit code 7, toy-2 ended with exit code 7: then it was stopped";
    let one = "ended early: toy-2 ended with exit code 7: then it was stopped";
    for (toy, dead, why) in [(registering("dies"), 4, both), (starting, 2, one)] {
        let text = stop_after_death(&toy, dead);
        let [failure] = toy.manifest().failures.try_into().unwrap_or_else(|_| panic!("{why}: {text}"));
        assert!(!failure.untried && failure.reason == why, "{failure:?}: {text}");
    }
    let lives = registering("well");
    let text = stop_after_death(&lives, 0);
    assert!(lives.manifest().failures.is_empty(), "{text}");
}

#[test]
fn missing_schedules_that_cannot_be_generated_lose_no_results() {
    let toy = Toy::new("well");
    assert_eq!(toy.run(&[]).status.code(), Some(0));
    let manifest = fs::read_to_string(toy.out().manifest()).unwrap();
    let schedule = "if [ \"$verb\" = schedule ]; then";
    toy.edit("bin/loadgen", schedule, &format!("{schedule} exit 2;"));
    let (code, text) = resume(&toy, &[]);
    assert!(code == Some(2) && !text.contains("begin another one") && text.contains("to resume: "), "{text}");
    assert_eq!(fs::read_to_string(toy.out().manifest()).unwrap(), manifest);
    assert!(toy.path("out/schedules/replay/1/schedule.csv").is_file() && !toy.path("out/schedules.partial").exists());
}

#[test]
fn a_finished_repetition_missing_from_the_plan_is_not_measured_again() {
    let toy = Toy::new("well");
    assert_eq!(toy.run(&["--repetitions", "3"]).status.code(), Some(0));
    let mut plan: Plan = read_json(&toy.out().plan()).unwrap();
    // As when the runner was killed before it could say so, when a definition lacked the point for a while, and when the folder
    // was moved away and back.
    plan.steps[2].state = StepState::Running;
    (plan.steps[3].state, plan.steps[3].fingerprint) = (StepState::Planned, None);
    plan.steps[4].fingerprint = Some("another".to_owned());
    fs::write(toy.out().plan(), serde_json::to_string(&plan).unwrap()).unwrap();
    let before = toy.pids().len();
    let (code, text) = resume(&toy, &[]);
    assert_eq!((code, toy.pids().len()), (Some(0), before), "{text}");
    assert_eq!(text.matches("already done").count(), 4, "{text}");
}

#[test]
fn schedules_missing_from_a_manifest_are_listed_again() {
    let toy = Toy::new("well");
    assert_eq!(toy.run(&[]).status.code(), Some(0));
    let known = toy.manifest().checksums;
    let mut lost = toy.manifest();
    lost.checksums.retain(|name, _| !name.starts_with("schedules/"));
    record::write_json(&toy.out().manifest(), &lost).unwrap();
    let (code, text) = resume(&toy, &[]);
    assert_eq!((code, toy.manifest().checksums), (Some(0), known), "{text}");
}
