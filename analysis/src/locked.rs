//! The lock of a run's directory, for commands that write into it: two reports at once would mix their files, and one beside a
//! measurement would be of a run that is none yet.

use std::{
    env, fs,
    os::unix::{fs::MetadataExt, process::parent_id},
    path::Path,
    process,
    time::SystemTime,
};

use anyhow::{Context, Result};
use record::{DirectoryLock, Holder, LOCK_FILE, LockError};

/// Bound of the walk over this process's ancestors: above any depth that programs start each other in.
const MAX_ANCESTORS: usize = 256;

/// Locks the directory. With `by_caller` the process that started this one, or one before that, may hold the lock, and it
/// stays with it; where nobody does, it is taken all the same.
///
/// # Errors
/// If another process has it, which is named, or the directory cannot be written to.
pub(crate) fn locked(directory: &Path, by_caller: bool) -> Result<Option<DirectoryLock>> {
    if by_caller && let Err(held @ LockError::Held { .. }) = DirectoryLock::check(directory) {
        if is_held_by_ancestor(directory) {
            return Ok(None);
        }
        return Err(held).context("--under-lock: the lock is held, but by none of the processes that started this one");
    }
    let purpose: Vec<String> = env::args_os().map(|each| each.to_string_lossy().into_owned()).collect();
    let since = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let holder = Holder { process: process::id(), since, purpose: purpose.join(" ") };
    Ok(Some(DirectoryLock::take(directory, &holder)?))
}

/// Returns true if a process that this one descends from has the lock, by the kernel's table of locks: the id in the
/// file may be of another PID namespace.
fn is_held_by_ancestor(directory: &Path) -> bool {
    let Ok(lock) = fs::metadata(directory.join(LOCK_FILE)) else { return false };
    let ancestors = std::iter::successors(Some(parent_id()), |process| parent_of(*process));
    ancestors.take(MAX_ANCESTORS).any(|process| holds(process, (lock.dev(), lock.ino())))
}

/// Returns true if a process has locked this file (device and inode).
fn holds(process: u32, file: (u64, u64)) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    descriptors.flatten().any(|descriptor| {
        let is_this = fs::metadata(descriptor.path()).is_ok_and(|found| (found.dev(), found.ino()) == file);
        let number = descriptor.file_name();
        let said = || fs::read_to_string(format!("/proc/{process}/fdinfo/{}", number.display()));
        is_this && said().is_ok_and(|said| said.lines().any(|line| line.starts_with("lock:") && line.contains("FLOCK")))
    })
}

/// The parent of a process; `None` for the first one of its namespace.
fn parent_of(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in brackets, may hold anything; state and parent come after it.
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(1)?.parse().ok().filter(|parent| *parent > 0)
}
