//! The lock of a directory that one process at a time may write into: a run's, a daemon's data.
//!
//! The lock is the kernel's (`flock`), so it ends with its holder however that ends, and a file that is left behind by
//! a killed process locks nothing. The content of the file only names the holder.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Seek, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Name of the file within the directory.
pub const LOCK_FILE: &str = "lock";

/// The holder of a lock, for the error of a process that finds it locked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub process: u32,
    /// Instant of locking, RFC 3339, UTC.
    pub since: String,
    /// The activity of the holder, for example its command line.
    pub purpose: String,
}

/// An error of locking a directory.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process holds the lock.
    #[error("{} is in use by {}", directory.display(), describe(holder.as_ref()))]
    Held {
        /// The directory.
        directory: PathBuf,
        /// The holder; `None` in the instant before it has written its name.
        holder: Option<Holder>,
    },
    /// The lock's file cannot be used.
    #[error("cannot lock {}", path.display())]
    File {
        /// The lock's file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

fn describe(holder: Option<&Holder>) -> String {
    match holder {
        Some(Holder { process, since, purpose }) => format!("process {process} ({purpose}) since {since}"),
        None => "another process".to_owned(),
    }
}

/// A held lock; dropping it releases it.
#[derive(Debug)]
#[must_use]
pub struct DirectoryLock {
    file: File,
}

impl DirectoryLock {
    /// Locks a directory, creating it if it does not exist. Only the lock's file is written.
    ///
    /// # Errors
    /// [`LockError::Held`] if another process holds it: nothing is changed then.
    pub fn take(directory: &Path, holder: &Holder) -> Result<Self, LockError> {
        let path = directory.join(LOCK_FILE);
        let failed = |source| LockError::File { path: path.clone(), source };
        fs::create_dir_all(directory).map_err(failed)?;
        // Not truncated before it is locked: it says who holds it.
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(directory)),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let mut lock = Self { file };
        lock.say(holder).map_err(failed)?;
        Ok(lock)
    }

    /// Returns `Ok` if the lock of a directory is free at the moment; changes nothing, so that it works in read-only
    /// directories.
    ///
    /// # Errors
    /// [`LockError::Held`] if a process holds it.
    pub fn check(directory: &Path) -> Result<(), LockError> {
        let Ok(file) = File::open(directory.join(LOCK_FILE)) else { return Ok(()) };
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Err(held(directory)),
            // Where files cannot be locked nobody holds one.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
        }
    }

    fn say(&mut self, holder: &Holder) -> io::Result<()> {
        let text = serde_json::to_string(holder).map_err(io::Error::other)?;
        self.file.set_len(0)?;
        self.file.rewind()?;
        writeln!(self.file, "{text}")?;
        self.file.flush()
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // The file stays, because one that is removed could be locked by two; what it said is no longer so.
        let _ = self.file.set_len(0);
        // To close it is not enough: a child of another thread has it open, too, from its fork until it runs its program.
        let _ = self.file.unlock();
    }
}

fn held(directory: &Path) -> LockError {
    let text = fs::read(directory.join(LOCK_FILE)).unwrap_or_default();
    LockError::Held { directory: directory.to_owned(), holder: serde_json::from_slice(&text).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(purpose: &str) -> Holder {
        Holder { process: 7, since: "2026-01-02T03:04:05Z".to_owned(), purpose: purpose.to_owned() }
    }

    #[test]
    fn a_second_process_learns_the_holder_and_takes_the_lock_when_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("new");
        let first = DirectoryLock::take(&directory, &holder("repro run toy")).unwrap();
        let refused = DirectoryLock::take(&directory, &holder("repro run --resume new")).unwrap_err().to_string();
        let expected = "is in use by process 7 (repro run toy) since 2026-01-02T03:04:05Z";
        assert!(refused.ends_with(expected), "expected {expected:?}, found {refused:?}");
        let checked = DirectoryLock::check(&directory).unwrap_err().to_string();
        assert_eq!(checked, refused, "who only asks is told the same, and a refusal has changed nothing");
        drop(first);
        DirectoryLock::check(&directory).unwrap();
        let second = DirectoryLock::take(&directory, &holder("again")).unwrap();
        drop(second);
    }

    #[test]
    fn it_is_given_back_also_where_a_forked_child_still_has_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::take(folder.path(), &holder("first")).unwrap();
        // As a child has it: another descriptor of the same open file.
        let inherited = lock.file.try_clone().unwrap();
        drop(lock);
        DirectoryLock::check(folder.path()).unwrap();
        drop(inherited);
    }

    #[test]
    fn what_a_killed_holder_wrote_locks_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(LOCK_FILE), serde_json::to_string(&holder("killed")).unwrap()).unwrap();
        DirectoryLock::check(folder.path()).unwrap();
        let lock = DirectoryLock::take(folder.path(), &holder("next")).unwrap();
        let said: Holder = serde_json::from_slice(&fs::read(folder.path().join(LOCK_FILE)).unwrap()).unwrap();
        assert_eq!(said, holder("next"));
        drop(lock);
    }

    #[test]
    fn a_place_that_cannot_hold_a_lock_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = DirectoryLock::take(&file, &holder("first")).unwrap_err().to_string();
        assert_eq!(error, format!("cannot lock {}", file.join(LOCK_FILE).display()));
    }

    #[test]
    fn a_holder_that_has_not_written_its_name_yet_is_another_process() {
        let folder = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::take(folder.path(), &holder("first")).unwrap();
        lock.file.set_len(0).unwrap();
        let error = DirectoryLock::check(folder.path()).unwrap_err().to_string();
        assert_eq!(error, format!("{} is in use by another process", folder.path().display()));
        drop(lock);
    }

    #[test]
    fn a_released_lock_names_nobody() {
        let folder = tempfile::tempdir().unwrap();
        drop(DirectoryLock::take(folder.path(), &holder("first")).unwrap());
        assert_eq!(fs::read(folder.path().join(LOCK_FILE)).unwrap(), b"");
    }

    #[test]
    fn a_directory_without_a_lock_is_free_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        DirectoryLock::check(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
