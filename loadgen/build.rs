//! Passes the git revision to the program, for `--version`.

use std::{path::Path, process::Command};

fn main() {
    let git = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let revision =
        git.ok().filter(|output| output.status.success()).and_then(|output| String::from_utf8(output.stdout).ok());
    println!("cargo:rustc-env=LOADGEN_REVISION={}", revision.as_deref().map_or("unknown", str::trim));
    // The reflog grows with every commit; without a repository there is nothing to watch.
    let reflog = "../.git/logs/HEAD";
    println!("cargo:rerun-if-changed={}", if Path::new(reflog).exists() { reflog } else { "build.rs" });
}
