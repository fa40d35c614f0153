//! A simulated worker.

use api::{
    PROTOCOL_VERSION,
    wire::{self, sandbox_event::Event},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::client::{self, Membership, StreamPort};

/// A worker that is connected to the control plane under test.
pub struct Worker {
    name: String,
    outgoing: mpsc::Sender<wire::FromWorker>,
    incoming: Streaming<wire::ToWorker>,
}

impl Worker {
    /// Opens a stream and sends the hello.
    ///
    /// # Errors
    /// If the control plane refuses the stream before the first message.
    pub async fn connect(port: &StreamPort, hello: wire::WorkerHello) -> Result<Self, Status> {
        let (outgoing, messages) = mpsc::channel(16);
        let name = hello.worker.clone();
        outgoing.send(wire::FromWorker { hello: Some(hello), ..Default::default() }).await.unwrap();
        let response = port.client().await.connect_worker(port.sign(ReceiverStream::new(messages))).await?;
        Ok(Self { name, outgoing, incoming: response.into_inner() })
    }

    /// The hello of a process that knows nothing yet, with one node `NAME-node` of one CPU and 1 GiB.
    #[must_use]
    pub fn hello(name: &str) -> wire::WorkerHello {
        let node = wire::NodeAnnouncement { name: format!("{name}-node"), cpu_millicores: 1000, memory_mib: 1024 };
        wire::WorkerHello {
            protocol_version: PROTOCOL_VERSION,
            worker: name.to_owned(),
            runtime: "model".to_owned(),
            nodes: vec![node],
            ..Default::default()
        }
    }

    /// The hello of a process that has read `welcome`.
    #[must_use]
    pub fn hello_again(name: &str, welcome: &wire::Welcome) -> wire::WorkerHello {
        let Membership { cluster, epoch, epoch_nonce } = Membership::of(welcome);
        wire::WorkerHello { cluster, epoch, epoch_nonce, ..Self::hello(name) }
    }

    /// Reads one message.
    pub async fn read(&mut self) -> wire::ToWorker {
        client::next(&mut self.incoming).await
    }

    /// Reads messages until one has what is searched for.
    pub async fn read_until<T>(&mut self, find: impl Fn(&wire::ToWorker) -> Option<T>) -> T {
        loop {
            if let Some(found) = find(&self.read().await) {
                return found;
            }
        }
    }

    /// Reports an event of a sandbox.
    pub async fn event(&self, sandbox: u64, event: Event) {
        let events = vec![wire::SandboxEvent { sandbox, event: Some(event) }];
        self.outgoing.send(wire::FromWorker { events, ..Default::default() }).await.expect("the control plane reads");
    }

    /// Reports that a sandbox is ready.
    pub async fn ready(&self, sandbox: u64) {
        let ready = wire::SandboxReady {
            address: "127.1.0.1:80".to_owned(),
            create_us: 5,
            ready_us: 2,
            own_us: 8,
            ..Default::default()
        };
        self.event(sandbox, Event::Ready(ready)).await;
    }

    /// Ends its side of the stream, and returns once the control plane has read everything.
    pub async fn leave(self) {
        let Self { outgoing, mut incoming, .. } = self;
        drop(outgoing);
        client::read_to_end(&mut incoming).await;
    }

    /// Sends one heartbeat, over a connection of its own.
    pub async fn heartbeat(&self, port: &StreamPort) {
        let heartbeat = wire::WorkerHeartbeat { worker: self.name.clone(), ..Default::default() };
        let messages = port.sign(tokio_stream::iter([heartbeat]));
        port.client().await.heartbeat(messages).await.expect("the heartbeat is accepted");
    }

    /// The reason for which the control plane ends the stream without a command.
    pub async fn refusal(&mut self) -> Status {
        client::refusal(&mut self.incoming).await
    }
}
