//! Puts the git revision of the source into the program, so that a report says what computed it.

use std::process::Command;

fn main() {
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    println!("cargo:rerun-if-changed=src");
    let revision = git(&["describe", "--always", "--dirty", "--abbrev=12", "--match="]);
    println!("cargo:rustc-env=GIT_REVISION={}", revision.unwrap_or_else(|| "unknown".to_owned()));
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
