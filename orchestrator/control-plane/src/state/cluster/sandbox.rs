//! One sandbox, from the command that creates it to the report that it has ended.

use std::net::SocketAddr;

use model::{FunctionId, Registered, Resources, Revision};
use policy::placement::NodeKey;

use super::DataPlaneKey;
use crate::{message::Step, metrics::Phases};

/// The state of a sandbox. Only the first two count as supply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::state) enum SandboxState {
    /// Commanded, not yet ready.
    Starting,
    /// In service.
    Ready,
    /// Ready, but its node is suspect.
    Suspended,
    /// Found after a restart. A data plane that has not reported yet may hold its slots, so it is granted to no other.
    Unclaimed,
    /// Leaving service: its data plane gives its slots back.
    Draining,
    /// Its worker was commanded to end it.
    Terminating,
}

/// The slots of a sandbox, granted to one data plane.
#[derive(Clone, Copy, Debug)]
pub(in crate::state) struct Grant {
    pub(in crate::state) data_plane: DataPlaneKey,
    pub(in crate::state) slots: u32,
    /// The data plane has confirmed that it holds them.
    pub(in crate::state) acknowledged: bool,
}

/// One sandbox.
#[derive(Debug)]
pub(in crate::state) struct Sandbox {
    pub(super) function: FunctionId,
    pub(in crate::state) revision: Revision,
    pub(super) node: NodeKey,
    /// Reserved on its node. Kept here because the function's specification may change before they are released.
    pub(super) resources: Resources,
    pub(in crate::state) concurrency: u32,
    pub(super) state: SandboxState,
    pub(in crate::state) address: Option<SocketAddr>,
    /// Deadline of its creation, in microseconds.
    pub(super) creation_due_us: u64,
    /// Time of the command to create it, in microseconds; `None` if an earlier control plane gave it.
    pub(in crate::state) commanded_us: Option<u64>,
    /// Time by which its creation should have begun, in microseconds, while it is queued behind others of its worker.
    pub(in crate::state) queued_until_us: Option<u64>,
    /// The resource that its creation waits for, if it waits for more than its place in the queue.
    pub(in crate::state) queued_for: Option<Box<str>>,
    /// An invocation in it does not end, so it is drained.
    pub(in crate::state) retired: bool,
    /// Time at which it became ready, in microseconds; `None` while it is starting, or if that was before this control
    /// plane.
    pub(in crate::state) ready_us: Option<u64>,
    /// Time for which this process was stopped since then, in microseconds. It does not count as service: no end of the
    /// sandbox could be observed.
    pub(in crate::state) missed_us: u64,
    pub(super) grant: Option<Grant>,
    /// Version of the newest change of it that was sent to a data plane.
    pub(in crate::state) version: Option<u64>,
    pub(in crate::state) timing: Option<Box<Timing>>,
}

/// Times of the steps of a creation, in microseconds of the control plane's clock; durations as reported.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timing {
    pub(crate) requested_us: u64,
    pub(crate) decided_us: u64,
    pub(crate) placed_us: u64,
    pub(crate) dispatched_us: Option<u64>,
    /// Time at which the worker's report was read.
    pub(crate) ready_us: Option<u64>,
    pub(crate) worker_own_us: u64,
    pub(crate) create_us: u64,
    pub(crate) probe_us: u64,
    /// Empty unless creations are recorded.
    pub(crate) steps: Vec<Step>,
    /// Time at which the endpoint was sent, and the round trip from then to its acknowledgement without the data
    /// plane's own time.
    pub(crate) published_us: Option<u64>,
    pub(crate) net_dataplane_us: Option<u64>,
}

impl Timing {
    /// Durations of the phases that the creation reached.
    pub(in crate::state) fn phases(&self) -> Phases {
        let since = |begin_us: Option<u64>| Some(self.ready_us?.saturating_sub(begin_us?));
        let reported = |value: u64| self.ready_us.map(|_| value);
        Phases {
            decide_us: Some(self.decided_us.saturating_sub(self.requested_us)),
            place_us: Some(self.placed_us.saturating_sub(self.decided_us)),
            dispatch_us: self.dispatched_us.map(|at| at.saturating_sub(self.placed_us)),
            create_us: reported(self.create_us),
            ready_us: reported(self.probe_us),
            publish_us: self.ready_us.and_then(|ready_us| Some(self.published_us?.saturating_sub(ready_us))),
            net_worker_us: since(self.dispatched_us).map(|us| us.saturating_sub(self.worker_own_us)),
            net_dataplane_us: self.net_dataplane_us,
        }
    }
}

/// A sandbox that a worker has and this control plane did not command.
pub(in crate::state) struct Found {
    pub(in crate::state) function: FunctionId,
    pub(in crate::state) revision: Revision,
    pub(in crate::state) node: NodeKey,
    pub(in crate::state) resources: Resources,
    pub(in crate::state) concurrency: u32,
    pub(in crate::state) address: SocketAddr,
}

impl Sandbox {
    /// A sandbox of a function whose creation on a node is dispatched at `now_us`.
    pub(in crate::state) fn commanded(
        function: &Registered,
        node: NodeKey,
        now_us: u64,
        creation_due_us: u64,
        timing: Timing,
    ) -> Self {
        Self {
            function: function.id,
            revision: function.revision,
            node,
            resources: function.spec.resources(),
            concurrency: function.spec.concurrency,
            state: SandboxState::Starting,
            address: None,
            creation_due_us,
            commanded_us: Some(now_us),
            queued_until_us: None,
            queued_for: None,
            retired: false,
            ready_us: None,
            missed_us: 0,
            grant: None,
            version: None,
            timing: Some(Box::new(timing)),
        }
    }

    /// A sandbox that is not starting any more, of the time before this control plane.
    pub(in crate::state) fn found(found: Found, state: SandboxState) -> Self {
        debug_assert_ne!(state, SandboxState::Starting, "it has been made");
        let Found { function, revision, node, resources, concurrency, address } = found;
        Self {
            function,
            revision,
            node,
            resources,
            concurrency,
            state,
            address: Some(address),
            creation_due_us: 0,
            commanded_us: None,
            queued_until_us: None,
            queued_for: None,
            retired: false,
            ready_us: None,
            missed_us: 0,
            grant: None,
            version: None,
            timing: None,
        }
    }

    pub(in crate::state) fn function(&self) -> FunctionId {
        self.function
    }

    pub(in crate::state) fn node(&self) -> NodeKey {
        self.node
    }

    pub(in crate::state) fn state(&self) -> SandboxState {
        self.state
    }

    pub(in crate::state) fn grant(&self) -> Option<Grant> {
        self.grant
    }

    /// Returns true if it may be granted.
    pub(in crate::state) fn is_free(&self) -> bool {
        self.state == SandboxState::Ready && self.grant.is_none()
    }

    /// Accounts for a stop of this process: a creation gets that much longer, and a sandbox was in service for that
    /// much less, as far as is known.
    pub(in crate::state) fn note_standstill(&mut self, by_us: u64) {
        if self.ready_us.is_some() {
            self.missed_us = self.missed_us.saturating_add(by_us);
        }
        self.creation_due_us = self.creation_due_us.saturating_add(by_us);
        self.queued_until_us = self.queued_until_us.map(|until_us| until_us.saturating_add(by_us));
    }

    /// Returns true if it is drained because an invocation in it does not end.
    pub(in crate::state) fn drains_retired(&self) -> bool {
        self.retired && self.state == SandboxState::Draining
    }

    /// Returns true if its slots are granted to that data plane.
    pub(in crate::state) fn is_granted_to(&self, data_plane: DataPlaneKey) -> bool {
        self.grant.is_some_and(|grant| grant.data_plane == data_plane)
    }

    /// Returns true if invocations may run in it, as far as is known here.
    pub(in crate::state) fn may_be_held(&self) -> bool {
        let leaves_or_unknown =
            matches!(self.state, SandboxState::Unclaimed | SandboxState::Draining | SandboxState::Terminating);
        self.grant.is_some() || leaves_or_unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_after_a_report_that_was_lost_are_unknown() {
        let begun = Timing { requested_us: 10, decided_us: 12, placed_us: 15, ..Timing::default() };
        let sent = Timing { dispatched_us: Some(20), published_us: Some(90), ..begun.clone() };
        let phases = sent.phases();
        assert_eq!((phases.decide_us, phases.place_us, phases.dispatch_us), (Some(2), Some(3), Some(5)));
        let later = (phases.create_us, phases.ready_us, phases.publish_us, phases.net_worker_us);
        assert_eq!(
            later,
            (None, None, None, None),
            "its worker said when it connected that it is ready, not since when"
        );
        let phases = Timing { ready_us: Some(80), worker_own_us: 50, create_us: 40, ..sent }.phases();
        assert_eq!((phases.create_us, phases.publish_us, phases.net_worker_us), (Some(40), Some(10), Some(10)));
    }
}
