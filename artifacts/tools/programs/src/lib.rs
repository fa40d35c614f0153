//! Builds and finds the programs of this workspace for the tests that start them, and says which of these are skipped;
//! starts a program on a terminal of its own.
//!
//! A test of one crate often needs the program of another, which `cargo test -p` does not build. This asks cargo for
//! it once per process, in the profile and target directory of the test itself.

mod command_line;
mod errors;
mod terminal;

use std::{
    collections::BTreeMap,
    io::{self, Cursor, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use cargo_metadata::Message;
pub use command_line::command_line_faults;
pub use errors::is_one_error;
pub use terminal::on_a_terminal;
use thiserror::Error;

/// Every program, and the package it belongs to.
pub const PROGRAMS: [(&str, &str); 7] = [
    ("trace-function", "trace-function"),
    ("loadgen", "loadgen"),
    ("dirigent", "dirigent"),
    ("driver", "driver"),
    ("repro", "experiments"),
    ("analysis", "analysis"),
    ("knative", "knative"),
];

/// The workspace's manifest, as of when this crate was compiled.
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../Cargo.toml");

/// Lines of a failed build's error output that are worth repeating: the last error and its summary.
const ERROR_LINES: usize = 40;

/// Says that a test is skipped, and why; also where the test runner keeps what passing tests print to itself, as it does
/// with the printing macros.
pub fn say_skipped(test: &str, why: &str) {
    // A test that cannot say so passes all the same.
    let _ = writeln!(io::stderr(), "skipped {test}: {why}");
}

/// A program could not be built.
#[derive(Clone, Debug, Error)]
pub enum BuildError {
    /// There is no program of that name.
    #[error("no program is called {name:?}; there are: {}", PROGRAMS.map(|(program, _)| program).join(", "))]
    Unknown {
        /// The program asked for.
        name: String,
    },
    /// Cargo itself could not be started.
    #[error("cannot start cargo to build {name}: {problem}")]
    Start {
        /// The program.
        name: String,
        /// The operating system's reason.
        problem: String,
    },
    /// Cargo ran and failed.
    #[error("cargo could not build {name}:\n{output}")]
    Failed {
        /// The program.
        name: String,
        /// The end of its error output.
        output: String,
    },
    /// Cargo was content but named no executable.
    #[error("cargo built {name} but named no executable")]
    NoExecutable {
        /// The program.
        name: String,
    },
}

/// The packages built in this process so far. A test binary runs its tests in threads; one build serves all.
static BUILT: Mutex<BTreeMap<String, Result<PathBuf, BuildError>>> = Mutex::new(BTreeMap::new());

/// The executable of the program called `name` (see [`PROGRAMS`]), built when it is out of date.
///
/// The build is `--locked`, in the test's own profile; `CARGO_TARGET_DIR` and the like are honoured because cargo
/// inherits them.
///
/// # Errors
/// If there is no such program, or cargo cannot build it; the result is the same for the whole process.
pub fn path(name: &str) -> Result<PathBuf, BuildError> {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = built.get(name) {
        return known.clone();
    }
    let result = build(name);
    built.insert(name.to_owned(), result.clone());
    result
}

fn build(name: &str) -> Result<PathBuf, BuildError> {
    let owned = || name.to_owned();
    if !PROGRAMS.iter().any(|(program, _)| *program == name) {
        return Err(BuildError::Unknown { name: owned() });
    }
    let output = command(name).output().map_err(|e| BuildError::Start { name: owned(), problem: e.to_string() })?;
    let mut rendered = Vec::new();
    let mut executable = None;
    for message in Message::parse_stream(Cursor::new(&output.stdout)).map_while(Result::ok) {
        match message {
            Message::CompilerArtifact(artifact) if artifact.target.name == name && artifact.target.is_bin() => {
                executable = artifact.executable.map(PathBuf::from).or(executable);
            }
            Message::CompilerMessage(message) => rendered.extend(message.message.rendered),
            _ => {}
        }
    }
    if !output.status.success() {
        let all = rendered.concat() + &String::from_utf8_lossy(&output.stderr);
        return Err(BuildError::Failed { name: owned(), output: last_lines(&all) });
    }
    executable.ok_or_else(|| BuildError::NoExecutable { name: owned() })
}

/// `--workspace --bin`, not `--package`: so features are resolved as in `cargo test --workspace`, whose compiled
/// dependencies then serve all programs instead of being built again for each.
fn command(name: &str) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--locked", "--workspace", "--bin", name, "--message-format=json", "--manifest-path"]);
    command.arg(MANIFEST).arg("--profile").arg(own_profile());
    command
}

/// The profile this process was built in: the name of the folder above `deps`, where cargo puts test executables.
fn own_profile() -> String {
    let executable = std::env::current_exe().unwrap_or_default();
    profile_of(&executable).unwrap_or_else(|| if cfg!(debug_assertions) { "dev" } else { "release" }.to_owned())
}

fn profile_of(executable: &Path) -> Option<String> {
    let folder = executable.ancestors().find(|path| path.ends_with("deps") || path.ends_with("examples"))?;
    let profile = folder.parent()?.file_name()?.to_str()?;
    Some(if profile == "debug" { "dev" } else { profile }.to_owned())
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(ERROR_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_program_is_an_executable_that_runs() {
        let function = path("trace-function").unwrap();
        let output = Command::new(&function).arg("--version").output().unwrap();
        assert!(output.status.success(), "{} --version: {output:?}", function.display());
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("trace-function "), "{output:?}");
    }

    #[test]
    fn an_unknown_program_is_refused_with_the_known_ones() {
        let error = path("nonesuch").unwrap_err().to_string();
        assert!(error.contains("nonesuch") && error.contains("dirigent"), "{error}");
    }

    #[test]
    fn the_profile_is_read_from_the_path_of_the_executable() {
        let profile = |path: &str| profile_of(Path::new(path));
        assert_eq!(profile("t/debug/deps/worker-1f"), Some("dev".to_owned()));
        assert_eq!(profile("t/release/deps/worker-1f"), Some("release".to_owned()));
        assert_eq!(profile("t/x86_64-unknown-linux-gnu/fast/examples/e"), Some("fast".to_owned()));
        assert_eq!(profile("usr/bin/worker"), None);
    }

    #[test]
    fn only_the_end_of_a_long_error_is_kept() {
        let text: String = (0..100).map(|line| format!("{line}\n")).collect();
        assert!(last_lines(&text).starts_with("60\n") && last_lines(&text).ends_with("99"));
    }
}
