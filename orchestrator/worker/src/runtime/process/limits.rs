//! The memory limits of one sandbox and their enforcement.

use std::{io, process::Command};

use bytesize::ByteSize;
use nix::{
    sys::resource::{Resource, getrlimit},
    unistd::getpid,
};

use super::{Shared, cgroup::Cgroup, monitor::MemoryAllowance, system};
use crate::runtime::CreationRequest;

/// Limits of one sandbox.
#[derive(Debug)]
pub(super) struct Limits {
    /// Bytes that each of its processes may reserve (`RLIMIT_DATA`).
    data_bytes: Option<u64>,
    /// Memory that all of its processes together may hold.
    allowance: Option<MemoryAllowance>,
    /// The control group that enforces the allowance; `None` if the monitor does.
    group: Option<Cgroup>,
}

impl Limits {
    /// The limits of a sandbox that is about to be created. Makes its control group.
    pub(super) fn new(shared: &Shared, request: &CreationRequest) -> io::Result<Self> {
        if !shared.config.limit_memory {
            return Ok(Self { data_bytes: None, allowance: None, group: None });
        }
        let function = ByteSize::mib(request.spec.memory_mib.into());
        let wanted = function.as_u64().saturating_add(shared.config.memory_headroom.as_u64());
        // A process without privilege cannot raise its own hard limit, which the child inherits.
        let max = getrlimit(Resource::RLIMIT_DATA).map_or(wanted, |(_, hard)| hard);
        let allowance = MemoryAllowance { function, headroom: shared.config.resident_headroom };
        let make = |groups: &super::cgroup::Cgroups| groups.make(&request.sandbox.to_string(), allowance.bytes());
        let group = shared.cgroups.as_ref().map(make).transpose()?;
        Ok(Self { data_bytes: Some(wanted.min(max)), allowance: Some(allowance), group })
    }

    /// Applies the limits to the child of `command`.
    ///
    /// A child of another user stays that user even if it executes a set-user-ID program. A child of this process's
    /// user has this process's rights anyway, so set-user-ID programs such as `ping` still work there.
    pub(super) fn apply(&self, command: &mut Command, is_other_user: bool) -> io::Result<()> {
        // Opened here, since opening it allocates, which a child must not do between fork and exec.
        let members = self.group.as_ref().map(Cgroup::members_file).transpose()?;
        system::confine_child(command, getpid(), self.data_bytes, members);
        if is_other_user {
            system::forbid_new_privileges(command);
        }
        Ok(())
    }

    /// The allowance that the monitor has to enforce, if the kernel does not.
    pub(super) fn monitored_allowance(&self) -> Option<MemoryAllowance> {
        self.allowance.filter(|_| self.group.is_none())
    }

    /// The reason to end the sandbox, if the kernel has ended one of its processes for memory.
    pub(super) fn oom_cause(&self) -> Option<String> {
        let MemoryAllowance { function, headroom } = self.allowance?;
        self.group.as_ref().filter(|group| group.has_killed())?;
        Some(format!(
            "ended because the kernel ended a process of it for memory: its function has {function}, and {headroom} are \
             allowed beyond (process.resident_headroom)"
        ))
    }

    /// Ends the processes left in the control group and removes it. Blocks until that is done.
    pub(super) fn remove_group(&self) {
        if let Some(group) = &self.group {
            group.remove();
        }
    }
}
