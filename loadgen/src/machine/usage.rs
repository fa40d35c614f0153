//! Resources that this process uses and may use: CPU time, cores, open files.

use std::{fs::File, io};

use nix::{
    sched::{CpuSet, sched_getaffinity},
    sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit},
    sys::time::TimeValLike,
    unistd::Pid,
};

/// CPU time this process has used so far, user and kernel, in microseconds.
pub(crate) fn process_cpu_us() -> u64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| {
        let total = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        u64::try_from(total).unwrap_or(0)
    })
}

/// Cores this process may run on.
pub(crate) fn cores() -> u64 {
    let allowed = sched_getaffinity(Pid::from_raw(0))
        .map_or(1, |set| (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).count());
    u64::try_from(allowed.max(1)).unwrap_or(1)
}

/// Raises the limit of open files to the most this user may have, since each concurrent invocation over HTTP/1.1 needs
/// a connection. Returns the limit, or nothing when the system does not say.
pub(crate) fn raise_open_files() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return Some(hard);
    }
    Some(soft)
}

/// Descriptors kept free while invocations may use up all others: for the summary, the histogram and the connections
/// that remove functions. They are free again when this is dropped.
#[derive(Debug)]
pub(crate) struct SpareFiles(#[expect(dead_code, reason = "held, not read")] Vec<File>);

/// Sixteen connections to a control plane, and the files of the run.
const SPARE_FILES: usize = 24;

impl SpareFiles {
    /// Keeps them free from now on.
    ///
    /// # Errors
    /// If this process may not even open so many.
    pub(crate) fn reserve() -> io::Result<Self> {
        (0..SPARE_FILES).map(|_| File::open("/dev/null")).collect::<io::Result<_>>().map(Self)
    }
}
