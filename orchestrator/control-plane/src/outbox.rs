//! What waits to be sent to one worker or data plane, as batches that keep only the newest state.

use std::{collections::BTreeMap, sync::Arc};

use api::{Batch, Revisions, Room, wire};
use model::Registered;

use crate::{
    clock::Clock,
    state::{DataPlaneChange, Map, WorkerChange},
};

/// Functions in one message of a snapshot: some 100 kB.
const FUNCTIONS_PER_MESSAGE: usize = 1000;
/// Commands in one message to a worker: some 200 kB.
const COMMANDS_PER_MESSAGE: usize = 8192;
/// Specifications in one message to a worker: no more than both ends remember, or the first ones would be forgotten
/// before they are used.
const SPECIFICATIONS_PER_MESSAGE: usize = 256;
/// A message to a worker with so many bytes of specifications gets no further one.
const SPECIFICATION_BYTES_PER_MESSAGE: usize = 256 * 1024;

/// What a worker is to be told.
pub(crate) struct WorkerBatch {
    clock: Clock,
    welcome: Option<wire::Welcome>,
    /// Where the log was when the newest data plane joined, until it is said.
    known: Option<u64>,
    /// What to make, and of what; `None`: to end.
    commands: BTreeMap<u64, Option<(wire::CreateSandbox, Arc<Registered>)>>,
    /// Revisions that the worker was told on this stream.
    told: Revisions<()>,
    /// When each creation was handed to the connection, in microseconds, until its event comes.
    dispatched: Map<u64, u64>,
}

impl WorkerBatch {
    pub(crate) fn new(clock: Clock) -> Self {
        let (commands, told, dispatched) = (BTreeMap::new(), Revisions::told(), Map::default());
        Self { clock, welcome: None, known: None, commands, told, dispatched }
    }

    pub(crate) fn add(&mut self, change: WorkerChange) {
        match change {
            WorkerChange::Welcome(welcome) => self.welcome = Some(welcome),
            WorkerChange::Known(index) => self.known = Some(index),
            WorkerChange::Create(create, registered) => {
                self.commands.insert(create.sandbox, Some((create, registered)));
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

    /// Tells the worker what a sandbox is made of, before it is to make the first one. The bytes of that.
    fn describe(&mut self, registered: &Registered, message: &mut wire::ToWorker) -> usize {
        if self.told.get(registered.revision).is_some() {
            return 0;
        }
        self.told.insert(registered.revision, ());
        let specification = api::revision_spec(registered);
        let env = specification.env.iter().map(|(name, value)| name.len() + value.len());
        let args = specification.args.iter().map(String::len);
        let bytes = specification.image.len() + env.chain(args).sum::<usize>();
        message.functions.push(specification);
        bytes
    }
}

impl Batch for WorkerBatch {
    type Message = wire::ToWorker;

    fn take(&mut self) -> Option<wire::ToWorker> {
        if self.welcome.is_none() && self.known.is_none() && self.commands.is_empty() {
            return None;
        }
        let (welcome, known) = (self.welcome.take(), self.known.take());
        let mut message = wire::ToWorker { welcome, known, ..wire::ToWorker::default() };
        let now_us = self.clock.now_us();
        let mut bytes = 0;
        while message.create.len() + message.delete.len() < COMMANDS_PER_MESSAGE
            && message.functions.len() < SPECIFICATIONS_PER_MESSAGE
            && bytes < SPECIFICATION_BYTES_PER_MESSAGE
            && let Some((sandbox, command)) = self.commands.pop_first()
        {
            if let Some((create, registered)) = command {
                bytes += self.describe(&registered, &mut message);
                self.dispatched.insert(sandbox, now_us);
                message.create.push(create);
            } else {
                self.dispatched.remove(&sandbox);
                message.delete.push(sandbox);
            }
        }
        Some(message)
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
    endpoints: BTreeMap<u64, (wire::EndpointDelta, Option<u64>)>,
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
            DataPlaneChange::GrantCap(limit) => {
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

    fn take_functions(&mut self, message: &mut wire::ToDataPlane, room: &mut Room) {
        for _ in 0..FUNCTIONS_PER_MESSAGE {
            if !room.is_left() {
                return;
            }
            let Some((function, config)) = self.functions.pop_first() else { return };
            match config {
                Some(config) => message.functions.push(room.fill(*config)),
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
            && let Some((sandbox, (mut delta, ready_us))) = self.endpoints.pop_first()
        {
            self.published.insert(sandbox, now_us);
            // One of the time before this control plane is at least as old as that.
            delta.ready_age_us = now_us.saturating_sub(ready_us.unwrap_or(0));
            message.endpoints.push(room.fill(delta));
        }
        while room.is_left()
            && let Some((_, limit)) = self.limits.pop_first()
        {
            message.limits.push(room.fill(limit));
        }
        while room.is_left()
            && let Some((_, problem)) = self.problems.pop_first()
        {
            message.problems.push(room.fill(problem));
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use model::{FunctionId, FunctionSpec, Revision};

    use super::*;

    fn create(sandbox: u64) -> WorkerChange {
        create_of(sandbox, 1)
    }

    fn create_of(sandbox: u64, revision: u64) -> WorkerChange {
        let spec = FunctionSpec::new(format!("f{revision}").parse().unwrap(), "any");
        let registered = Registered { id: FunctionId(revision), revision: Revision(revision), spec };
        WorkerChange::Create(wire::CreateSandbox { sandbox, node: 0, revision }, Arc::new(registered))
    }

    /// Whatever is to be made of however many functions at once, a worker that remembers as much as it must is told of
    /// each revision before it is used.
    #[tokio::test]
    async fn any_number_of_revisions_goes_out_so_that_a_worker_knows_each_when_it_is_used() {
        let mut batch = WorkerBatch::new(Clock::start());
        for sandbox in 0..30_000 {
            // Some are used again long after they were told.
            batch.add(create_of(sandbox, 1 + sandbox % 9000));
        }
        let (mut heard, mut made) = (Revisions::heard(), 0);
        while let Some(message) = batch.take() {
            for specification in message.functions {
                heard.insert(Revision(specification.revision), ());
            }
            made += message.create.len();
            for create in message.create {
                assert!(heard.get(Revision(create.revision)).is_some(), "{create:?} is of an unknown revision");
            }
        }
        assert_eq!(made, 30_000);
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
    async fn no_message_is_larger_than_all_messages_may_be() {
        let text = || "x".repeat(api::MAX_TEXT_BYTES);
        let mut batch = DataPlaneBatch::new(Clock::start());
        for id in 0..20_000 {
            let config = wire::FunctionConfig { function: id, name: "f".repeat(63), ..Default::default() };
            batch.add(DataPlaneChange::Function(Box::new(config), id));
            let delta = wire::EndpointDelta { sandbox: id, address: "[::1]:65535".to_owned(), ..Default::default() };
            batch.add(DataPlaneChange::Endpoint(delta, None));
            let problem = wire::CreationProblem { function: id, permanent: false, message: text() };
            batch.add(DataPlaneChange::Problem(problem));
            batch.add(DataPlaneChange::GrantCap(wire::GrantLimit { function: id, version: id, ..Default::default() }));
        }
        let messages: Vec<_> = std::iter::from_fn(|| batch.take()).collect();
        let largest = messages.iter().map(prost::Message::encoded_len).max().unwrap();
        assert!(largest <= api::MESSAGE_BYTES, "{largest} bytes");
        let count = |of: fn(&wire::ToDataPlane) -> usize| messages.iter().map(of).sum::<usize>();
        assert_eq!(count(|message| message.endpoints.len()), 20_000);
        assert_eq!(count(|message| message.limits.len()), 20_000);
        assert_eq!(count(|message| message.problems.len()), 20_000);
        let mut batch = WorkerBatch::new(Clock::start());
        for id in 0..100 {
            let mut spec = FunctionSpec::new(format!("f{id}").parse().unwrap(), "any");
            spec.args = vec!["x".repeat(60_000)];
            let registered = Registered { id: FunctionId(id), revision: Revision(id), spec };
            let create = wire::CreateSandbox { sandbox: id, node: 0, revision: id };
            batch.add(WorkerChange::Create(create, Arc::new(registered)));
        }
        let largest = std::iter::from_fn(|| batch.take()).map(|message| prost::Message::encoded_len(&message)).max();
        assert!(largest.unwrap() <= api::MESSAGE_BYTES, "{largest:?} bytes");
    }

    #[tokio::test]
    async fn a_large_snapshot_comes_in_pieces_and_endpoints_after_their_functions() {
        let mut batch = DataPlaneBatch::new(Clock::start());
        for function in 0..2500 {
            let config = wire::FunctionConfig { function, ..Default::default() };
            batch.add(DataPlaneChange::Function(Box::new(config), function));
        }
        batch.add(DataPlaneChange::SnapshotEnd(7));
        batch.add(DataPlaneChange::Endpoint(wire::EndpointDelta { sandbox: 1, ..Default::default() }, None));
        let sizes: Vec<_> = std::iter::from_fn(|| batch.take())
            .map(|message| (message.functions.len(), message.endpoints.len(), message.snapshot_end, message.sequence))
            .collect();
        assert_eq!(sizes, [(1000, 0, false, 0), (1000, 0, false, 0), (500, 1, true, 7)]);
    }
}
