//! Programs that are being built when the user asks to stop: the build ends, and all that it started.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::toy::{Toy, said, wait_until};

/// A build that never ends by itself, with a child; with an argument `stubborn` it takes no signal that can be ignored.
const BUILD: &str = "#!/bin/sh\n[ \"$1\" != stubborn ] || trap '' TERM INT\necho $$ >> bin/pids\nsleep 1000 &\n\
                     echo $! >> bin/pids\nwait\n";

/// Stops a command by a signal to it alone once it builds; its exit code, and what it said.
fn stop(toy: &Toy, command: &mut Command) -> (Option<i32>, String) {
    fs::write(toy.path("bin/pids"), "").unwrap();
    let mut child = command.spawn().unwrap();
    wait_until("a build with a child", || toy.pids().len() == 2);
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    wait_until("the end of the command", || child.try_wait().unwrap().is_some());
    let output = child.wait_with_output().unwrap();
    toy.assert_nothing_left(2);
    (output.status.code(), said(&output))
}

fn toy() -> Toy {
    let toy = Toy::new("well");
    toy.write("bin/build", BUILD);
    fs::set_permissions(toy.path("bin/build"), fs::Permissions::from_mode(0o755)).unwrap();
    toy
}

#[test]
fn a_build_by_cargo_ends_when_the_user_asks_to_stop() {
    let toy = toy();
    assert_eq!(toy.run(&[]).status.code(), Some(0));
    let (out, other) = (toy.path("out"), toy.path("other"));
    for arguments in [["run", "toy", "--out", other.to_str().unwrap()].as_slice(), &["report", out.to_str().unwrap()]] {
        let (code, text) = stop(&toy, toy.command(arguments).env("CARGO", toy.path("bin/build")));
        assert!(code == Some(1) && text.contains("error: interrupted"), "{arguments:?}: {text}");
    }
}

#[test]
fn a_build_command_is_ended_even_if_it_ignores_signals_and_is_no_failure_of_the_system() {
    for with in ["{bin}/build", "{bin}/build\", \"stubborn"] {
        let toy = toy();
        toy.edit("experiments/systems.toml", "about =", &format!("build.command = [\"{with}\"]\nabout ="));
        let (out, bin) = (toy.path("out"), toy.path("bin"));
        let arguments = ["run", "toy", "--out", out.to_str().unwrap(), "--programs", bin.to_str().unwrap()];
        let (code, text) = stop(&toy, &mut toy.command(&arguments));
        assert!(code == Some(1) && text.contains("error: interrupted"), "{text}");
        assert!(!text.contains("will not be measured") && text.contains("to resume: repro run --resume"), "{text}");
    }
}
