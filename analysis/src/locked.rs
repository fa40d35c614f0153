//! The lock of a run's directory, for commands that write into it: two reports at once would mix their files, and one beside a
//! measurement would be of a run that is none yet.

use std::{env, path::Path, process, time::SystemTime};

use record::{DirectoryLock, Holder, LockError};

/// Locks the directory. With `by_caller` the process that started this one holds the lock, and it stays with it; where nobody does,
/// it is taken all the same.
///
/// # Errors
/// When another process has it, which is named, or the directory cannot be written to.
pub(crate) fn locked(directory: &Path, by_caller: bool) -> Result<Option<DirectoryLock>, LockError> {
    if by_caller && matches!(DirectoryLock::check(directory), Err(LockError::Held { .. })) {
        return Ok(None);
    }
    let purpose: Vec<String> = env::args_os().map(|each| each.to_string_lossy().into_owned()).collect();
    let since = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    DirectoryLock::take(directory, &Holder { process: process::id(), since, purpose: purpose.join(" ") }).map(Some)
}
