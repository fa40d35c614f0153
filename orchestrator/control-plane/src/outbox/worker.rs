//! Messages to one worker.

use std::{collections::BTreeMap, sync::Arc};

use api::{Batch, Revisions, wire};
use model::{Registered, SandboxId};
use service::Clock;

use super::welcome_to_wire;
use crate::state::{Map, Welcome, WorkerChange};

/// Commands in one message: some 200 kB.
const MAX_COMMANDS_PER_MESSAGE: usize = 8192;
/// Specifications in one message: no more than both ends remember, or the first ones would be forgotten before they are
/// used.
const MAX_SPECIFICATIONS_PER_MESSAGE: usize = 256;
/// A message with so many bytes of specifications gets no further one.
const MAX_SPECIFICATION_BYTES_PER_MESSAGE: usize = 256 * 1024;

/// Unsent commands for one worker. Only the newest command of each sandbox is kept, so that a slow worker costs bounded
/// memory.
pub(crate) struct WorkerBatch {
    clock: Clock,
    welcome: Option<Welcome>,
    /// The index of the newest change of the data planes, until it is sent.
    data_plane_index: Option<u64>,
    commands: BTreeMap<SandboxId, Command>,
    /// Revisions whose specification was sent on this stream.
    sent: Revisions<()>,
    /// Time at which each creation was passed to the connection, in microseconds, until its event comes.
    dispatched: Map<SandboxId, u64>,
}

enum Command {
    Create { node: u32, registered: Arc<Registered> },
    Delete,
}

impl WorkerBatch {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            welcome: None,
            data_plane_index: None,
            commands: BTreeMap::new(),
            sent: Revisions::of_sender(),
            dispatched: Map::default(),
        }
    }

    pub(crate) fn add(&mut self, change: WorkerChange) {
        match change {
            WorkerChange::Welcome(welcome) => self.welcome = Some(welcome),
            WorkerChange::DataPlanesChanged(index) => self.data_plane_index = Some(index),
            WorkerChange::Create { sandbox, node, registered } => {
                self.commands.insert(sandbox, Command::Create { node, registered });
            }
            // A creation that was not sent never is: the worker responds that the unknown sandbox has ended.
            WorkerChange::Delete(sandbox) => {
                self.commands.insert(sandbox, Command::Delete);
            }
        }
    }

    /// Takes the time, in microseconds, at which a sandbox's creation was passed to the connection.
    pub(crate) fn take_dispatched(&mut self, sandbox: SandboxId) -> Option<u64> {
        self.dispatched.remove(&sandbox)
    }

    /// Adds the specification of a revision before its first use on this stream. Returns its size in bytes.
    fn describe(&mut self, registered: &Registered, message: &mut wire::ToWorker) -> usize {
        if self.sent.get(registered.revision).is_some() {
            return 0;
        }
        self.sent.insert(registered.revision, ());
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
        if self.welcome.is_none() && self.data_plane_index.is_none() && self.commands.is_empty() {
            return None;
        }
        let mut message =
            wire::ToWorker { welcome: self.welcome.take().map(welcome_to_wire), ..wire::ToWorker::default() };
        let now_us = self.clock.now_us();
        let mut bytes = 0;
        while message.create.len() + message.delete.len() < MAX_COMMANDS_PER_MESSAGE
            && message.functions.len() < MAX_SPECIFICATIONS_PER_MESSAGE
            && bytes < MAX_SPECIFICATION_BYTES_PER_MESSAGE
            && let Some((sandbox, command)) = self.commands.pop_first()
        {
            match command {
                Command::Create { node, registered } => {
                    bytes += self.describe(&registered, &mut message);
                    self.dispatched.insert(sandbox, now_us);
                    let revision = registered.revision.0;
                    message.create.push(wire::CreateSandbox { sandbox: sandbox.to_wire(), node, revision });
                }
                Command::Delete => {
                    self.dispatched.remove(&sandbox);
                    message.delete.push(sandbox.to_wire());
                }
            }
        }
        // With the last command: a worker that knows of a removal has received the deletions that followed from it.
        if self.commands.is_empty() {
            message.known = self.data_plane_index.take();
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use model::{Epoch, FunctionId, FunctionSpec, Revision};

    use super::*;

    fn id(number: u64) -> SandboxId {
        SandboxId::new(Epoch(1), number).unwrap()
    }

    fn create_of(sandbox: u64, revision: u64) -> WorkerChange {
        let spec = FunctionSpec::new(format!("f{revision}").parse().unwrap(), "any");
        create(sandbox, revision, spec)
    }

    fn create(sandbox: u64, revision: u64, spec: FunctionSpec) -> WorkerChange {
        let registered = Registered { id: FunctionId(revision), revision: Revision(revision), spec };
        WorkerChange::Create { sandbox: id(sandbox), node: 0, registered: Arc::new(registered) }
    }

    /// A worker that remembers as much as it must knows each revision when it is used, however many there are at once.
    #[tokio::test]
    async fn any_number_of_revisions_is_sent_so_that_a_worker_knows_each_when_it_is_used() {
        let mut batch = WorkerBatch::new(Clock::start());
        for sandbox in 1..=30_000 {
            // Some are used again long after they were sent.
            batch.add(create_of(sandbox, 1 + sandbox % 9000));
        }
        let (mut received, mut created) = (Revisions::of_receiver(), 0);
        while let Some(message) = batch.take() {
            for specification in message.functions {
                received.insert(Revision(specification.revision), ());
            }
            created += message.create.len();
            for create in message.create {
                assert!(received.get(Revision(create.revision)).is_some(), "{create:?} is of an unknown revision");
            }
        }
        assert_eq!(created, 30_000);
    }

    #[tokio::test]
    async fn a_creation_that_was_not_sent_is_replaced_by_its_deletion() {
        let mut batch = WorkerBatch::new(Clock::start());
        batch.add(create_of(1, 1));
        batch.add(create_of(2, 1));
        batch.add(WorkerChange::Delete(id(1)));
        let message = batch.take().unwrap();
        assert_eq!(message.create.iter().map(|create| create.sandbox).collect::<Vec<_>>(), [id(2).to_wire()]);
        assert_eq!(message.delete, [id(1).to_wire()]);
        assert!(batch.take_dispatched(id(2)).is_some());
        assert!(batch.take_dispatched(id(1)).is_none());
        assert!(batch.take().is_none());
    }

    #[tokio::test]
    async fn the_index_of_a_removal_is_sent_with_the_last_of_its_deletions() {
        let mut batch = WorkerBatch::new(Clock::start());
        let deletions = 2 * MAX_COMMANDS_PER_MESSAGE as u64 + 1;
        (1..=deletions).for_each(|number| batch.add(WorkerChange::Delete(id(number))));
        batch.add(WorkerChange::DataPlanesChanged(7));
        let messages: Vec<_> = std::iter::from_fn(|| batch.take()).collect();
        assert_eq!(messages.iter().map(|message| message.delete.len() as u64).sum::<u64>(), deletions);
        assert_eq!(messages.iter().map(|message| message.known).collect::<Vec<_>>(), [None, None, Some(7)]);
        batch.add(WorkerChange::DataPlanesChanged(8));
        assert_eq!(batch.take().map(|message| message.known), Some(Some(8)), "without a command too");
        assert!(batch.take().is_none());
    }

    #[tokio::test]
    async fn no_message_is_larger_than_all_messages_may_be() {
        let mut batch = WorkerBatch::new(Clock::start());
        for number in 1..=100 {
            let mut spec = FunctionSpec::new(format!("f{number}").parse().unwrap(), "any");
            spec.args = vec!["x".repeat(60_000)];
            batch.add(create(number, number, spec));
        }
        let largest = std::iter::from_fn(|| batch.take()).map(|message| prost::Message::encoded_len(&message)).max();
        assert!(largest.unwrap() <= api::MAX_LATER_MESSAGE_BYTES, "{largest:?} bytes");
    }
}
