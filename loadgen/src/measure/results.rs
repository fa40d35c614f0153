//! The directory that a run leaves its files in: never one that holds other results, and never without a summary.
//!
//! Its summary is there before the first row, says that the run did not reach its end, and has room for the real one: a
//! load generator that is killed, or whose disk is full, leaves no rows without a summary to judge them by.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use record::{LoadSummary, PointDir, write_json};
use terminal::UsageError;

/// Bytes that the summary has on disk from the start; one is a few kilobytes, most of it notes.
const SUMMARY_BYTES: usize = 64 * 1024;

/// The directory of one run's results.
#[derive(Debug)]
pub(crate) struct Results {
    files: PointDir,
    /// The directory, locked by the kernel for as long as this lives: nothing is left behind, however the run ends.
    _lock: File,
}

/// Makes the directory of `--out`.
///
/// # Errors
/// [`UsageError`] when it is a file; otherwise when it cannot be made.
pub(crate) fn make_directory(out: &Path) -> anyhow::Result<()> {
    if out.exists() && !out.is_dir() {
        return Err(UsageError::of(anyhow::anyhow!("--out {}: expected a directory, found a file", out.display())));
    }
    fs::create_dir_all(out).with_context(|| format!("--out {}: the directory cannot be made", out.display()))
}

/// Locks the directory. Where directories cannot be locked, as on some network file systems, two runs are not distinguished.
fn lock(out: &Path) -> anyhow::Result<File> {
    let directory = File::open(out).with_context(|| format!("--out {}", out.display()))?;
    if matches!(directory.try_lock(), Err(TryLockError::WouldBlock)) {
        let problem = "another loadgen run is writing into it; each needs a directory of its own";
        return Err(UsageError::of(anyhow::anyhow!("--out {}: {problem}", out.display())));
    }
    Ok(directory)
}

impl Results {
    /// Makes the directory. One that has results of an earlier run is refused, or with `overwrite` they are removed; one
    /// that a run under way writes into is refused in any case.
    ///
    /// # Errors
    /// [`UsageError`] when there are results, or another run; otherwise when the directory cannot be made or emptied.
    pub(crate) fn create(out: &Path, overwrite: bool) -> anyhow::Result<Self> {
        make_directory(out)?;
        let files = PointDir { path: out.to_owned(), system: String::new(), point: String::new(), repetition: 1 };
        let results = Self { files, _lock: lock(out)? };
        for path in results.possible() {
            if !path.exists() {
                continue;
            }
            if !overwrite {
                let problem =
                    format!("{} is there already; --overwrite removes an earlier run's files", path.display());
                return Err(UsageError::of(anyhow::anyhow!("--out {}: {problem}", out.display())));
            }
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
        Ok(results)
    }

    /// Path of the rows.
    pub(crate) fn invocations(&self) -> PathBuf {
        self.files.invocations()
    }

    /// Path of the histogram of latencies.
    pub(crate) fn histogram(&self) -> PathBuf {
        self.files.histogram()
    }

    /// Writes the summary of a run that does not reach its end, with room for the one of a run that does.
    ///
    /// # Errors
    /// If it cannot be written, so that no run begins whose result could not be kept.
    pub(crate) fn begin(&self, unfinished: &LoadSummary) -> anyhow::Result<()> {
        self.write_in_place(unfinished).context("writing loadgen.json")
    }

    /// Replaces the summary; in the room it has when the disk has no other.
    ///
    /// # Errors
    /// If it cannot be written at all.
    pub(crate) fn finish(&self, summary: &LoadSummary) -> anyhow::Result<()> {
        let path = self.files.loadgen();
        if write_json(&path, summary).is_ok() {
            return Ok(());
        }
        // The half-written copy takes space that something else may need; that it cannot be removed changes nothing.
        let _ = fs::remove_file(path.with_extension("partial"));
        self.write_in_place(summary).context("writing loadgen.json")
    }

    fn write_in_place(&self, summary: &LoadSummary) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec_pretty(summary)?;
        if text.len() > SUMMARY_BYTES {
            bail!("a summary of {} bytes, at most {SUMMARY_BYTES} have room", text.len());
        }
        // White space after the document: a reader sees none of it.
        text.resize(SUMMARY_BYTES, b'\n');
        let write = |path: &Path| -> io::Result<()> {
            let mut file = File::options().write(true).create(true).truncate(false).open(path)?;
            file.write_all(&text)
        };
        write(&self.files.loadgen()).with_context(|| self.files.loadgen().display().to_string())
    }

    /// Every file that a run, or a reader of its rows, leaves: next to rows of another run each would be wrong.
    fn possible(&self) -> [PathBuf; 7] {
        let files = &self.files;
        [
            files.invocations(),
            files.loadgen(),
            files.histogram(),
            files.coldstarts(),
            files.actions(),
            files.processes(),
            files.nodes(),
        ]
    }
}
