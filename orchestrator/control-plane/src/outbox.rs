//! What waits to be sent to one worker or data plane, as batches that keep only the newest state.

use std::collections::BTreeMap;

use api::{Batch, wire};

use crate::{
    clock::Clock,
    state::{DataPlaneChange, Map, WorkerChange},
};

/// Functions in one message of a snapshot: some 100 kB.
const FUNCTIONS_PER_MESSAGE: usize = 1000;

/// What a worker is to be told.
pub(crate) struct WorkerBatch {
    clock: Clock,
    message: wire::ToWorker,
    commands: BTreeMap<u64, Option<wire::CreateSandbox>>,
    /// When each creation was handed to the connection, in microseconds, until its event comes.
    dispatched: Map<u64, u64>,
}

impl WorkerBatch {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, message: wire::ToWorker::default(), commands: BTreeMap::new(), dispatched: Map::default() }
    }

    pub(crate) fn add(&mut self, change: WorkerChange) {
        match change {
            WorkerChange::Welcome(welcome) => self.message.welcome = Some(welcome),
            WorkerChange::Specification(specification) => self.message.functions.push(*specification),
            WorkerChange::Create(create) => {
                self.commands.insert(create.sandbox, Some(create));
            }
            // A creation that has not gone out never does: the worker answers for an unknown sandbox that it is ended.
            WorkerChange::Delete(sandbox) => {
                self.commands.insert(sandbox, None);
            }
        }
    }

    /// When a sandbox's creation was handed to the connection; known once.
    pub(crate) fn take_dispatched(&mut self, sandbox: u64) -> Option<u64> {
        self.dispatched.remove(&sandbox)
    }
}

impl Batch for WorkerBatch {
    type Message = wire::ToWorker;

    fn take(&mut self) -> Option<wire::ToWorker> {
        let mut message = std::mem::take(&mut self.message);
        if !self.commands.is_empty() {
            let now_us = self.clock.now_us();
            for (sandbox, create) in std::mem::take(&mut self.commands) {
                if let Some(create) = create {
                    self.dispatched.insert(sandbox, now_us);
                    message.create.push(create);
                } else {
                    self.dispatched.remove(&sandbox);
                    message.delete.push(sandbox);
                }
            }
        }
        let is_empty = message.welcome.is_none()
            && message.functions.is_empty()
            && message.create.is_empty()
            && message.delete.is_empty();
        (!is_empty).then_some(message)
    }
}

/// What a data plane is to be told.
pub(crate) struct DataPlaneBatch {
    clock: Clock,
    welcome: Option<wire::Welcome>,
    /// Newest configuration by function; `None`: deregistered.
    functions: BTreeMap<u64, Option<Box<wire::FunctionConfig>>>,
    /// Place of the newest function change in `functions`, once all before it are out.
    sequence: u64,
    snapshot_end: bool,
    /// Newest delta by sandbox, and when the sandbox became ready, in microseconds.
    endpoints: BTreeMap<u64, (wire::EndpointDelta, u64)>,
    limits: BTreeMap<u64, wire::GrantLimit>,
    problems: BTreeMap<u64, wire::CreationProblem>,
    /// When each endpoint was handed to the connection, in microseconds, until it is acknowledged.
    published: Map<u64, u64>,
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
            limits: BTreeMap::new(),
            problems: BTreeMap::new(),
            published: Map::default(),
        }
    }

    pub(crate) fn add(&mut self, change: DataPlaneChange) {
        match change {
            DataPlaneChange::Welcome(welcome) => self.welcome = Some(welcome),
            DataPlaneChange::Function(config, sequence) => {
                self.functions.insert(config.function, Some(config));
                self.sequence = sequence;
            }
            DataPlaneChange::Removed(function, sequence) => {
                self.functions.insert(function, None);
                self.limits.remove(&function);
                self.problems.remove(&function);
                self.sequence = sequence;
            }
            DataPlaneChange::SnapshotEnd(sequence) => {
                self.snapshot_end = true;
                self.sequence = sequence;
            }
            DataPlaneChange::Endpoint(delta, ready_us) => {
                self.endpoints.insert(delta.sandbox, (delta, ready_us));
            }
            DataPlaneChange::Limit(limit) => {
                self.limits.insert(limit.function, limit);
            }
            DataPlaneChange::Problem(problem) => {
                self.problems.insert(problem.function, problem);
            }
        }
    }

    /// When a sandbox's newest delta was handed to the connection; known once.
    pub(crate) fn take_published(&mut self, sandbox: u64) -> Option<u64> {
        self.published.remove(&sandbox)
    }

    fn is_empty(&self) -> bool {
        self.welcome.is_none()
            && self.functions.is_empty()
            && !self.snapshot_end
            && self.endpoints.is_empty()
            && self.limits.is_empty()
            && self.problems.is_empty()
    }

    fn take_functions(&mut self, message: &mut wire::ToDataPlane) {
        for _ in 0..FUNCTIONS_PER_MESSAGE {
            let Some((function, config)) = self.functions.pop_first() else { return };
            match config {
                Some(config) => message.functions.push(*config),
                None => message.removed.push(function),
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
        let mut message = wire::ToDataPlane { welcome: self.welcome.take(), ..wire::ToDataPlane::default() };
        self.take_functions(&mut message);
        if !self.functions.is_empty() {
            // Endpoints may be of functions that the next message brings.
            return Some(message);
        }
        message.sequence = self.sequence;
        message.snapshot_end = std::mem::take(&mut self.snapshot_end);
        let now_us = self.clock.now_us();
        for (sandbox, (mut delta, ready_us)) in std::mem::take(&mut self.endpoints) {
            self.published.insert(sandbox, now_us);
            delta.ready_age_us = now_us.saturating_sub(ready_us);
            message.endpoints.push(delta);
        }
        message.limits.extend(std::mem::take(&mut self.limits).into_values());
        message.problems.extend(std::mem::take(&mut self.problems).into_values());
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(sandbox: u64) -> WorkerChange {
        WorkerChange::Create(wire::CreateSandbox { sandbox, node: 0, revision: 1 })
    }

    #[tokio::test]
    async fn a_creation_that_did_not_go_out_is_replaced_by_its_deletion() {
        let mut batch = WorkerBatch::new(Clock::start());
        batch.add(create(1));
        batch.add(create(2));
        batch.add(WorkerChange::Delete(1));
        let message = batch.take().unwrap();
        assert_eq!(message.create.iter().map(|create| create.sandbox).collect::<Vec<_>>(), [2]);
        assert_eq!(message.delete, [1]);
        assert!(batch.take_dispatched(2).is_some());
        assert!(batch.take_dispatched(1).is_none());
        assert!(batch.take().is_none());
    }

    #[tokio::test]
    async fn a_large_snapshot_comes_in_pieces_and_endpoints_after_their_functions() {
        let mut batch = DataPlaneBatch::new(Clock::start());
        for function in 0..2500 {
            let config = wire::FunctionConfig { function, ..Default::default() };
            batch.add(DataPlaneChange::Function(Box::new(config), function));
        }
        batch.add(DataPlaneChange::SnapshotEnd(7));
        batch.add(DataPlaneChange::Endpoint(wire::EndpointDelta { sandbox: 1, ..Default::default() }, 0));
        let sizes: Vec<_> = std::iter::from_fn(|| batch.take())
            .map(|message| (message.functions.len(), message.endpoints.len(), message.snapshot_end, message.sequence))
            .collect();
        assert_eq!(sizes, [(1000, 0, false, 0), (1000, 0, false, 0), (500, 1, true, 7)]);
    }
}
