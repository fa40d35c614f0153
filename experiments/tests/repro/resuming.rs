//! Resumed runs, by other programs, with other settings, or where something is missing: nothing that is
//! finished is lost, and nothing counts under another name than its own.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Output};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use record::ExitState;

use crate::{
    ending::claims,
    toy::{Toy, said, wait_until},
};

const VERSION: &str = "echo \"toyd 1.0\"; exit 0";

/// A toy with two finished repetitions and a held claim.
pub(crate) fn finished() -> Toy {
    let toy = Toy::new("well");
    toy.write("bin/claims.json", &claims("held"));
    assert_eq!(toy.run(&["--repetitions", "2"]).status.code(), Some(0));
    toy
}

/// Every file of a run that is no log, with its content.
fn files(toy: &Toy) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut found, mut folders) = (Vec::new(), vec![toy.path("out")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.retain(|path| !path.ends_with("lock"));
    found.sort();
    found.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Goes on with options; the exit code, and what was said.
pub(crate) fn resume(toy: &Toy, options: &[&str]) -> (Option<i32>, String) {
    let output = resume_command(toy, options).output().unwrap();
    (output.status.code(), said(&output))
}

fn resume_command(toy: &Toy, options: &[&str]) -> std::process::Command {
    let (out, bin) = (toy.path("out"), toy.path("bin"));
    let fixed = ["run", "--resume", out.to_str().unwrap(), "--programs", bin.to_str().unwrap()];
    toy.command(&[&fixed, options].concat())
}

/// Goes on, and stops when load is sent that would not end.
pub(crate) fn resume_and_stop(toy: &Toy, options: &[&str]) -> Output {
    toy.write("bin/behaviour", "long");
    let _ = fs::remove_file(toy.path("bin/loading"));
    let child = resume_command(toy, options).spawn().unwrap();
    wait_until("load is sent", || toy.path("bin/loading").exists());
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    toy.write("bin/behaviour", "well");
    child.wait_with_output().unwrap()
}

/// `repro verify` of a rule: its outcomes.
pub(crate) fn outcomes(toy: &Toy, rule: &str) -> Vec<String> {
    let out = toy.path("out");
    let output = toy.command(&["verify", out.to_str().unwrap(), "--all", "--format", "json"]).output().unwrap();
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let of = all.as_array().unwrap().iter().filter(|one| one["invariant"].as_str() == Some(rule));
    of.map(|one| format!("{}: {}", one["outcome"].as_str().unwrap(), one["found"].as_str().unwrap())).collect()
}

pub(crate) const WITH: &str = "measured with what the manifest says";
pub(crate) const WHERE: &str = "measured on the machine that the manifest names";

#[test]
fn failed_builds_and_missing_versions_lose_no_earlier_results() {
    for (place, from, to) in [
        ("bin/toyd", VERSION, "exit 1"),
        ("experiments/systems.toml", "about =", "needs = [{ file = \"/no/such\", fix = \"make it\" }]\nabout ="),
        ("experiments/systems.toml", "about =", "build.command = [\"false\"]\nabout ="),
    ] {
        let toy = finished();
        let rows = |toy: &Toy| -> Vec<_> {
            files(toy).into_iter().filter(|(path, _)| path.starts_with(toy.path("out/toy"))).collect()
        };
        let (before, systems) = (rows(&toy), toy.manifest().systems);
        let text = fs::read_to_string(toy.path(place)).unwrap();
        toy.edit(place, from, to);
        for _ in 0..2 {
            let (code, said) = resume(&toy, &[]);
            assert_eq!(code, Some(0), "{to}: {said}");
            assert_eq!(said.matches("already done").count(), 3, "{to}: {said}");
            assert!(rows(&toy) == before, "{to}: nothing of what was measured changes: {said}");
            assert_eq!(toy.manifest().systems, systems);
        }
        toy.write(place, &text);
        assert_eq!(resume(&toy, &[]).0, Some(0));
        assert!(rows(&toy) == before);
    }
}

#[test]
fn results_that_cannot_be_measured_again_are_kept_even_with_the_option() {
    let toy = finished();
    toy.edit("experiments/definitions/toy.toml", "nodes = 3", "nodes = 5");
    toy.edit("bin/toyd", VERSION, "exit 1");
    let before = files(&toy);
    let (code, text) = resume(&toy, &["--again"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("toy cannot be measured again here: ") && text.contains("does not print its version"),
        "{text}"
    );
    assert!(files(&toy) == before && !text.contains("to measure it again"), "{text}");
}

#[test]
fn equal_programs_in_another_directory_are_the_same() {
    let toy = finished();
    fs::create_dir(toy.path("other")).unwrap();
    for entry in fs::read_dir(toy.path("bin")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, toy.path("other").join(path.file_name().unwrap())).unwrap();
    }
    let (out, other) = (toy.path("out"), toy.path("other"));
    let output = toy.command(&["run", "--resume", out.to_str().unwrap(), "--programs", other.to_str().unwrap()]);
    let output = { output }.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(said(&output).matches("already done").count(), 3, "{}", said(&output));
    assert!(toy.manifest().discarded.is_empty());
    assert!(outcomes(&toy, WITH).iter().all(|outcome| outcome.starts_with("held")), "{:?}", outcomes(&toy, WITH));
    toy.edit("bin/toyd", "#!/bin/sh", "#!/bin/sh\n# built again");
    let (code, text) = resume(&toy, &[]);
    let other = other.canonicalize().unwrap();
    let expected = format!("{} --programs {}", toy.path("out").canonicalize().unwrap().display(), other.display());
    let expected = format!("to resume with the recorded programs: repro run --resume {expected}");
    assert!(code == Some(2) && text.contains(&expected), "expected {expected} in {text}");
}

#[test]
fn changes_are_named_and_results_are_dropped_only_on_request() {
    let other_seed = ("experiments/definitions/toy.toml", "id =", "seed = 7\nid =", "seed (1, now 7)");
    for (place, from, to, named) in [
        ("bin/toyd", "toyd 1.0", "toyd 2.0", "toy: its version (toyd 1.0, now toyd 2.0), its programs (toyd)"),
        ("bin/toyd", "#!/bin/sh", "#!/bin/sh\n#", "toy: its programs (toyd)"),
        ("bin/loadgen", "bin=$(dirname", "bin=$( dirname", "the load generator"),
        ("experiments/systems.toml", "a toy", "some toy", "toy: its table in systems.toml"),
        ("experiments/definitions/toy.toml", "nodes = 3", "nodes = 5", "point replay: sandbox.nodes (3, now 5)"),
        other_seed,
    ] {
        let toy = finished();
        let before = files(&toy);
        toy.edit(place, from, to);
        let (code, text) = resume(&toy, &[]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("2 of 2 finished repetitions") && text.contains("to measure it again: "), "{text}");
        assert!(text.contains(named), "expected {named:?} in {text}");
        assert!(files(&toy) == before, "nothing in the run is changed: {text}");
        toy.edit(place, to, from);
        assert_eq!(resume(&toy, &[]).0, Some(0), "and it can be resumed as it was");
        assert!(toy.manifest().discarded.is_empty());
    }
}

#[test]
fn the_programs_of_a_run_are_named_in_the_error_if_they_are_missing() {
    let toy = finished();
    let before = files(&toy);
    toy.write("bin/cargo", "#!/bin/sh\nexit 1\n");
    fs::set_permissions(toy.path("bin/cargo"), fs::Permissions::from_mode(0o755)).unwrap();
    let (out, bin) = (toy.path("out"), toy.path("bin").canonicalize().unwrap());
    let resumed = toy.command(&["run", "--resume", out.to_str().unwrap()]).env("CARGO", bin.join("cargo")).output();
    let text = said(&resumed.unwrap());
    assert!(text.contains("nothing in the run was changed; to resume: repro run --resume "), "{text}");
    assert!(text.contains(&format!(" --programs {}", bin.display())), "{text}");
    assert!(files(&toy) == before, "neither versions nor claims are lost with a build: {text}");
}

#[test]
fn old_rows_never_count_under_a_new_name_and_are_kept_until_replaced() {
    let toy = finished();
    toy.edit("bin/toyd", "toyd 1.0", "toyd 2.0");
    let stopped = resume_and_stop(&toy, &["--again"]);
    assert_eq!(stopped.status.code(), Some(1), "{}", said(&stopped));
    toy.assert_exit(ExitState::Interrupted);
    assert_eq!(toy.manifest().systems["toy"].version, "toyd 2.0");
    let kept = |number: u32| toy.out().replaced("toy", "replay", number).join("invocations.csv.zst").is_file();
    assert!(kept(1) && kept(2), "{}", said(&stopped));
    let numbers: Vec<u32> = toy.out().points().unwrap().iter().map(|point| point.repetition).collect();
    assert!(!numbers.contains(&2), "of what was not measured yet nothing counts: {numbers:?}");
    let text = said(&stopped);
    assert!(text.contains("to resume: repro run --resume ") && !text.contains(" --again"), "{text}");
    let (code, text) = resume(&toy, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(!kept(1) && !kept(2), "{text}");
    assert!(outcomes(&toy, WITH).iter().all(|outcome| outcome == "held: toyd 2.0"), "{:?}", outcomes(&toy, WITH));
    let reasons: Vec<_> = toy.manifest().discarded.into_iter().map(|one| (one.repetition, one.reason)).collect();
    let changed = "what it depends on had changed: toy: its version (toyd 1.0, now toyd 2.0), its programs (toyd)";
    let of = |number, reason: &str| (number, reason.to_owned());
    assert_eq!(reasons, [of(1, changed), of(2, changed), of(1, "it was stopped")]);
}

#[test]
fn archived_rows_return_with_the_programs_that_measured_them() {
    let toy = finished();
    toy.edit("bin/toyd", "toyd 1.0", "toyd 2.0");
    let stopped = resume_and_stop(&toy, &["--again"]);
    assert_eq!(toy.manifest().discarded.len(), 2, "{}", said(&stopped));
    let before = toy.pids().len();
    toy.edit("bin/toyd", "toyd 2.0", "toyd 1.0");
    let (code, text) = resume(&toy, &[]);
    assert_eq!((code, toy.pids().len()), (Some(0), before), "nothing is measured: {text}");
    assert_eq!(text.matches("already done").count(), 3, "{text}");
    assert!(outcomes(&toy, WITH).iter().all(|outcome| outcome == "held: toyd 1.0"), "{:?}", outcomes(&toy, WITH));
    assert!(!toy.out().replaced("toy", "replay", 1).exists(), "{text}");
    let reasons: Vec<_> = toy.manifest().discarded.into_iter().map(|one| (one.repetition, one.reason)).collect();
    let tried = "it was stopped, and the rows from before count again (what it depends on had changed: toy: its version (toyd 1.0, now \
                 toyd 2.0), its programs (toyd))";
    assert_eq!(reasons, [(1, tried.to_owned())], "that something else was tried is on record");
}

#[test]
fn archived_rows_replace_failures_of_newer_programs() {
    let toy = finished();
    toy.edit("bin/toyd", "toyd 1.0", "toyd 2.0");
    toy.write("bin/behaviour", "fails");
    let (code, text) = resume(&toy, &["--again"]);
    assert_eq!((code, toy.manifest().failures.len()), (Some(1), 2), "{text}");
    let before = toy.pids().len();
    toy.edit("bin/toyd", "toyd 2.0", "toyd 1.0");
    toy.write("bin/behaviour", "well");
    let (code, text) = resume(&toy, &[]);
    assert_eq!((code, toy.pids().len()), (Some(0), before), "nothing is measured: {text}");
    toy.assert_exit(ExitState::Done);
    let manifest = toy.manifest();
    assert!(manifest.failures.is_empty() && !toy.out().failed("toy", "replay", 1).exists(), "{manifest:?}");
    assert_eq!(outcomes(&toy, "the run is complete"), ["held: done"]);
    let is_listed = |one: &record::DiscardedTry| {
        one.reason.starts_with("it failed: ") && one.reason.contains(", and the rows from before count again (what it")
    };
    assert!(manifest.discarded.len() == 2 && manifest.discarded.iter().all(is_listed), "{:?}", manifest.discarded);
}

/// Copies the programs of a toy into another folder of it.
fn copy_programs(toy: &Toy, to: &str) -> String {
    fs::create_dir(toy.path(to)).unwrap();
    for entry in fs::read_dir(toy.path("bin")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, toy.path(to).join(path.file_name().unwrap())).unwrap();
    }
    toy.path(to).to_str().unwrap().to_owned()
}

/// Rows that are set aside after `meanwhile` come back with the same programs in another folder.
pub(crate) fn expect_rows_come_back(meanwhile: impl FnOnce(&Toy)) {
    let toy = Toy::new("well");
    let [first, copy] = ["first", "copy"].map(|folder| copy_programs(&toy, folder));
    let out = toy.path("out").to_str().unwrap().to_owned();
    let measured = toy.command(&["run", "toy", "--out", &out, "--programs", &first]).output().unwrap();
    assert_eq!(measured.status.code(), Some(0), "{}", said(&measured));
    meanwhile(&toy);
    toy.edit("bin/toyd", "toyd 1.0", "toyd 2.0");
    let stopped = resume_and_stop(&toy, &["--again"]);
    assert_eq!(stopped.status.code(), Some(1), "{}", said(&stopped));
    let back = toy.command(&["run", "--resume", &out, "--programs", &copy]).output().unwrap();
    let text = said(&back);
    assert_eq!((back.status.code(), text.matches("already done").count()), (Some(0), 2), "{text}");
    assert!(!toy.path("copy/pids").exists() && !toy.out().replaced("toy", "replay", 1).exists(), "{text}");
}

#[test]
fn archived_rows_return_with_equal_programs_in_another_directory() {
    expect_rows_come_back(|_| {});
}

#[test]
fn rows_of_another_program_setting_or_machine_are_reported() {
    let toy = finished();
    let all = |rule: &str, expected: &str| {
        let found = outcomes(&toy, rule);
        assert!(found.len() == 2 && found.iter().all(|outcome| outcome.starts_with(expected)), "{expected}: {found:?}");
    };
    all(WITH, "held: toyd 1.0");
    all(WHERE, "held");
    let cores = toy.manifest().host.cores;
    for (from, to, rule, expected) in [
        ("toyd 1.0", "toyd 2.0", WITH, "not held: it was measured with other: its version (toyd 1.0, now toyd 2.0)"),
        ("nodes = 3", "nodes = 5", WITH, "not held: it was measured with other: sandbox.nodes (3, now 5)"),
        (&*format!("\"cores\": {cores}"), "\"cores\": 999", WHERE, &*format!("not held: cores ({cores}, now 999)")),
    ] {
        toy.edit("out/manifest.json", from, to);
        all(rule, expected);
        assert_eq!(toy.again("verify").0, Some(3), "{to}");
        toy.edit("out/manifest.json", to, from);
    }
    let runner = "one version of the runner measured all repetitions";
    let [held] = outcomes(&toy, runner).try_into().unwrap();
    let version = held.strip_prefix("held: ").unwrap();
    toy.edit("out/toy/replay/2/repetition.json", version, "0.0.1 (another)");
    assert_eq!(outcomes(&toy, runner), [format!("marked: 0.0.1 (another), {version}")]);
}

#[test]
fn unrecorded_facts_of_older_runs_are_known_only_for_a_single_session() {
    let toy = finished();
    let forget = || {
        for number in 1..=2 {
            let path = toy.out().point("toy", "replay", number).facts();
            let mut facts: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            facts.as_object_mut().unwrap().remove("measured_with").unwrap();
            fs::write(path, facts.to_string()).unwrap();
        }
    };
    let found = || [WITH, WHERE].map(|rule| outcomes(&toy, rule)[0].clone());
    forget();
    assert_eq!(found(), ["held: the run was measured in one session"; 2]);
    assert_eq!(resume(&toy, &[]).0, Some(0), "the plan knows what it was measured with");
    assert_eq!(found(), ["held: toyd 1.0", "held: "], "and the manifest of the one session tells it");
    forget();
    assert_eq!(resume(&toy, &[]).0, Some(0));
    let why = "not measured: repetition.json lacks it, and the run was resumed";
    assert_eq!(found(), [why; 2]);
    toy.edit("out/toy/replay/1/config.toml", "nodes = 3", "nodes = 5");
    assert!(found()[0].starts_with("not held"), "its settings are on record all the same: {:?}", found());
}

#[test]
fn another_machine_is_refused_with_its_differences_and_the_run_stays() {
    let toy = finished();
    let began = toy.manifest();
    assert_eq!(resume(&toy, &[]).0, Some(0));
    let manifest = toy.manifest();
    assert_eq!((&manifest.command, &manifest.started), (&began.command, &began.started));
    assert_eq!((&manifest.git_revision, &manifest.host), (&began.git_revision, &began.host));
    assert!(manifest.notes.iter().any(|note| note.starts_with("resumed ") && note.contains("run --resume")));
    let cores = began.host.cores;
    toy.edit("out/manifest.json", &format!("\"cores\": {cores}"), "\"cores\": 999");
    let before = files(&toy);
    let (code, text) = resume(&toy, &[]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains(&format!("the machine: cores (999, now {cores})")), "{text}");
    assert!(files(&toy) == before, "{text}");
    let (code, text) = resume(&toy, &["--again"]);
    assert_eq!((code, toy.manifest().host.cores), (Some(0), cores), "{text}");
    assert_eq!(toy.manifest().discarded.len(), 2, "{text}");
}
