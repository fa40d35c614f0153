//! Tables on a terminal: wrapped to its width, and as they are where it tells none.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs::File,
    io::Read,
    path::Path,
    process::{Command, Stdio},
};

use nix::pty::{Winsize, openpty};

/// `repro list` in a checkout with the committed experiments and no runs.
fn list(checkout: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_repro"));
    command.arg("list").current_dir(checkout).stdin(Stdio::null());
    command
}

/// What `repro list` writes to a terminal of so many columns.
fn on_a_terminal(checkout: &Path, columns: u16) -> String {
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(Some(&size), None).unwrap();
    let (mut screen, side) = (File::from(pair.master), File::from(pair.slave));
    let mut child = list(checkout).stdout(side).spawn().unwrap();
    let mut shown = Vec::new();
    let mut bytes = [0; 4096];
    // Reading ends with an error when no side is open any more.
    while let Ok(count @ 1..) = screen.read(&mut bytes) {
        shown.extend_from_slice(&bytes[..count]);
    }
    assert!(child.wait().unwrap().success());
    String::from_utf8(shown).unwrap().replace("\r\n", "\n")
}

#[test]
fn a_terminal_that_tells_no_width_gets_tables_as_a_file_does() {
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
