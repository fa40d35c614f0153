//! The memory that one sandbox may have, and who holds it to that.

use std::{io, process::Command};

use bytesize::ByteSize;
use nix::{
    sys::resource::{Resource, getrlimit},
    unistd::getpid,
};

use super::{Shared, cgroup::Cgroup, monitor::Allowance, system};
use crate::runtime::Order;

/// Limits of one sandbox.
#[derive(Debug)]
pub(super) struct Limits {
    /// What each of its processes may reserve, in bytes (`RLIMIT_DATA`).
    data_bytes: Option<u64>,
    /// What all of them may hold.
    allowance: Option<Allowance>,
    /// The group that holds them to it.
    group: Option<Cgroup>,
}

impl Limits {
    /// The limits of the sandbox to be made; its group is made now.
    pub(super) fn of(shared: &Shared, order: &Order) -> io::Result<Self> {
        if !shared.config.limit_memory {
            return Ok(Self { data_bytes: None, allowance: None, group: None });
        }
        let function = ByteSize::mib(order.spec.memory_mib.into());
        let wanted = function.as_u64().saturating_add(shared.config.memory_headroom.as_u64());
        // Never above the worker's own, which it may not exceed.
        let most = getrlimit(Resource::RLIMIT_DATA).map_or(wanted, |(_, hard)| hard);
        let allowance = Allowance { function, headroom: shared.config.resident_headroom };
        let make = |groups: &super::cgroup::Cgroups| groups.make(&order.sandbox.to_string(), allowance.bytes());
        let group = shared.cgroups.as_ref().map(make).transpose()?;
        Ok(Self { data_bytes: Some(wanted.min(most)), allowance: Some(allowance), group })
    }

    /// Makes the child of `command` subject to them. One of another user than this process stays that user, also when it
    /// executes a set-user-ID program. One of this process's own user may do what this process may, so `ping` and the
    /// like still work there.
    pub(super) fn apply(&self, command: &mut Command, is_other_user: bool) -> io::Result<()> {
        let entrance = self.group.as_ref().map(Cgroup::entrance).transpose()?;
        system::confine(command, getpid(), self.data_bytes, entrance);
        if is_other_user {
            system::keep_from_privileges(command);
        }
        Ok(())
    }

    /// What is to be watched, where the kernel does not see to it.
    pub(super) fn watched(&self) -> Option<Allowance> {
        self.allowance.filter(|_| self.group.is_none())
    }

    /// Why a sandbox is to end, if the kernel has ended a part of it.
    pub(super) fn broken(&self) -> Option<String> {
        let Allowance { function, headroom } = self.allowance?;
        self.group.as_ref().filter(|group| group.has_killed())?;
        Some(format!(
            "ended because the kernel ended a process of it for memory: its function has {function}, and {headroom} are \
             allowed beyond (process.resident_headroom)"
        ))
    }

    /// Ends what is left of a sandbox in its group, and removes that; waits for it.
    pub(super) fn lift(&self) {
        if let Some(group) = &self.group {
            group.remove();
        }
    }
}
