//! A stream of the worker under test, as its simulated control plane sees it.

use std::{collections::VecDeque, net::SocketAddr};

use api::wire::{self, sandbox_event::Event};
use model::{Epoch, SandboxId};
use tokio::time::timeout;
use tonic::Streaming;

use super::Sender;
use crate::WAIT_TIMEOUT;

/// An open stream, which was welcomed. Dropping it breaks it.
pub struct WorkerStream {
    /// The first message.
    pub hello: wire::WorkerHello,
    epoch: u32,
    sender: Sender<wire::ToWorker>,
    messages: Streaming<wire::FromWorker>,
    events: VecDeque<wire::SandboxEvent>,
}

impl WorkerStream {
    pub(super) fn new(
        hello: wire::WorkerHello,
        epoch: u32,
        sender: Sender<wire::ToWorker>,
        messages: Streaming<wire::FromWorker>,
    ) -> Self {
        Self { hello, epoch, sender, messages, events: VecDeque::new() }
    }

    /// The id of a sandbox of this control plane's epoch.
    #[must_use]
    pub fn id(&self, sequence: u64) -> SandboxId {
        SandboxId::new(Epoch(self.epoch), sequence).unwrap()
    }

    /// Sends a message.
    pub fn send(&self, message: wire::ToWorker) {
        self.sender.send(Ok(message)).expect("the worker is connected");
    }

    /// Sends a revision and the command to create one sandbox of it on node 0. Returns its id.
    #[allow(clippy::must_use_candidate, reason = "a test may send the command for its effect alone")]
    pub fn create(&self, sequence: u64, spec: wire::RevisionSpec) -> SandboxId {
        let sandbox = self.id(sequence);
        let create = wire::CreateSandbox { sandbox: sandbox.to_wire(), node: 0, revision: spec.revision };
        self.send(wire::ToWorker { functions: vec![spec], create: vec![create], ..wire::ToWorker::default() });
        sandbox
    }

    /// Sends the command to delete a sandbox.
    pub fn delete(&self, sandbox: SandboxId) {
        self.send(wire::ToWorker { delete: vec![sandbox.to_wire()], ..wire::ToWorker::default() });
    }

    /// The next event of any sandbox.
    pub async fn event(&mut self) -> (SandboxId, Event) {
        loop {
            if let Some(event) = self.events.pop_front() {
                return (SandboxId::from_wire(event.sandbox), event.event.unwrap());
            }
            let message = timeout(WAIT_TIMEOUT, self.messages.message()).await.expect("an event arrives").unwrap();
            self.events.extend(message.expect("the stream is open").events);
        }
    }

    /// The next event other than progress of a creation.
    pub async fn outcome(&mut self) -> (SandboxId, Event) {
        loop {
            let (sandbox, event) = self.event().await;
            if !matches!(event, Event::Progress(_)) {
                return (sandbox, event);
            }
        }
    }

    /// The next event, which must be progress of the creation of `sandbox`. Returns true if it is queued.
    pub async fn is_queued(&mut self, sandbox: SandboxId) -> bool {
        match self.event().await {
            (id, Event::Progress(progress)) if id == sandbox => progress.queued,
            other => panic!("expected the progress of {sandbox}, found {other:?}"),
        }
    }

    /// The next outcome, which must be that `sandbox` is ready.
    pub async fn ready(&mut self, sandbox: SandboxId) -> (SocketAddr, wire::SandboxReady) {
        match self.outcome().await {
            (id, Event::Ready(ready)) if id == sandbox => (ready.address.parse().unwrap(), ready),
            other => panic!("expected {sandbox} to be ready, found {other:?}"),
        }
    }

    /// The next outcome, which must be the failure to create `sandbox`.
    pub async fn failed(&mut self, sandbox: SandboxId) -> wire::CreationFailed {
        match self.outcome().await {
            (id, Event::Failed(failed)) if id == sandbox => failed,
            other => panic!("expected {sandbox} to fail, found {other:?}"),
        }
    }

    /// The next outcome, which must be that `sandbox` ended.
    pub async fn ended(&mut self, sandbox: SandboxId) -> (wire::sandbox_ended::Reason, String) {
        match self.outcome().await {
            (id, Event::Ended(ended)) if id == sandbox => (ended.reason(), ended.message),
            other => panic!("expected {sandbox} to end, found {other:?}"),
        }
    }

    /// Waits until the worker ends its side.
    pub async fn closed(&mut self) {
        while let Ok(Some(_)) = timeout(WAIT_TIMEOUT, self.messages.message()).await.expect("the stream ends") {}
    }
}
