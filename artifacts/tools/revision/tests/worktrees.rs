//! Revisions of small repositories, of their worktrees, and of source that is in none.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use revision::{moves, revision, sources};

fn git(directory: &Path, arguments: &[&str]) -> String {
    let identity = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "core.logAllRefUpdates=true"];
    let output = Command::new("git").args(identity).args(arguments).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn commit(directory: &Path) -> String {
    git(directory, &["add", "-A"]);
    git(directory, &["commit", "-q", "-m", "any"]);
    git(directory, &["rev-parse", "--short=12", "HEAD"])
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A workspace of three packages, where `program` depends on `library`: its directory.
fn workspace(root: &Path) -> PathBuf {
    let directory = root.join("tree");
    let shared = "[workspace.dependencies]\nlibrary = { path = \"below/library\" }\nother = { path = \"other\" }\n";
    write(&directory.join("Cargo.toml"), shared);
    write(&directory.join("Cargo.lock"), "");
    write(&directory.join("program/Cargo.toml"), "[dependencies]\nlibrary.workspace = true\n");
    for package in ["program", "below/library", "other"] {
        write(&directory.join(package).join("src/main.rs"), "");
    }
    write(&directory.join("below/library/Cargo.toml"), "[package]\n");
    directory
}

#[test]
fn a_program_is_dirty_when_what_it_is_built_from_differs() {
    let folder = tempfile::tempdir().unwrap();
    let tree = workspace(folder.path());
    let program = tree.join("program");
    assert_eq!(revision(&program), None, "no repository yet");
    git(&tree, &["init", "-q"]);
    let first = commit(&tree);
    assert_eq!(revision(&program), Some(first.clone()));
    write(&tree.join("other/src/main.rs"), "changed");
    assert_eq!(revision(&program), Some(first.clone()), "it does not depend on `other`");
    write(&tree.join("below/library/src/new.rs"), "new");
    assert_eq!(revision(&program), Some(format!("{first}-dirty")), "a new file of what it depends on");
    assert!(sources(&program).contains(&tree.join("below/library/src")), "{:?}", sources(&program));
    let second = commit(&tree);
    assert_eq!(revision(&program), Some(second));
}

#[test]
fn a_worktree_has_its_own_revision_and_its_own_file_that_moves() {
    let folder = tempfile::tempdir().unwrap();
    let tree = workspace(folder.path());
    git(&tree, &["init", "-q"]);
    let first = commit(&tree);
    let beside = folder.path().join("beside");
    git(&tree, &["worktree", "add", "-q", "-b", "beside", beside.to_str().unwrap()]);
    write(&beside.join("program/src/main.rs"), "changed");
    let before = fs::read_to_string(moves(&beside.join("program")).unwrap()).unwrap();
    let second = commit(&beside);
    let after = fs::read_to_string(moves(&beside.join("program")).unwrap()).unwrap();
    assert_ne!(before, after, "a commit builds the program again");
    assert_eq!(revision(&beside.join("program")), Some(second));
    assert_eq!(revision(&tree.join("program")), Some(first));
}

#[test]
fn source_inside_another_repository_has_none_of_its_commits() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("readme"), "");
    git(folder.path(), &["init", "-q"]);
    commit(folder.path());
    assert_eq!(revision(&workspace(folder.path()).join("program")), None);
}
