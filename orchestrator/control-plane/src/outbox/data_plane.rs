//! Messages to one data plane.

use std::{collections::BTreeMap, sync::Arc};

use api::{Batch, Room, wire};
use model::{EndpointState, FunctionId, Registered, SandboxId};
use service::Clock;

use super::welcome_to_wire;
use crate::state::{CapChange, DataPlaneChange, EndpointChange, Map, ProblemChange, Welcome};

/// Functions in one message of a snapshot: some 100 kB.
const MAX_FUNCTIONS_PER_MESSAGE: usize = 1000;

/// Unsent changes for one data plane. Only the newest change of each object is kept, so that a slow data plane costs
/// bounded memory.
pub(crate) struct DataPlaneBatch {
    clock: Clock,
    welcome: Option<Welcome>,
    /// Newest configuration by function; `None`: deregistered.
    functions: BTreeMap<FunctionId, Option<Arc<Registered>>>,
    /// Place of the newest function change in `functions`, once all before it are sent.
    sequence: u64,
    snapshot_end: bool,
    /// Newest change by sandbox.
    endpoints: BTreeMap<SandboxId, EndpointChange>,
    caps: BTreeMap<FunctionId, CapChange>,
    problems: BTreeMap<FunctionId, ProblemChange>,
    /// Time at which each endpoint was passed to the connection, in microseconds, until it is acknowledged.
    published: Map<SandboxId, u64>,
}

impl DataPlaneBatch {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            welcome: None,
            functions: BTreeMap::new(),
            sequence: 0,
            snapshot_end: false,
            endpoints: BTreeMap::new(),
            caps: BTreeMap::new(),
            problems: BTreeMap::new(),
            published: Map::default(),
        }
    }

    pub(crate) fn add(&mut self, change: DataPlaneChange) {
        match change {
            DataPlaneChange::Welcome(welcome) => self.welcome = Some(welcome),
            DataPlaneChange::Function(registered, sequence) => {
                self.functions.insert(registered.id, Some(registered));
                self.sequence = sequence;
            }
            DataPlaneChange::Removed(function, sequence) => {
                self.functions.insert(function, None);
                self.caps.remove(&function);
                self.problems.remove(&function);
                self.sequence = sequence;
            }
            DataPlaneChange::SnapshotEnd(sequence) => {
                self.snapshot_end = true;
                self.sequence = sequence;
            }
            DataPlaneChange::Endpoint(change) => {
                self.endpoints.insert(change.sandbox, change);
            }
            DataPlaneChange::GrantCap(change) => {
                self.caps.insert(change.function, change);
            }
            DataPlaneChange::Problem(change) => {
                self.problems.insert(change.function, change);
            }
        }
    }

    /// Takes the time, in microseconds, at which a sandbox's newest change was passed to the connection.
    pub(crate) fn take_published(&mut self, sandbox: SandboxId) -> Option<u64> {
        self.published.remove(&sandbox)
    }

    fn is_empty(&self) -> bool {
        self.welcome.is_none()
            && self.functions.is_empty()
            && !self.snapshot_end
            && self.endpoints.is_empty()
            && self.caps.is_empty()
            && self.problems.is_empty()
    }

    fn take_functions(&mut self, message: &mut wire::ToDataPlane, room: &mut Room) {
        for _ in 0..MAX_FUNCTIONS_PER_MESSAGE {
            if !room.is_left() {
                return;
            }
            let Some((function, registered)) = self.functions.pop_first() else { return };
            match registered {
                Some(registered) => message.functions.push(room.fill(api::function_config(&registered))),
                None => message.removed.push(function.0),
            }
        }
    }
}

impl Batch for DataPlaneBatch {
    type Message = wire::ToDataPlane;

    fn take(&mut self) -> Option<wire::ToDataPlane> {
        if self.is_empty() {
            return None;
        }
        let welcome = self.welcome.take().map(welcome_to_wire);
        let mut message = wire::ToDataPlane { welcome, ..wire::ToDataPlane::default() };
        let mut room = Room::default();
        self.take_functions(&mut message, &mut room);
        if !self.functions.is_empty() {
            // Endpoints may be of functions that the next message brings.
            return Some(message);
        }
        message.sequence = self.sequence;
        message.snapshot_end = std::mem::take(&mut self.snapshot_end);
        let now_us = self.clock.now_us();
        while room.is_left()
            && let Some((sandbox, change)) = self.endpoints.pop_first()
        {
            self.published.insert(sandbox, now_us);
            message.endpoints.push(room.fill(endpoint_to_wire(change, now_us)));
        }
        while room.is_left()
            && let Some((_, change)) = self.caps.pop_first()
        {
            message.limits.push(room.fill(cap_to_wire(change)));
        }
        while room.is_left()
            && let Some((_, change)) = self.problems.pop_first()
        {
            message.problems.push(room.fill(problem_to_wire(change)));
        }
        Some(message)
    }
}

fn endpoint_to_wire(change: EndpointChange, now_us: u64) -> wire::EndpointDelta {
    let EndpointChange { sandbox, function, version, endpoint } = change;
    let delta = wire::EndpointDelta {
        function: function.0,
        sandbox: sandbox.to_wire(),
        version,
        state: api::state_to_wire(EndpointState::Gone).into(),
        ..wire::EndpointDelta::default()
    };
    match endpoint {
        None => delta,
        Some(endpoint) => wire::EndpointDelta {
            revision: endpoint.revision.0,
            address: endpoint.address.to_string(),
            slots: endpoint.slots,
            state: api::state_to_wire(endpoint.state).into(),
            // A sandbox of the time before this control plane is at least as old as that.
            ready_age_us: now_us.saturating_sub(endpoint.ready_us.unwrap_or(0)),
            ..delta
        },
    }
}

fn cap_to_wire(change: CapChange) -> wire::GrantLimit {
    let CapChange { function, version, slots, min_idle_ms, drain } = change;
    wire::GrantLimit { function: function.0, version, slots, min_idle_ms, drain }
}

fn problem_to_wire(change: ProblemChange) -> wire::CreationProblem {
    let ProblemChange { function, problem } = change;
    match problem {
        Some(problem) => {
            wire::CreationProblem { function: function.0, permanent: problem.is_permanent, message: problem.message }
        }
        // An empty message means that the problem is over.
        None => wire::CreationProblem { function: function.0, permanent: false, message: String::new() },
    }
}

#[cfg(test)]
mod tests {
    use model::{Epoch, FunctionSpec, Revision};

    use super::*;
    use crate::state::{CreationProblem, Endpoint};

    fn function(id: u64) -> DataPlaneChange {
        let spec = FunctionSpec::new(format!("f{id:062}").parse().unwrap(), "any");
        DataPlaneChange::Function(Arc::new(Registered { id: FunctionId(id), revision: Revision(id), spec }), id)
    }

    fn endpoint(sandbox: u64, ready_us: Option<u64>) -> EndpointChange {
        let endpoint = Endpoint {
            revision: Revision(1),
            address: "[::1]:65535".parse().unwrap(),
            slots: 2,
            state: EndpointState::Active,
            ready_us,
        };
        let sandbox = SandboxId::new(Epoch(1), sandbox).unwrap();
        EndpointChange { sandbox, function: FunctionId(1), version: 7, endpoint: Some(endpoint) }
    }

    #[tokio::test]
    async fn no_message_is_larger_than_all_messages_may_be() {
        let mut batch = DataPlaneBatch::new(Clock::start());
        for id in 1..=20_000 {
            batch.add(function(id));
            batch.add(DataPlaneChange::Endpoint(endpoint(id, None)));
            let problem = CreationProblem { message: "x".repeat(api::MAX_TEXT_BYTES), is_permanent: false };
            batch.add(DataPlaneChange::Problem(ProblemChange { function: FunctionId(id), problem: Some(problem) }));
            let cap = CapChange { function: FunctionId(id), version: id, slots: 0, min_idle_ms: 0, drain: false };
            batch.add(DataPlaneChange::GrantCap(cap));
        }
        let messages: Vec<_> = std::iter::from_fn(|| batch.take()).collect();
        let largest = messages.iter().map(prost::Message::encoded_len).max().unwrap();
        assert!(largest <= api::MAX_LATER_MESSAGE_BYTES, "{largest} bytes");
        let count = |of: fn(&wire::ToDataPlane) -> usize| messages.iter().map(of).sum::<usize>();
        assert_eq!(count(|message| message.functions.len()), 20_000);
        assert_eq!(count(|message| message.endpoints.len()), 20_000);
        assert_eq!(count(|message| message.limits.len()), 20_000);
        assert_eq!(count(|message| message.problems.len()), 20_000);
    }

    #[tokio::test]
    async fn a_large_snapshot_comes_in_pieces_and_endpoints_after_their_functions() {
        let mut batch = DataPlaneBatch::new(Clock::start());
        (1..=2500).for_each(|id| batch.add(function(id)));
        batch.add(DataPlaneChange::SnapshotEnd(7));
        batch.add(DataPlaneChange::Endpoint(endpoint(1, None)));
        let sizes: Vec<_> = std::iter::from_fn(|| batch.take())
            .map(|message| (message.functions.len(), message.endpoints.len(), message.snapshot_end, message.sequence))
            .collect();
        assert_eq!(sizes, [(1000, 0, false, 0), (1000, 0, false, 0), (500, 1, true, 7)]);
    }

    #[test]
    fn what_is_unknown_or_over_is_zero_or_empty_on_the_wire() {
        let delta = endpoint_to_wire(endpoint(1, Some(40)), 100);
        assert_eq!((delta.ready_age_us, delta.slots, delta.address.as_str()), (60, 2, "[::1]:65535"));
        assert_eq!(endpoint_to_wire(endpoint(1, None), 100).ready_age_us, 100, "as old as the control plane");
        let gone = endpoint_to_wire(EndpointChange { endpoint: None, ..endpoint(1, None) }, 100);
        assert_eq!((gone.state(), gone.slots, gone.address.as_str()), (wire::EndpointState::Gone, 0, ""));
        assert_eq!(gone.version, 7);
        let over = problem_to_wire(ProblemChange { function: FunctionId(1), problem: None });
        assert_eq!((over.message.as_str(), over.permanent), ("", false));
    }
}
