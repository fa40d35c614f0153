//! Preparation: its number, its scope, and its removal.

use std::fs;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use record::ExitState;

use crate::{
    resuming::{outcomes, resume},
    toy::{Toy, said},
};

/// A toy that prepares a state from its functions, counts how often, and begins each repetition from it.
fn preparing(command: &str) -> Toy {
    let toy = Toy::new("well");
    let prepare = format!(
        "prepare = {{ command = [\"sh\", \"-c\", {command:?}], estimate = \"1s\", timeout = \"20s\" }}\nabout ="
    );
    toy.edit("experiments/systems.toml", "about =", &prepare);
    toy.edit("experiments/systems.toml", "\"toy.toml\" = \"", "\"from\" = \"{prepared}\", \"toy.toml\" = \"");
    toy.edit("experiments/systems.toml", "{dir}/up", "{prepared}/functions");
    toy
}

const ONCE: &str = "echo {sandbox.nodes} >> {bin}/prepared && touch {dir}/work && mkdir {prepared} && cp {functions} {prepared}/functions";

fn times(toy: &Toy) -> Vec<String> {
    let text = fs::read_to_string(toy.path("bin/prepared")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_prepared_state_is_shared_by_repetitions_and_then_removed() {
    let toy = preparing(ONCE);
    let output = toy.run(&["--quick"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(times(&toy), ["3"], "two repetitions, one preparation");
    assert!(!toy.path("out/prepared").exists());
    let again = toy.resume();
    assert_eq!((again.status.code(), times(&toy).len()), (Some(0), 1), "nothing to measure, nothing to prepare");
}

#[test]
fn points_share_a_state_made_by_the_same_command_and_functions() {
    let toy = preparing(ONCE);
    let output = toy.run_experiment("sweep", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(times(&toy), ["3", "5"], "two rates alike, and a point with other nodes");
}

#[test]
fn a_state_prepared_by_other_programs_is_not_used() {
    let toy = preparing(ONCE);
    toy.write("bin/behaviour", "long");
    let child = toy.start_and_load();
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let stopped = child.wait_with_output().unwrap();
    assert!(toy.path("out/prepared").is_dir(), "{}", said(&stopped));
    toy.write("bin/behaviour", "well");
    toy.edit("bin/toyd", "#!/bin/sh", "#!/bin/sh\n# built again");
    let again = toy.resume();
    assert_eq!(again.status.code(), Some(0), "{}", said(&again));
    assert_eq!(times(&toy).len(), 2, "the same version, and not the same program: {}", said(&again));
}

/// A toy that says what its own build made, which is in a file beside its programs.
#[test]
fn a_system_rebuilt_between_repetitions_is_reported() {
    let toy = Toy::new("well");
    toy.edit("experiments/systems.toml", "/registered\"] }\nstop", "/registered\", \"{bin}/built.json\"] }\nstop");
    toy.write("bin/built.json", r#"{"seconds": 1, "programs": {"activator": "1"}}"#);
    assert_eq!(toy.run(&["--repetitions", "2"]).status.code(), Some(0));
    let rule = "what a system is built of is the same in all repetitions";
    let outcome = |text: &str| {
        fs::write(toy.out().point("toy", "replay", 2).built(), text).unwrap();
        outcomes(&toy, rule).remove(0)
    };
    assert_eq!(outcome(r#"{"seconds": 9, "programs": {"activator": "1"}}"#), "held: toy, 2 repetitions");
    let other = outcome(r#"{"seconds": 1, "programs": {"activator": "2"}}"#);
    assert_eq!(other, "not held: toy was built again between two of them: activator");
    assert_eq!(toy.again("verify").0, Some(3));
    fs::remove_file(toy.point().built()).unwrap();
    assert_eq!(outcomes(&toy, rule), ["not measured: toy: 1 repetitions have no built.json"; 2]);
    fs::remove_file(toy.out().point("toy", "replay", 2).built()).unwrap();
    assert_eq!(outcomes(&toy, rule), ["not measured: toy: 2 repetitions have no built.json"; 2]);
}

#[test]
fn a_rebuilt_system_whose_version_names_its_build_is_refused() {
    let toy = Toy::new("well");
    let version = "echo \"toyd 1.0, build $(sha256sum < \"$bin/built.json\" | cut -c 1-12)\"; exit 0";
    toy.edit("bin/toyd", "echo \"toyd 1.0\"; exit 0", version);
    toy.write("bin/built.json", "1");
    assert_eq!(toy.run(&[]).status.code(), Some(0));
    assert_eq!(resume(&toy, &[]).0, Some(0));
    let manifest = fs::read_to_string(toy.out().manifest()).unwrap();
    toy.write("bin/built.json", "2");
    let (code, text) = resume(&toy, &[]);
    assert!(
        code == Some(2) && text.contains("toy: its version (toyd 1.0, build 6b86b273ff34, now toyd 1.0, build"),
        "{text}"
    );
    assert_eq!(fs::read_to_string(toy.out().manifest()).unwrap(), manifest);
}

#[test]
fn a_failed_preparation_is_reported_and_its_partial_state_not_used() {
    let toy = preparing(&format!("{ONCE} && echo no room >&2 && exit 1"));
    let output = toy.run(&["--quick"]);
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(text.contains("sh ended with exit code 1") && text.contains("no room"), "{text}");
    toy.assert_exit(ExitState::Failed);
    assert!(toy.pids().is_empty(), "nothing is started");
    toy.edit("experiments/systems.toml", " && echo no room >&2 && exit 1", "");
    let (code, text) = resume(&toy, &["--again"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(times(&toy).len(), 3, "tried for both repetitions, then made again from its beginning and shared");
}
