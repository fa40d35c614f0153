//! Backup of a run's previous results while they are made again: if that fails, they are restored.
//!
//! Invariants, statistics, claims and page belong together: claims are valid only with the invariants that they were evaluated
//! with, so that all four are replaced or restored at once.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use record::{Invariants, RunDir};

use crate::run::preparation;

/// The new invariants, and the previous results as a backup.
#[must_use = "the previous results are restored, or removed, by `finish`"]
pub struct ResultsBackup {
    /// The new invariants, as they are on record.
    pub invariants: Invariants,
    dir: RunDir,
}

impl ResultsBackup {
    /// Moves the previous results of a run to the backup. A backup that a killed process left is restored first.
    pub(super) fn begin(dir: &RunDir, invariants: Invariants) -> anyhow::Result<Self> {
        restore(dir)?;
        let (results_backup, moving) = (dir.judged_before(), moving(dir));
        let there: Vec<PathBuf> = parts(dir).into_iter().filter(|part| part.exists()).collect();
        if !there.is_empty() {
            fs::create_dir_all(&moving).with_context(|| format!("making {}", moving.display()))?;
            there.iter().try_for_each(|part| rename(part, &of(&moving, part)))?;
            rename(&moving, &results_backup)?;
        }
        Ok(Self { invariants, dir: dir.clone() })
    }

    /// Removes the backup if the new results were made, else restores it.
    ///
    /// # Errors
    /// The error of `made`; or if a file cannot be moved or removed.
    pub fn finish<T>(self, made: anyhow::Result<T>) -> anyhow::Result<T> {
        match made {
            Ok(made) => preparation::remove(&self.dir.judged_before()).map(|()| made),
            Err(error) => match restore(&self.dir) {
                Ok(()) => Err(error),
                Err(worse) => Err(error.context(format!("{worse:#}"))),
            },
        }
    }
}

/// Invariants, statistics, claims and page. Claims are moved first: after an interrupted move, stale claims would be the most
/// misleading of them.
pub(super) fn parts(dir: &RunDir) -> [PathBuf; 4] {
    [dir.claims(), dir.invariants(), dir.summary(), dir.report()]
}

/// Restores the backup, replacing the results made since; does nothing without a backup. It can be repeated after an
/// interruption. Claims come last.
fn restore(dir: &RunDir) -> anyhow::Result<()> {
    let (results_backup, moving) = (dir.judged_before(), moving(dir));
    if results_backup.exists() {
        parts(dir).iter().try_for_each(|part| remove(part))?;
        rename(&results_backup, &moving)?;
    }
    for part in parts(dir).iter().rev().filter(|part| of(&moving, part).exists()) {
        remove(part)?;
        rename(&of(&moving, part), part)?;
    }
    preparation::remove(&moving)
}

/// Directory of files that are being moved, one by one: to the backup, or back.
pub(super) fn moving(dir: &RunDir) -> PathBuf {
    dir.judged_before().with_extension("moving")
}

/// Path of a file in the backup.
fn of(results_backup: &Path, part: &Path) -> PathBuf {
    results_backup.join(part.file_name().unwrap_or_default())
}

fn rename(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::rename(from, to).with_context(|| format!("moving {} to {}", from.display(), to.display()))
}

/// Removes a file or folder that may be missing.
pub(super) fn remove(path: &Path) -> anyhow::Result<()> {
    if path.is_dir() {
        return preparation::remove(path);
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}
