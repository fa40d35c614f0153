//! The files of a run: rows that name their address, a summary whatever happens, and nothing of another run.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod mock;
mod program;

use std::{fs, process::Command};

use mock::Mock;
use nix::sys::signal::Signal;
use program::{Running, Scratch, ended, loadgen, replay, wait_until};
use record::Outcome;

#[test]
fn each_row_says_the_address_it_was_sent_to() {
    let (left, right, scratch) = (Mock::data_plane(), Mock::data_plane(), Scratch::new());
    let schedule = scratch.schedule(&[(0, "ok"), (5, "ok"), (10, "ok"), (15, "ok")]);
    let both = format!("{},{}", left.address, right.address);
    for protocol in ["http1", "h2c"] {
        replay(&scratch, &schedule, &both, &["--protocol", protocol, "--overwrite"]);
        let addresses: Vec<_> = scratch.rows().into_iter().map(|row| row.address).collect();
        let expected = [left.address, right.address].map(|address| Some(address.to_string()));
        assert_eq!(addresses, [&expected[..], &expected[..]].concat(), "{protocol}");
    }
    assert_eq!((left.total(), right.total()), (4, 4));
}

#[test]
fn results_of_an_earlier_run_are_refused_or_removed_before_anything_is_sent() {
    let (mock, control_plane, scratch) = (Mock::data_plane(), Mock::control_plane(), Scratch::new());
    let (once, twice) = ([(0, "ok")], [(0, "ok"), (5, "ok")]);
    let address = mock.address.to_string();
    replay(&scratch, &scratch.schedule(&twice), &address, &[]);
    fs::write(scratch.path("out/coldstarts.csv"), "of the earlier run").unwrap();
    fs::write(scratch.path("out/notes.txt"), "the user's own").unwrap();
    let schedule = scratch.schedule(&once);
    let url = format!("http://{}", control_plane.address);
    let (code, printed, errors) = replay(&scratch, &schedule, &address, &["--register", &url]);
    assert_eq!((code, printed.as_str()), (2, ""), "{errors}");
    assert!(errors.contains("invocations.csv.zst") && errors.contains("--overwrite"), "{errors}");
    assert_eq!((scratch.rows().len(), mock.total(), control_plane.total()), (2, 2, 0), "nothing was touched or sent");
    let (code, _, errors) = replay(&scratch, &schedule, &address, &["--overwrite"]);
    assert!(code == 0 || code == 3, "{code}: {errors}");
    assert_eq!((scratch.rows().len(), scratch.summary().scheduled), (1, 1));
    assert!(!fs::exists(scratch.path("out/coldstarts.csv")).unwrap(), "joined to the new rows it would be wrong");
    assert!(fs::exists(scratch.path("out/notes.txt")).unwrap(), "what is not a result stays");
}

#[test]
fn a_directory_that_a_run_is_writing_into_is_refused_also_to_be_overwritten() {
    let (mock, scratch) = (Mock::data_plane(), Scratch::new());
    let rows: Vec<(u64, &str)> = (0..6000).map(|n| (n * 10, "ok")).collect();
    let (schedule, out, address) = (scratch.schedule(&rows), scratch.path("out"), mock.address.to_string());
    let first = loadgen(&["run", "--schedule", &schedule, "--address", &address, "--out", &out]).spawn();
    let first = Running(first.unwrap());
    wait_until("invocations were answered", || mock.count("POST ok") >= 30);
    let (code, _, errors) = replay(&scratch, &schedule, &address, &["--overwrite"]);
    assert!(code == 2 && errors.contains("another loadgen run is writing into it"), "{code}: {errors}");
    first.signal(Signal::SIGINT);
    assert_eq!(first.end().0, 1);
    assert_eq!((scratch.rows().len(), scratch.summary().sent), (6000, mock.total()), "the first run is whole");
    let (code, _, errors) = replay(&scratch, &scratch.schedule(&[(0, "ok")]), &address, &["--overwrite"]);
    assert!(code == 0 || code == 3, "an ended run holds nothing: {code}: {errors}");
}

/// A disk of half a megabyte, that a file system in memory stands for, in a mount namespace of its own.
#[test]
fn a_full_disk_leaves_a_summary_that_says_so_root() {
    if !Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|status| status.success()) {
        programs::say_skipped("a_full_disk_leaves_a_summary_that_says_so_root", "no mount namespace can be made here");
        return;
    }
    let (mock, scratch) = (Mock::data_plane(), Scratch::new());
    // Far more rows than have room; the run is given up at the first that have none.
    let rows: Vec<(u64, &str)> = (0..60_000).map(|n| (n, "ok")).collect();
    let schedule = scratch.schedule(&rows);
    fs::create_dir(scratch.path("disk")).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=256k tmpfs {disk} && head -c 150000 /dev/zero > {disk}/other && \
         {loadgen} run --schedule {schedule} --address {address} --out {disk}/out --realtime off; code=$?; \
         cp -r {disk}/out {out}; exit $code",
        disk = scratch.path("disk"),
        loadgen = env!("CARGO_BIN_EXE_loadgen"),
        address = mock.address,
        out = scratch.path("out")
    );
    let (code, _, errors) = ended(Command::new("unshare").args(["-rm", "sh", "-c", &script]).output().unwrap());
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("No space left"), "{errors}");
    let summary = scratch.summary();
    assert!(summary.interrupted && !summary.valid, "{summary:?}");
    assert!(summary.notes.iter().any(|note| note.contains("interrupted") && note.contains("No space left")));
    let kept = program::read_rows(&scratch.0.path().join("out/invocations.csv.zst"));
    assert!(!kept.is_empty() && kept.len() < 60_000, "{} rows are kept", kept.len());
    assert!(kept.iter().all(|row| row.outcome == Outcome::Ok));
}
