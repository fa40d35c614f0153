//! The revision of the source that a program is built from, for `--version` and for what programs record of themselves.
//!
//! Every program's build script calls [`emit`], so that all say it in the same way. Whether files differ from the
//! commit is read for the sources of the program and of the crates of this workspace that it depends on: a change to any
//! of them builds the program again, and with it this result.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Revision of source without git history, such as an unpacked archive.
pub const UNKNOWN: &str = "unknown";
/// Digits of the commit's hash: enough to be unique in any repository of this size.
const DIGITS: &str = "--short=12";
/// Files within its directory that a package is built from.
const SOURCES: [&str; 4] = ["Cargo.toml", "build.rs", "src", "proto"];

/// Called by a build script: sets `PROGRAM_VERSION` (the package's version with the revision, for clap) and
/// `SOURCE_REVISION` for the compilation, and asks cargo to do so again when either may have changed.
#[allow(clippy::print_stdout, reason = "this is how a build script talks to cargo, which reads all of it")]
pub fn emit() {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let revision = revision(&package).unwrap_or_else(|| UNKNOWN.to_owned());
    println!("cargo::rustc-env=PROGRAM_VERSION={version} ({revision})");
    println!("cargo::rustc-env=SOURCE_REVISION={revision}");
    for path in sources(&package).into_iter().chain(moves(&package)) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}

/// The commit that is checked out where `package` is, with `-dirty` when what it is built from differs; `None` when
/// no repository keeps the package.
#[must_use]
pub fn revision(package: &Path) -> Option<String> {
    // Source that was unpacked inside some other repository has none of its commits.
    git(package, &["ls-files", "--error-unmatch", "Cargo.toml"])?;
    let commit = git(package, &["rev-parse", DIGITS, "HEAD"])?;
    let sources: Vec<String> = sources(package).iter().map(|path| path.display().to_string()).collect();
    let asked: Vec<&str> =
        ["status", "--porcelain", "--"].into_iter().chain(sources.iter().map(String::as_str)).collect();
    let clean = git(package, &asked)?.is_empty();
    Some(if clean { commit } else { commit + "-dirty" })
}

/// The file that grows whenever another commit is checked out or made, where there is one. Each worktree has its own.
#[must_use]
pub fn moves(package: &Path) -> Option<PathBuf> {
    let path = PathBuf::from(git(package, &["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"])?);
    // A path that is missing would build again every time.
    path.exists().then_some(path)
}

/// Files and folders that the package and the members of its workspace below it are built from.
#[must_use]
pub fn sources(package: &Path) -> BTreeSet<PathBuf> {
    let root = package.ancestors().find(|above| above.join("Cargo.lock").exists()).unwrap_or(package);
    let shared = fs::read_to_string(root.join("Cargo.toml")).unwrap_or_default();
    let members: Vec<(&str, PathBuf)> =
        shared.lines().filter_map(member).map(|(n, path)| (n, root.join(path))).collect();
    let mut found = BTreeSet::from([package.to_owned()]);
    let mut open = vec![package.to_owned()];
    while let Some(directory) = open.pop() {
        let manifest = fs::read_to_string(directory.join("Cargo.toml")).unwrap_or_default();
        for (_, below) in members.iter().filter(|(name, _)| manifest.lines().any(|line| depends(line, name))) {
            if found.insert(below.clone()) {
                open.push(below.clone());
            }
        }
    }
    let files = found.iter().flat_map(|directory| SOURCES.map(|name| directory.join(name)));
    files.chain([root.join("Cargo.lock")]).filter(|path| path.exists()).collect()
}

/// The name and the directory in a line such as `model = { path = "orchestrator/model" }` of the workspace's manifest.
fn member(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.split_once(" = { path = \"")?;
    Some((name, rest.split_once('"')?.0))
}

/// Returns true if a line of a manifest takes the dependency called `name` from the workspace.
fn depends(line: &str, name: &str) -> bool {
    line.strip_prefix(name).is_some_and(|rest| rest.starts_with(".workspace") || rest.starts_with(" = { workspace"))
}

/// The output of git in `directory`; `None` if it fails or is not installed.
fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    // A build changes nothing in the repository: not even the times that `status` would note in the index.
    let output = Command::new("git").arg("--no-optional-locks").args(arguments).current_dir(directory).output().ok()?;
    let text = output.status.success().then(|| String::from_utf8(output.stdout).ok())??;
    Some(text.trim().to_owned())
}
