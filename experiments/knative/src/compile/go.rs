//! The Go toolchain: its version, and running it with progress shown.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    io::{BufRead, BufReader, IsTerminal},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use indicatif::ProgressBar;

/// Remedy if there is no Go toolchain that builds the baseline.
pub(super) const FIX: &str = "install Go 1.21 or newer: https://go.dev/doc/install";

/// The oldest release that does.
const OLDEST: (u32, u32) = (1, 21);

/// Interval of lines where there is no terminal.
const PLAIN_LINE: Duration = Duration::from_secs(15);

/// Lines of a failed build that are worth repeating.
const TAIL_LINES: usize = 25;

/// The version of the toolchain on the search path.
///
/// # Errors
/// If there is none, or it is too old; the message says how to get one.
pub(super) fn version() -> anyhow::Result<String> {
    let output = Command::new("go").arg("version").stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("there is no Go toolchain: {FIX}"))?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if release(&version).is_some_and(|release| release < OLDEST) {
        bail!("{version} is too old: {FIX}");
    }
    Ok(version)
}

/// The release that `go version` tells of; `None` of one that is none.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split_whitespace().nth(2)?.strip_prefix("go")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Refuses a program that was not built from this version of the module, by what its linker wrote into it.
///
/// # Errors
/// If it was not, or `go` cannot tell.
pub(super) fn require_module(folder: &Path, program: &Path, module: &str, version: &str) -> anyhow::Result<()> {
    let version_output = output(folder, &[OsStr::new("version"), OsStr::new("-m"), program.as_os_str()])?;
    let found = version_output.lines().any(|line| line.split_whitespace().skip(1).take(2).eq([module, version]));
    if !found {
        bail!("{} was not built from {module} {version}", program.display());
    }
    Ok(())
}

/// A `go` command in a module's folder, with the environment that makes builds repeatable: the committed `go.sum`
/// decides what is downloaded, and nothing of the user's own settings changes what is built.
fn command(folder: &Path) -> Command {
    let mut go = Command::new("go");
    go.current_dir(folder).stdin(Stdio::null());
    for (name, value) in [
        ("GOFLAGS", "-mod=readonly -buildvcs=false"),
        ("GOWORK", "off"),
        ("GOTOOLCHAIN", "local"),
        ("CGO_ENABLED", "0"),
    ] {
        go.env(name, value);
    }
    go
}

/// Runs `go` and gives its output.
///
/// # Errors
/// If it fails, with what it said.
pub(super) fn output<S: AsRef<OsStr>>(folder: &Path, arguments: &[S]) -> anyhow::Result<String> {
    let output = command(folder).args(arguments).output().with_context(|| format!("cannot start go: {FIX}"))?;
    if !output.status.success() {
        bail!("go failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `go build -v`, showing under `what` how many modules were fetched and packages compiled.
///
/// # Errors
/// If it fails, with the end of what it said.
pub(super) fn build<S: AsRef<OsStr>>(folder: &Path, what: &str, arguments: &[S]) -> anyhow::Result<()> {
    let mut build = command(folder);
    build.args(["build", "-v", "-trimpath"]).args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = build.spawn().with_context(|| format!("cannot start go: {FIX}"))?;
    let messages = child.stderr.take().context("reading what go says")?;
    let mut progress = Progress::new(what);
    for line in BufReader::new(messages).lines() {
        progress.line(&line.context("reading what go says")?);
    }
    let status = child.wait().context("waiting for go")?;
    progress.finish();
    if !status.success() {
        bail!("building {what} failed:\n{}", progress.tail());
    }
    Ok(())
}

/// Progress of a build.
struct Progress {
    what: String,
    bar: ProgressBar,
    began: Instant,
    shown: Instant,
    fetched: usize,
    compiled: usize,
    last: VecDeque<String>,
}

impl Progress {
    fn new(what: &str) -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        bar.enable_steady_tick(Duration::from_millis(100));
        let now = Instant::now();
        Self { what: what.to_owned(), bar, began: now, shown: now, fetched: 0, compiled: 0, last: VecDeque::new() }
    }

    fn line(&mut self, line: &str) {
        if line.starts_with("go: downloading ") {
            self.fetched += 1;
        } else if !line.contains(' ') && line.contains('/') || !line.contains([' ', ':', '#']) {
            self.compiled += 1;
        } else {
            self.last.push_back(line.to_owned());
            if self.last.len() > TAIL_LINES {
                self.last.pop_front();
            }
        }
        self.bar.set_message(self.text());
        if self.bar.is_hidden() && self.shown.elapsed() >= PLAIN_LINE {
            self.shown = Instant::now();
            terminal::note!("{}", self.text());
        }
    }

    fn text(&self) -> String {
        let fetched = if self.fetched > 0 { format!("{} modules fetched, ", self.fetched) } else { String::new() };
        let seconds = self.began.elapsed().as_secs();
        format!("building {}: {fetched}{} packages compiled, {seconds} s", self.what, self.compiled)
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
        terminal::note!("{}", self.text());
    }

    fn tail(&self) -> String {
        self.last.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_counts_packages_and_modules_and_keeps_the_end_of_the_errors() {
        let mut progress = Progress::new("etcd (1 of 5)");
        for line in ["go: downloading a/b v1.2.3", "internal/cpu", "runtime", "go.etcd.io/etcd/server/v3", "# a/b"] {
            progress.line(line);
        }
        (0..TAIL_LINES).for_each(|number| progress.line(&format!("main.go:{number}:1: undefined: x")));
        assert_eq!((progress.fetched, progress.compiled), (1, 3));
        assert!(progress.text().starts_with("building etcd (1 of 5): 1 modules fetched, 3 packages compiled, "));
        let tail = progress.tail();
        assert_eq!(tail.lines().count(), TAIL_LINES);
        assert!(tail.starts_with("  main.go:0:1: ") && !tail.contains("# a/b"), "{tail}");
    }

    #[test]
    fn the_environment_of_builds_is_not_the_users() {
        let command = command(Path::new("/module"));
        let value = |name: &str| {
            let mut set = command.get_envs().filter(|(key, _)| *key == name);
            set.next().and_then(|(_, value)| value?.to_str())
        };
        assert_eq!(value("GOFLAGS"), Some("-mod=readonly -buildvcs=false"));
        assert_eq!(
            (value("GOWORK"), value("GOTOOLCHAIN"), value("CGO_ENABLED")),
            (Some("off"), Some("local"), Some("0"))
        );
        assert_eq!(command.get_current_dir(), Some(Path::new("/module")));
    }

    #[test]
    fn releases_are_compared_as_numbers() {
        let found =
            ["go version go1.9.7 linux/amd64", "go version go1.21 linux/amd64", "go version go1.26.8 linux/amd64"]
                .map(|text| release(text).unwrap() < OLDEST);
        assert_eq!(found, [true, false, false]);
        assert_eq!(release("go version devel +b7a85e0003 linux/amd64"), None, "its number is not known: it is tried");
    }
}
