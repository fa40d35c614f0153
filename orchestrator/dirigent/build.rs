//! Gives `dirigent --version` the git revision it was built from; a copy without git history says `unknown`.

use std::{path::Path, process::Command};

fn main() {
    let revision = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=DIRIGENT_REVISION={revision}");
    // Every commit and checkout appends to this log. A path that is missing would rebuild every time.
    let moved = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"]);
    match moved.filter(|path| Path::new(path).exists()) {
        Some(path) => println!("cargo::rerun-if-changed={path}"),
        None => println!("cargo::rerun-if-changed=build.rs"),
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
