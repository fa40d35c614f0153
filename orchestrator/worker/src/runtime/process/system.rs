//! The worker's system calls that need `unsafe`: the code that a child runs between fork and exec.
#![allow(unsafe_code, reason = "code between fork and exec is unsafe by nature; each block says why it is sound")]

use std::{
    fs::File,
    io::{self, Write},
    os::unix::process::CommandExt,
    process::Command,
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::Signal,
    },
    unistd::{Pid, getppid},
};

/// Makes the child of `command` die with the thread that starts it, makes it the reaper of its descendants, limits its
/// private memory to `memory_bytes`, and moves it into the control group of which `members` is the member file.
/// `parent` is this process.
///
/// The limit is `RLIMIT_DATA`, private writable memory. A limit of the address space would stop language runtimes that
/// reserve much and use little.
pub(super) fn confine_child(command: &mut Command, parent: Pid, memory_bytes: Option<u64>, members: Option<File>) {
    let confine = move || -> io::Result<()> {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // A descendant that loses its parent stays below this process, so that its memory is counted.
        prctl::set_child_subreaper(true)?;
        // If the parent has died before the first call, the signal would never come.
        if getppid() != parent {
            return Err(Errno::ESRCH.into());
        }
        if let Some(bytes) = memory_bytes {
            setrlimit(Resource::RLIMIT_DATA, bytes, bytes)?;
        }
        if let Some(mut members) = members.as_ref() {
            members.write_all(b"0")?;
        }
        Ok(())
    };
    // SAFETY: the closure runs in the child between fork and exec, where only async-signal-safe calls are allowed. It
    // makes five system calls (prctl twice, getppid, setrlimit, write) through thin wrappers of nix and std, takes no
    // lock and allocates nothing: an errno becomes an `io::Error` by value, and a file has no buffer.
    unsafe { command.pre_exec(confine) };
}

/// Makes the child of `command` keep its user and capabilities: set-user-ID programs run without the rights of their
/// owner.
pub(super) fn forbid_new_privileges(command: &mut Command) {
    let keep = || Ok(prctl::set_no_new_privs()?);
    // SAFETY: as above; one system call (prctl), which needs no right, so it works after the user has changed.
    unsafe { command.pre_exec(keep) };
}
