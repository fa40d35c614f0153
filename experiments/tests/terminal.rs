//! Tables on a terminal: wrapped to its width, and as they are where it tells none.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    path::Path,
    process::{Command, Stdio},
};

/// `repro list` in a checkout with the committed experiments and no runs.
fn list(checkout: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_repro"));
    command.arg("list").current_dir(checkout).stdin(Stdio::null());
    command
}

/// Output of `repro list` on a terminal of so many columns.
fn on_a_terminal(checkout: &Path, columns: u16) -> String {
    let (status, shown) = programs::on_a_terminal(list(checkout), columns).unwrap();
    assert!(status.success(), "{shown}");
    shown
}

#[test]
fn tables_are_not_wrapped_on_a_terminal_without_a_width() {
    let checkout = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(env!("CARGO_MANIFEST_DIR"), checkout.path().join("experiments")).unwrap();
    let in_a_file = String::from_utf8(list(checkout.path()).output().unwrap().stdout).unwrap();
    let longest = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(longest(&in_a_file) > 80, "or nothing would have to be wrapped:\n{in_a_file}");
    for columns in [0, 1, 39] {
        assert_eq!(on_a_terminal(checkout.path(), columns), in_a_file, "{columns} columns");
    }
    let wrapped = on_a_terminal(checkout.path(), 80);
    assert!(longest(&wrapped) <= 80 && wrapped.lines().count() > in_a_file.lines().count(), "{wrapped}");
}
