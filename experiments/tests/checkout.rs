//! The program works in the checkout around the working folder or the one named, and in no other.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

/// A checkout with the committed experiments and no runs.
fn checkout() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(env!("CARGO_MANIFEST_DIR"), root.path().join("experiments")).unwrap();
    fs::create_dir(root.path().join("docs")).unwrap();
    root
}

/// `repro WORDS` in a folder, with a `cargo` that builds nothing.
fn repro(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_repro"));
    command.args(words).current_dir(folder).env("CARGO", "/bin/false").stdin(Stdio::null()).output().unwrap()
}

/// It ends with 2 and one error with this.
fn refused(output: &Output, expected: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(expected), "expected {expected:?} in {said}");
    assert!(programs::is_one_error(&said) && output.stdout.is_empty(), "{said}");
}

#[test]
fn outside_a_checkout_every_command_is_refused() {
    let elsewhere = tempfile::tempdir().unwrap();
    let place = elsewhere.path().canonicalize().unwrap();
    let expected = format!("{} is in no checkout of dirigent", place.display());
    let all: [&[&str]; 8] = [
        &[],
        &["--quick"],
        &["list"],
        &["plan"],
        &["run", "toy"],
        &["run", "--resume", "run"],
        &["report", "run"],
        &["doctor"],
    ];
    for words in all {
        let output = repro(&place, words);
        refused(&output, &expected);
        refused(&output, ": go to a checkout or name it with --checkout");
    }
    let named = repro(&place, &["list", "--checkout", "."]);
    refused(
        &named,
        "--checkout .: expected the root of a checkout of dirigent, found no experiments/systems.toml in it",
    );
    let checkout = checkout();
    let inner = repro(&place, &["list", "--checkout", checkout.path().join("docs").to_str().unwrap()]);
    refused(&inner, "docs: expected the root of a checkout");
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
}

#[test]
fn a_checkout_is_named_before_or_after_the_subcommand() {
    let (elsewhere, checkout) = (tempfile::tempdir().unwrap(), checkout());
    let root = checkout.path().to_str().unwrap();
    let inside = repro(&checkout.path().join("docs"), &["list"]);
    let said = String::from_utf8_lossy(&inside.stderr);
    assert!(inside.status.success() && !inside.stdout.is_empty(), "{said}");
    for words in [["list", "--checkout", root], ["--checkout", root, "list"]] {
        let output = repro(elsewhere.path(), &words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, inside.stdout, "{words:?}");
    }
    refused(&repro(elsewhere.path(), &["--checkout", root, "--quick", "plan"]), "`repro plan --quick`");
}
