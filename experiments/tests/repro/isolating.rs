//! `repro run` with a system that is to be isolated: everything happens in a private namespace, is stopped as anywhere
//! else, and ends with the runner, however the runner ends.
//!
//! Process ids that the toy writes down are those inside, so what must end is found from outside by its parents.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Child, Command, Stdio},
};

use experiments::machine::proc::{Stat, descendants};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getuid},
};
use record::ExitState;

use crate::toy::{Toy, is_alive, said, wait_until};

/// A user without any rights, on every machine.
const NOBODY: u32 = 65534;

/// Messages of a kernel that refuses namespaces; any other message is a defect of the program.
const REFUSALS: [&str; 3] = ["this user may not make namespaces", "writing /proc/self/", "mounting /proc"];

/// The toy checkout, its system isolated; `None` where no private namespace may be made, which is said.
fn isolated(test: &str, behaviour: &str) -> Option<Toy> {
    let mut way_in = Command::new(env!("CARGO_BIN_EXE_repro"));
    way_in.args(["isolate", "--parent", &std::process::id().to_string(), "--"]).stdin(Stdio::null());
    let tried = way_in.output().unwrap();
    let why = said(&tried);
    if !tried.status.success() && REFUSALS.iter().any(|refusal| why.contains(refusal)) {
        programs::say_skipped(test, why.trim());
        return None;
    }
    assert!(tried.status.success(), "the way inside fails, and not because it is forbidden: {why}");
    let toy = Toy::new(behaviour);
    toy.edit("experiments/systems.toml", "about =", "isolated = true\nabout =");
    Some(toy)
}

/// The user namespace, which root does not need.
#[test]
fn an_unprivileged_user_can_be_isolated_root() {
    if !getuid().is_root() {
        programs::say_skipped("an_ordinary_user_may_go_inside_too_root", "only root can become another user");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("repro");
    fs::copy(env!("CARGO_BIN_EXE_repro"), &program).unwrap();
    let mut way_in = Command::new(&program);
    way_in.args(["isolate", "--parent", &std::process::id().to_string(), "--"]).stdin(Stdio::null());
    let tried = way_in.uid(NOBODY).gid(NOBODY).current_dir("/").output().unwrap();
    let why = said(&tried);
    let is_forbidden = REFUSALS.iter().any(|refusal| why.contains(refusal));
    assert!(tried.status.success() || is_forbidden, "{why}");
}

/// Ids of all that a process started, as they are outside.
fn started_by(child: &Child) -> Vec<i32> {
    let ancestor = i32::try_from(child.id()).unwrap();
    descendants(&Stat::read_all().unwrap(), ancestor, &[]).iter().map(|stat| stat.pid).collect()
}

fn assert_all_end(pids: &[i32]) {
    // The way inside, the runner inside it, two daemons and the load generator with a child each.
    assert!(pids.len() >= 8, "expected at least 8 processes: {pids:?}");
    wait_until("everything in the namespace ends", || !pids.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn systems_and_load_share_one_private_network_and_the_run_says_so() {
    let Some(toy) = isolated("systems_and_load_share_one_private_network_and_the_run_says_so", "well") else { return };
    for (script, place) in [("toyd", "echo $$ >>"), ("loadgen", "touch \"$bin/loading\"")] {
        let note = format!("readlink /proc/self/ns/net > \"$bin/{script}.net\"\n{place}");
        toy.edit(&format!("bin/{script}"), place, &note);
    }
    toy.edit("bin/toyd", "echo $$ >> ", "grep -c 127.0.0.1 /proc/net/fib_trie > \"$bin/loopback\"\necho $$ >> ");
    let output = toy.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    toy.assert_exit(ExitState::Done);
    let network = |script: &str| fs::read_to_string(toy.path(&format!("bin/{script}.net"))).unwrap().trim().to_owned();
    let ours = fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    assert_eq!(network("toyd"), network("loadgen"), "system and load generator are on the same side");
    assert_ne!(network("toyd"), ours, "and not on the machine's");
    let loopback = fs::read_to_string(toy.path("bin/loopback")).unwrap();
    assert_ne!(loopback.trim(), "0", "the loopback device is up");
    let manifest = toy.manifest();
    assert!(manifest.notes.iter().any(|note| note.contains("private mount, pid and network namespace")));
    assert_eq!(manifest.command[1..3], ["run", "toy"], "the command is what was typed: {:?}", manifest.command);
    assert!(!manifest.command.iter().any(|word| word == "--isolated"), "{:?}", manifest.command);
}

#[test]
fn the_exit_code_of_the_isolated_run_is_the_exit_code() {
    let Some(toy) = isolated("how_the_run_inside_ends_is_how_the_run_ends", "dies") else { return };
    let output = toy.run(&[]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    toy.assert_exit(ExitState::Invalid);
}

#[test]
fn a_signal_to_the_outer_process_stops_the_isolated_run_which_can_be_resumed() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let test = "a_signal_to_the_outermost_alone_stops_what_is_inside_and_the_run_can_go_on_inside";
        let Some(toy) = isolated(test, "long") else { return };
        let child = toy.start_and_load();
        let pids = started_by(&child);
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{signal}: {}", said(&output));
        assert_all_end(&pids);
        toy.assert_exit(ExitState::Interrupted);
        assert!(toy.point().invocations().exists(), "rows are kept");
        toy.write("bin/behaviour", "well");
        let resumed = toy.resume();
        assert_eq!(resumed.status.code(), Some(0), "{}", said(&resumed));
        assert!(said(&resumed).contains("continuing in private"), "{}", said(&resumed));
        toy.assert_exit(ExitState::Done);
        let notes = toy.manifest().notes;
        assert_eq!(notes.iter().filter(|note| note.contains("a private mount")).count(), 1, "said once: {notes:?}");
    }
}

#[test]
fn a_second_process_is_told_the_process_that_the_user_started() {
    let Some(toy) = isolated("a_second_process_learns_the_process_that_the_user_started", "long") else { return };
    let mut child = toy.start_and_load();
    let pids = started_by(&child);
    let second = toy.resume();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_all_end(&pids);
    assert_eq!(second.status.code(), Some(1), "{}", said(&second));
    let holder = format!("out is in use by process {} (", child.id());
    assert!(said(&second).contains(&holder), "expected {holder:?} in {}", said(&second));
    assert!(!said(&second).contains("continuing in private"), "before it takes any time: {}", said(&second));
}

#[test]
fn killing_the_outer_process_ends_the_isolated_run() {
    let Some(toy) = isolated("with_the_outermost_killed_everything_inside_ends", "long") else { return };
    let mut child = toy.start_and_load();
    let pids = started_by(&child);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_all_end(&pids);
    assert_eq!(toy.manifest().exit, ExitState::Running, "a killed run still says what it was");
}

#[test]
fn the_isolated_init_process_finds_processes_left_behind() {
    let Some(toy) = isolated("the_first_process_inside_finds_what_a_system_leaves_behind", "leaks") else { return };
    let output = toy.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let notes = toy.manifest().notes.join("\n");
    assert_eq!(notes.matches("sleep (process ").count(), 2, "{notes}");
}

#[test]
fn failed_builds_outside_are_known_to_the_isolated_run() {
    let test = "what_could_not_be_built_outside_is_known_inside";
    let Some(toy) = isolated(test, "well") else { return };
    assert_eq!(toy.run(&[]).status.code(), Some(0));
    let before = toy.pids().len();
    toy.edit("experiments/systems.toml", "about =", "build.command = [\"false\"]\nabout =");
    toy.edit("experiments/definitions/toy.toml", "nodes = 3", "nodes = 5");
    let (out, bin) = (toy.path("out"), toy.path("bin"));
    let again = ["run", "--resume", out.to_str().unwrap(), "--programs", bin.to_str().unwrap(), "--again"];
    let refused = toy.command(&again).output().unwrap();
    let why = "toy cannot be measured again here: building it failed: false failed";
    assert!(refused.status.code() == Some(2) && said(&refused).contains(why), "{}", said(&refused));
    fs::remove_dir_all(toy.point().path).unwrap();
    let untried = toy.resume();
    let [failure] = toy.manifest().failures.try_into().unwrap();
    assert!(failure.untried && failure.reason.starts_with("building it failed"), "{failure:?}: {}", said(&untried));
    assert_eq!(toy.pids().len(), before, "nothing is started: {}", said(&untried));
}

#[test]
fn a_system_that_cannot_run_here_is_named_and_causes_no_isolation() {
    let toy = Toy::new("well");
    let needs = "isolated = true\nneeds = [{ file = \"/no/such\", fix = \"make it\" }]\nabout =";
    toy.edit("experiments/systems.toml", "about =", needs);
    let output = toy.run(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("toy: it cannot run here: no /no/such: make it"), "{}", said(&output));
    assert!(!said(&output).contains("continuing in private"), "{}", said(&output));
}

#[test]
fn the_plan_says_whether_the_run_is_isolated() {
    let toy = Toy::new("well");
    let plan = |toy: &Toy| said(&toy.command(&["plan", "toy"]).output().unwrap());
    assert!(!plan(&toy).contains("private"), "{}", plan(&toy));
    toy.edit("experiments/systems.toml", "about =", "isolated = true\nabout =");
    assert!(plan(&toy).contains("in a private mount, pid and network namespace"), "{}", plan(&toy));
}
