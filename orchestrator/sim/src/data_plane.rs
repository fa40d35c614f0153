//! A simulated data plane.

use std::collections::BTreeMap;

use api::{PROTOCOL_VERSION, wire};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::client::{self, Membership, StreamPort};

/// A data plane that is connected to the control plane under test.
pub struct DataPlane {
    outgoing: mpsc::Sender<wire::FromDataPlane>,
    incoming: Streaming<wire::ToDataPlane>,
    /// Names of the functions that it knows, by id.
    pub functions: BTreeMap<u64, String>,
    /// The welcome, empty before it is read.
    pub welcome: wire::Welcome,
}

impl DataPlane {
    /// Opens a stream and sends the hello.
    ///
    /// # Errors
    /// If the control plane refuses the stream before the first message.
    pub async fn connect(port: &StreamPort, hello: wire::DataPlaneHello) -> Result<Self, Status> {
        let (outgoing, messages) = mpsc::channel(16);
        outgoing.send(wire::FromDataPlane { hello: Some(hello), ..Default::default() }).await.unwrap();
        let response = port.client().await.connect_data_plane(port.sign(ReceiverStream::new(messages))).await?;
        let (functions, welcome) = (BTreeMap::new(), wire::Welcome::default());
        Ok(Self { outgoing, incoming: response.into_inner(), functions, welcome })
    }

    /// The hello of a process that knows nothing yet.
    #[must_use]
    pub fn hello(name: &str) -> wire::DataPlaneHello {
        wire::DataPlaneHello {
            protocol_version: PROTOCOL_VERSION,
            data_plane: name.to_owned(),
            address: "127.0.0.1:8080".to_owned(),
            ..Default::default()
        }
    }

    /// The hello of a process that has read `welcome`.
    #[must_use]
    pub fn hello_again(name: &str, welcome: &wire::Welcome) -> wire::DataPlaneHello {
        let Membership { cluster, epoch, epoch_nonce } = Membership::of(welcome);
        wire::DataPlaneHello { cluster, epoch, epoch_nonce, ..Self::hello(name) }
    }

    /// Sends a message.
    pub async fn send(&self, message: wire::FromDataPlane) {
        self.outgoing.send(message).await.expect("the control plane reads");
    }

    /// Reads until the control plane ends the stream.
    pub async fn ended(&mut self) {
        client::read_to_end(&mut self.incoming).await;
    }

    /// Reads one message, remembers its functions, and acknowledges its endpoints.
    pub async fn read(&mut self) -> wire::ToDataPlane {
        let message = client::next(&mut self.incoming).await;
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

    /// Reads messages until one has what is searched for.
    pub async fn read_until<T>(&mut self, find: impl Fn(&wire::ToDataPlane) -> Option<T>) -> T {
        loop {
            if let Some(found) = find(&self.read().await) {
                return found;
            }
        }
    }

    /// Acknowledges the sequence of each message, until the connection ends.
    #[must_use]
    pub fn acknowledge_all(mut self) -> JoinHandle<()> {
        tokio::spawn(async move {
            while let Ok(Some(message)) = self.incoming.message().await {
                let applied = wire::FromDataPlane { applied: message.sequence, ..Default::default() };
                if self.outgoing.send(applied).await.is_err() {
                    return;
                }
            }
        })
    }

    /// Reports the invocations of a function that wait and run.
    pub async fn demand(&self, function: u64, waiting: u32, running: u32) {
        let demand = vec![wire::Demand { function, waiting, running }];
        self.send(wire::FromDataPlane { demand, ..Default::default() }).await;
    }

    /// The reason for which the control plane ends the stream without a snapshot.
    pub async fn refusal(&mut self) -> Status {
        client::refusal(&mut self.incoming).await
    }

    /// The id of a function that it knows.
    #[must_use]
    pub fn id_of(&self, name: &str) -> u64 {
        *self.functions.iter().find(|(_, known)| *known == name).expect("the function was announced").0
    }
}
