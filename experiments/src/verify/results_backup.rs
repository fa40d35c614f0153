//! Backup of a run's previous results while they are made again: if that fails, they are restored.
//!
//! Invariants, statistics, claims and page belong together. `repro verify` asks the invariants whether claims still count,
//! so that none of them may be left beside invariants that it was not made by.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use record::{Invariants, RunDir};

use crate::run::preparation;

/// The invariants that were found, and what was judged before, aside.
#[must_use = "what was judged before is put back, or removed, by `settle`"]
pub struct ResultsBackup {
    /// The new invariants, as they are on record.
    pub invariants: Invariants,
    dir: RunDir,
}

impl ResultsBackup {
    /// Moves aside what was judged of a run. What a killed process left aside is put back before.
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

    /// Ends it: where what was to be made was made, what was judged before is removed, and else it is put back.
    ///
    /// # Errors
    /// That of what was to be made; or when something cannot be moved or removed.
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

/// Invariants, statistics, claims and page. Claims first: of what is left when a move is interrupted, they are what would be
/// believed.
pub(super) fn parts(dir: &RunDir) -> [PathBuf; 4] {
    [dir.claims(), dir.invariants(), dir.summary(), dir.report()]
}

/// Puts back what is aside, in place of what was made since; nothing where nothing is. Whenever it ends early it can be done
/// again. Claims come last.
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
