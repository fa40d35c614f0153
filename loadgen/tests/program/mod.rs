//! Starts the program as a user does, and reads what it leaves.
#![allow(dead_code, reason = "each test crate uses its part of it")]

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use record::{Invocation, InvocationReader, LoadSummary, read_json};
use tempfile::TempDir;

/// The program with arguments, its output kept.
pub(crate) fn loadgen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end: exit code, standard output, standard error.
pub(crate) fn run(arguments: &[&str]) -> (i32, String, String) {
    ended(loadgen(arguments).output().expect("loadgen starts"))
}

/// `loadgen run` of a schedule against an address, into `out`; what [`run`] gives.
pub(crate) fn replay(scratch: &Scratch, schedule: &str, address: &str, more: &[&str]) -> (i32, String, String) {
    let out = scratch.path("out");
    let fixed = ["run", "--schedule", schedule, "--address", address, "--out", &out, "--realtime", "off"];
    run(&[fixed.as_slice(), more].concat())
}

/// Exit code, standard output, standard error.
pub(crate) fn ended(output: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is text");
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// Waits until something is so, at most ten seconds.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited ten seconds in vain until {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// A directory for a run, and what is in it afterwards.
pub(crate) struct Scratch(pub(crate) TempDir);

impl Scratch {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    /// A path in it, as text.
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("the path is text").to_owned()
    }

    /// The rows a run left in `out`, ordered by index; each index exactly once.
    pub(crate) fn rows(&self) -> Vec<Invocation> {
        let mut rows = read_rows(&self.0.path().join("out/invocations.csv.zst"));
        rows.sort_by_key(|row| row.index);
        let indices: Vec<u64> = rows.iter().map(|row| row.index).collect();
        assert_eq!(indices, (0..indices.len() as u64).collect::<Vec<_>>(), "each scheduled row has exactly one");
        rows
    }

    /// The summary a run left in `out`.
    pub(crate) fn summary(&self) -> LoadSummary {
        read_json(&self.0.path().join("out/loadgen.json")).expect("a summary")
    }

    /// Writes a schedule: the names of functions, each invoked once, at the milliseconds given.
    pub(crate) fn schedule(&self, rows: &[(u64, &str)]) -> String {
        let mut functions: Vec<&str> = rows.iter().map(|row| row.1).collect();
        functions.sort_unstable();
        functions.dedup();
        let span_ns = rows.last().map_or(0, |row| row.0) * 1_000_000 + 1;
        let mut text = format!(
            "setting,value\nformat,dirigent-schedule\nversion,1\nseed,7\nspan_ns,{span_ns}\nfunctions,{}\ninvocations,{}\n",
            functions.len(),
            rows.len()
        );
        text.push_str("\nfunction,memory_mib,invocations\n");
        for function in functions {
            let count = rows.iter().filter(|row| row.1 == function).count();
            writeln!(text, "{function},128,{count}").unwrap();
        }
        text.push_str("\ndue_ns,function,run_us,memory_mib,phase\n");
        for (ms, function) in rows {
            writeln!(text, "{},{function},1000,64,measured", ms * 1_000_000).unwrap();
        }
        let path = self.path("schedule.csv");
        fs::write(&path, text).unwrap();
        path
    }
}

/// Every row of a file that can be read.
pub(crate) fn read_rows(path: &Path) -> Vec<Invocation> {
    let path: PathBuf = path.to_owned();
    InvocationReader::open(&path).expect("rows").map(|row| row.expect("a row")).collect()
}

/// A child that is ended with the test.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        nix::sys::signal::kill(pid, signal).expect("it runs");
    }

    /// Waits for its end: exit code and standard error.
    pub(crate) fn end(mut self) -> (i32, String) {
        let mut errors = String::new();
        std::io::Read::read_to_string(&mut self.0.stderr.take().unwrap(), &mut errors).unwrap();
        (self.0.wait().unwrap().code().unwrap_or(-1), errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
