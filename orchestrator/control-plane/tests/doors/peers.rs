//! A data plane and a worker that do what a test tells them, over real connections.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api::{
    PROTOCOL_VERSION, Token,
    wire::{self, orchestrator_client::OrchestratorClient, sandbox_event::Event},
};
use service::OsNetwork;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming, transport::Channel};

/// Everything a test waits for comes within this time, or the test fails.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Where peers connect, and the token that they show there.
#[derive(Clone)]
pub(crate) struct StreamPort {
    pub(crate) address: String,
    pub(crate) token: Option<Token>,
}

impl StreamPort {
    fn sign<T>(&self, messages: T) -> Request<T> {
        Token::attach(self.token.as_ref(), messages)
    }
}

async fn client(stream: &StreamPort) -> OrchestratorClient<Channel> {
    let channel = api::connect(Arc::new(OsNetwork), &stream.address).await.expect("the control plane listens");
    OrchestratorClient::new(channel).max_decoding_message_size(api::MAX_FIRST_MESSAGE_BYTES)
}

/// A data plane under a test's control.
pub(crate) struct DataPlane {
    outgoing: mpsc::Sender<wire::FromDataPlane>,
    incoming: Streaming<wire::ToDataPlane>,
    /// Names of the functions it knows, by id.
    pub(crate) functions: BTreeMap<u64, String>,
    /// What it was welcomed with; empty before it has read that.
    pub(crate) welcome: wire::Welcome,
}

impl DataPlane {
    pub(crate) async fn connect(stream: &StreamPort, hello: wire::DataPlaneHello) -> Result<Self, Status> {
        let (outgoing, messages) = mpsc::channel(16);
        let hello = Some(hello);
        outgoing.send(wire::FromDataPlane { hello, ..Default::default() }).await.unwrap();
        let answer = client(stream).await.connect_data_plane(stream.sign(ReceiverStream::new(messages))).await?;
        Ok(Self {
            outgoing,
            incoming: answer.into_inner(),
            functions: BTreeMap::new(),
            welcome: wire::Welcome::default(),
        })
    }

    pub(crate) fn hello(name: &str) -> wire::DataPlaneHello {
        wire::DataPlaneHello {
            protocol_version: PROTOCOL_VERSION,
            data_plane: name.to_owned(),
            address: "127.0.0.1:8080".to_owned(),
            ..Default::default()
        }
    }

    /// The first words of a process that obeyed such a welcome.
    pub(crate) fn hello_again(name: &str, welcome: &wire::Welcome) -> wire::DataPlaneHello {
        let wire::Welcome { cluster, epoch, epoch_nonce, .. } = welcome.clone();
        wire::DataPlaneHello { cluster, epoch, epoch_nonce, ..Self::hello(name) }
    }

    pub(crate) async fn send(&self, message: wire::FromDataPlane) {
        self.outgoing.send(message).await.expect("the control plane reads");
    }

    /// Reads until the control plane ends the stream.
    pub(crate) async fn ended(&mut self) {
        while let Ok(Some(_)) = timeout(SOON, self.incoming.message()).await.expect("the stream ends") {}
    }

    /// Reads one message, remembers its functions, and acknowledges what it brings.
    pub(crate) async fn read(&mut self) -> wire::ToDataPlane {
        let message = timeout(SOON, self.incoming.message()).await.expect("a message comes").unwrap().unwrap();
        message.welcome.iter().for_each(|welcome| self.welcome.clone_from(welcome));
        self.functions.extend(message.functions.iter().map(|config| (config.function, config.name.clone())));
        message.removed.iter().for_each(|function| drop(self.functions.remove(function)));
        let ack = |delta: &wire::EndpointDelta| wire::EndpointAck {
            sandbox: delta.sandbox,
            function: delta.function,
            slots: if delta.state() == wire::EndpointState::Active { delta.slots } else { 0 },
            version: delta.version,
            own_us: 0,
        };
        let acks = message.endpoints.iter().map(ack).collect();
        self.send(wire::FromDataPlane { acks, applied: message.sequence, ..Default::default() }).await;
        message
    }

    /// The same of a message of so many bytes at most.
    pub(crate) async fn read_within(&mut self, bytes: usize) -> wire::ToDataPlane {
        let message = self.read().await;
        assert!(prost::Message::encoded_len(&message) <= bytes);
        message
    }

    pub(crate) async fn read_until<T>(&mut self, found: impl Fn(&wire::ToDataPlane) -> Option<T>) -> T {
        loop {
            if let Some(found) = found(&self.read().await) {
                return found;
            }
        }
    }

    /// Acknowledges whatever comes, until the connection ends.
    pub(crate) fn obey(mut self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            while let Ok(Some(message)) = self.incoming.message().await {
                let applied = wire::FromDataPlane { applied: message.sequence, ..Default::default() };
                if self.outgoing.send(applied).await.is_err() {
                    return;
                }
            }
        })
    }

    pub(crate) async fn demand(&self, function: u64, waiting: u32, running: u32) {
        let demand = vec![wire::Demand { function, waiting, running }];
        self.send(wire::FromDataPlane { demand, ..Default::default() }).await;
    }

    /// Why the control plane ends the connection without a snapshot.
    pub(crate) async fn refusal(&mut self) -> Status {
        timeout(SOON, self.incoming.message()).await.expect("an answer comes").expect_err("it is refused")
    }

    pub(crate) fn id_of(&self, name: &str) -> u64 {
        *self.functions.iter().find(|(_, known)| *known == name).expect("the function was announced").0
    }
}

/// A worker under a test's control.
pub(crate) struct Worker {
    outgoing: mpsc::Sender<wire::FromWorker>,
    incoming: Streaming<wire::ToWorker>,
}

impl Worker {
    pub(crate) async fn connect(stream: &StreamPort, hello: wire::WorkerHello) -> Result<Self, Status> {
        let (outgoing, messages) = mpsc::channel(16);
        outgoing.send(wire::FromWorker { hello: Some(hello), ..Default::default() }).await.unwrap();
        let answer = client(stream).await.connect_worker(stream.sign(ReceiverStream::new(messages))).await?;
        Ok(Self { outgoing, incoming: answer.into_inner() })
    }

    pub(crate) fn hello(name: &str) -> wire::WorkerHello {
        wire::WorkerHello {
            protocol_version: PROTOCOL_VERSION,
            worker: name.to_owned(),
            runtime: "model".to_owned(),
            nodes: vec![wire::NodeAnnouncement {
                name: format!("{name}-node"),
                cpu_millicores: 1000,
                memory_mib: 1024,
            }],
            ..Default::default()
        }
    }

    /// The first words of a process that obeyed such a welcome.
    pub(crate) fn hello_again(name: &str, welcome: &wire::Welcome) -> wire::WorkerHello {
        let wire::Welcome { cluster, epoch, epoch_nonce, .. } = welcome.clone();
        wire::WorkerHello { cluster, epoch, epoch_nonce, ..Self::hello(name) }
    }

    pub(crate) async fn read(&mut self) -> wire::ToWorker {
        timeout(SOON, self.incoming.message()).await.expect("a message comes").unwrap().unwrap()
    }

    pub(crate) async fn read_until<T>(&mut self, found: impl Fn(&wire::ToWorker) -> Option<T>) -> T {
        loop {
            if let Some(found) = found(&self.read().await) {
                return found;
            }
        }
    }

    pub(crate) async fn event(&self, sandbox: u64, event: Event) {
        let events = vec![wire::SandboxEvent { sandbox, event: Some(event) }];
        self.outgoing.send(wire::FromWorker { events, ..Default::default() }).await.expect("the control plane reads");
    }

    pub(crate) async fn ready(&self, sandbox: u64) {
        let ready = wire::SandboxReady {
            address: "127.1.0.1:80".to_owned(),
            create_us: 5,
            ready_us: 2,
            own_us: 8,
            ..Default::default()
        };
        self.event(sandbox, Event::Ready(ready)).await;
    }

    /// Leaves when all that it said was read.
    pub(crate) async fn leave(self) {
        let Self { outgoing, mut incoming } = self;
        drop(outgoing);
        while let Ok(Some(_)) = timeout(SOON, incoming.message()).await.expect("the control plane ends the stream") {}
    }

    /// Sends one heartbeat.
    pub(crate) async fn heartbeat(&self, stream: &StreamPort) {
        let heartbeat = wire::WorkerHeartbeat { worker: "w".to_owned(), ..Default::default() };
        client(stream)
            .await
            .heartbeat(stream.sign(tokio_stream::iter([heartbeat])))
            .await
            .expect("the heartbeat is taken");
    }

    /// Why the control plane ends the connection without a command.
    pub(crate) async fn refusal(&mut self) -> Status {
        timeout(SOON, self.incoming.message()).await.expect("an answer comes").expect_err("it is refused")
    }
}
