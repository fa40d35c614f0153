//! One process at a time writes into a run's directory, and whoever comes second is told who is at it.

use std::fs;

use record::ExitState;

use crate::toy::{Toy, is_alive, said, wait_until};

#[test]
fn a_second_process_is_told_the_lock_holder_and_changes_nothing() {
    let toy = Toy::new("long");
    let mut first = toy.start_and_load();
    let (out, bin) = (toy.path("out"), toy.path("bin"));
    let (out, bin) = (out.to_str().unwrap(), bin.to_str().unwrap());
    let state = || ["manifest.json", "plan.json", "lock"].map(|file| fs::read(toy.path("out").join(file)).unwrap());
    let (before, started) = (state(), toy.pids().len());
    let holder = format!("out is in use by process {} (", first.id());
    for second in [
        &["run", "--resume", out, "--programs", bin][..],
        &["run", "toy", "--out", out, "--programs", bin],
        &["report", out, "--programs", bin],
        &["verify", out],
    ] {
        let output = toy.command(second).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{second:?}: {}", said(&output));
        let text = said(&output);
        assert!(text.contains(&holder) && text.contains("repro run toy --out"), "{second:?}: {text}");
    }
    assert_eq!((state(), toy.pids().len()), (before, started), "the first run is as it was");
    assert!(first.try_wait().unwrap().is_none() && !toy.path("out/summary.json").exists());
    first.kill().unwrap();
    first.wait().unwrap();
    wait_until("all of it ends", || !toy.pids().iter().any(|pid| is_alive(*pid)));
    toy.write("bin/behaviour", "well");
    let resumed = toy.resume();
    assert_eq!(resumed.status.code(), Some(0), "a killed run holds nothing: {}", said(&resumed));
    toy.assert_exit(ExitState::Done);
}

#[test]
fn a_directory_without_a_run_is_not_resumed_and_stays_unchanged() {
    let toy = Toy::new("well");
    fs::create_dir(toy.path("out")).unwrap();
    let output = toy.resume();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("out holds no run: there is no plan.json in it"), "{}", said(&output));
    assert_eq!(fs::read_dir(toy.path("out")).unwrap().count(), 0);
}
