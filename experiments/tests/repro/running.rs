//! `repro run` on a toy system: everything that was started is stopped, whatever happens, and what was measured is kept.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use record::{
    ColdStart, ExitState, Finding, Invariant, Manifest, ProcessUsage, Weight, points_of_definition, read_json,
    read_table,
};

use crate::toy::{Toy, is_alive, said, wait_until};

/// Two daemons and the load generator, with a child each.
const ALL: usize = 6;

#[test]
fn a_run_leaves_its_files_and_no_process() {
    let toy = Toy::new("well");
    let output = toy.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    toy.assert_exit(ExitState::Done);
    toy.assert_nothing_left(ALL);
    let point = toy.point();
    let creations: Vec<ColdStart> = read_table(&point.coldstarts()).unwrap();
    assert_eq!(creations[0].requested_ns, 1_500_000, "creations are told from the run's start");
    let usage: Vec<ProcessUsage> = read_table(&point.processes()).unwrap();
    let names: Vec<&str> = usage.iter().map(|row| row.process.as_str()).collect();
    for expected in ["load-generator", "runner", "toy-1", "toy-1 sandboxes", "toy-2", "machine"] {
        assert!(names.contains(&expected), "expected {expected} among {names:?}");
    }
    let config = std::fs::read_to_string(point.path.join("config.toml")).unwrap();
    assert!(config.contains("limits = { nodes = 3 }"), "files are kept as they were written: {config}");
    let functions = std::fs::read_to_string(toy.path("out/schedules/replay/1/functions.ndjson")).unwrap();
    assert!(functions.contains("\"cpu\":500"), "the definition is laid over the functions: {functions}");
    assert!(!point.path.join("data").exists(), "the data of a system that ended well is removed");
    assert!(point.path.join("registered").is_file(), "but for what is to be kept");
    let manifest: Manifest = read_json(&toy.out().manifest()).unwrap();
    let by_definition = points_of_definition(&manifest.definition).unwrap();
    assert_eq!(
        (manifest.points.len(), &manifest.points),
        (1, &by_definition),
        "readers need not interpret the definition"
    );
    let facts = &manifest.systems["toy"];
    assert_eq!((facts.version.as_str(), facts.binaries.len()), ("toyd 1.0", 1));
    assert!(said(&output).contains("analysed out"), "{}", said(&output));
    assert!(said(&output).contains(r#""exit": "done""#), "the report knows the end of the run: {}", said(&output));
}

#[test]
fn a_process_that_fails_during_shutdown_is_reported() {
    let toy = Toy::new("spoils");
    let output = toy.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let notes = toy.manifest().notes.join("\n");
    for expected in ["while it stopped: toy-1 ended with exit code 5", "toy-2 ended with", "the disk is full"] {
        assert!(notes.contains(expected), "expected {expected:?} in {notes}");
    }
    toy.assert_nothing_left(ALL);
}

/// The toy, each daemon of which names its child by `role`, a text of its shell.
fn with_child_process(role: &str) -> Toy {
    let toy = Toy::new("well");
    toy.edit("experiments/systems.toml", "ports = ", "child_processes = \"children.json\"\nports = ");
    let named = format!("printf '{{\"%s\":%d}}' \"{role}\" $child > \"$1/children.json\"\ntouch \"$1/up\"");
    toy.edit("bin/toyd", "touch \"$1/up\"", &named);
    toy
}

#[test]
fn the_usage_of_a_member_process_is_separate_and_counted_once() {
    let toy = with_child_process("part-of-$(basename $1)");
    let output = toy.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let usage: Vec<ProcessUsage> = read_table(&toy.point().processes()).unwrap();
    let names: Vec<&str> = usage.iter().map(|row| row.process.as_str()).collect();
    for expected in ["toy-1", "toy-2", "part-of-toy-1", "part-of-toy-2"] {
        assert_eq!(names.iter().filter(|name| **name == expected).count(), 1, "expected {expected} in {names:?}");
    }
    let again = names.iter().find(|name| name.starts_with("toy") && name.ends_with("sandboxes"));
    assert_eq!(again, None, "a member is nobody's sandbox: {names:?}");
}

#[test]
fn a_member_whose_role_is_taken_is_refused() {
    for role in ["toy-2", "same", "runner", "toy-1 sandboxes"] {
        let toy = with_child_process(role);
        let output = toy.run(&[]);
        assert_eq!(output.status.code(), Some(1), "{role}: {}", said(&output));
        let refused = format!("calls a process {role:?}, which is another's role");
        assert!(said(&output).contains(&refused), "expected {refused} in {}", said(&output));
        toy.assert_exit(ExitState::Failed);
        toy.assert_nothing_left(4);
    }
}

#[test]
fn a_finished_step_is_skipped_until_a_dependency_changes() {
    let toy = Toy::new("well");
    assert_eq!(toy.run(&["--quick"]).status.code(), Some(0));
    let before = toy.pids().len();
    let again = toy.resume();
    assert_eq!(again.status.code(), Some(0), "{}", said(&again));
    assert_eq!(toy.pids().len(), before, "nothing is started again");
    assert!(said(&again).contains("repetition 2: already done"), "{}", said(&again));
    toy.edit("experiments/definitions/toy.toml", "nodes = 3", "nodes = 4");
    let (out, bin) = (toy.path("out"), toy.path("bin"));
    let arguments = ["run", "--resume", out.to_str().unwrap(), "--programs", bin.to_str().unwrap(), "--again"];
    let changed = toy.command(&arguments).output().unwrap();
    assert_eq!(changed.status.code(), Some(0), "{}", said(&changed));
    assert_eq!(toy.pids().len(), 2 * before, "a changed definition makes both repetitions unfinished");
}

#[test]
fn a_system_that_cannot_run_here_is_listed_with_its_missing_requirement() {
    let toy = Toy::new("well");
    toy.edit("experiments/systems.toml", "about =", "needs = [{ file = \"/no/such\", fix = \"make it\" }]\nabout =");
    let output = toy.run(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("toy: it cannot run here: no /no/such: make it"), "{}", said(&output));
    assert!(toy.pids().is_empty(), "nothing is started");
    let [failure] = toy.manifest().failures.try_into().unwrap();
    assert!(failure.untried, "{failure:?}");
}

#[test]
fn a_system_that_fails_to_start_is_shown_with_the_first_error_and_the_end_of_its_log() {
    let toy = Toy::new("fails");
    let output = toy.run(&[]);
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(said.contains("ended with exit code 1") && said.contains("cannot bind: no such luck"), "{said}");
    assert!(said.contains("at frame 20") && !said.contains("at frame 5\n"), "{said}");
    let [failure] = toy.manifest().failures.try_into().unwrap();
    assert!(!failure.untried, "it was tried, and that it fails is a result: {failure:?}");
    toy.assert_exit(ExitState::Failed);
    toy.assert_nothing_left(1);
}

#[test]
fn a_system_that_is_never_ready_is_stopped_at_its_deadline() {
    let toy = Toy::new("never-ready");
    let output = toy.run(&[]);
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(said.contains("not ready within 2 s") && said.contains("still thinking"), "{said}");
    toy.assert_nothing_left(2);
}

#[test]
fn ctrl_c_keeps_what_was_measured_stops_everything_and_the_run_can_go_on() {
    let toy = Toy::new("long");
    let child = toy.start_and_load();
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    toy.assert_exit(ExitState::Interrupted);
    toy.assert_nothing_left(ALL);
    assert!(toy.point().invocations().exists(), "rows are kept");
    assert!(toy.point().coldstarts().exists(), "and what the system recorded");
    toy.write("bin/behaviour", "well");
    let resumed = toy.resume();
    assert_eq!(resumed.status.code(), Some(0), "{}", said(&resumed));
    toy.assert_exit(ExitState::Done);
}

#[test]
fn processes_that_a_system_leaves_behind_are_found_killed_and_named() {
    let toy = Toy::new("leaks");
    let output = toy.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    toy.assert_nothing_left(ALL);
    let notes = toy.manifest().notes.join("\n");
    assert_eq!(notes.matches("sleep (process ").count(), 2, "{notes}");
    assert!(said(&output).contains("everything stopped when told to"), "{}", said(&output));
}

#[test]
fn a_process_that_ignores_sigterm_is_killed_after_the_grace_period() {
    let toy = Toy::new("ignores");
    let output = toy.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    toy.assert_nothing_left(ALL);
    let notes = toy.manifest().notes.join("\n");
    assert!(notes.contains("had to be killed: toy-2, toy-1"), "{notes}");
}

#[test]
fn a_run_whose_system_died_under_load_is_invalid_and_keeps_its_data() {
    let toy = Toy::new("dies");
    let output = toy.run(&[]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    toy.assert_exit(ExitState::Invalid);
    toy.assert_nothing_left(ALL);
    assert!(said(&output).contains("toy-1 ended with exit code 7"), "{}", said(&output));
    assert!(toy.point().path.join("data/toy-1").exists());
    let found = toy.out().read_invariants().unwrap().unwrap().invariants;
    let found: Vec<_> = found.into_iter().filter(|one| one.rule == Invariant::LIVED).collect();
    let [Invariant { weight: Weight::Validity, finding: Finding::NotHeld, detail, .. }] = &found[..] else {
        panic!("claims are judged by it: {found:?}")
    };
    assert_eq!(detail, "toy-1 ended with exit code 7; toy-2 ended with exit code 7");
}

#[test]
fn a_measurement_is_complete_even_if_its_data_cannot_be_removed() {
    let toy = Toy::new("well");
    // Where the folder was there is a file when all of it has stopped.
    let spoil = "d=$(dirname \"$1\"); rm -rf \"$d\"; touch \"$d\"";
    toy.edit("bin/toyd", "*) trap 'kill $child; exit 0' TERM", &format!("*) trap 'kill $child; {spoil}; exit 0' TERM"));
    let output = toy.run(&[]);
    let manifest = toy.manifest();
    assert!(manifest.failures.is_empty() && toy.point().invocations().is_file(), "{manifest:?}: {}", said(&output));
    let is_left = |note: &String| note.starts_with("toy replay repetition 1: ") && note.contains("/data is left: ");
    assert!(manifest.notes.iter().any(is_left), "{:?}", manifest.notes);
    assert!(said(&toy.resume()).contains("repetition 1: already done"));
}

#[test]
fn when_the_runner_is_killed_everything_it_started_ends() {
    let toy = Toy::new("long");
    let mut child = toy.start_and_load();
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("all of it ends", || {
        let pids = toy.pids();
        pids.len() >= ALL && !pids.iter().any(|pid| is_alive(*pid))
    });
    assert_eq!(toy.manifest().exit, ExitState::Running, "a killed run still says what it was");
}
