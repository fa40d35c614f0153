//! Connections of simulated workers and data planes to the control plane under test.

use std::sync::Arc;

use api::{
    Token,
    wire::{self, orchestrator_client::OrchestratorClient},
};
use service::OsNetwork;
use tokio::time::timeout;
use tonic::{Request, Status, Streaming, transport::Channel};

use crate::WAIT_TIMEOUT;

/// The address for streams of a control plane, and the token that peers present there.
#[derive(Clone)]
pub struct StreamPort {
    /// `host:port`.
    pub address: String,
    /// The cluster's token; `None` to present none.
    pub token: Option<Token>,
}

impl StreamPort {
    /// The request with the token.
    pub(crate) fn sign<T>(&self, messages: T) -> Request<T> {
        Token::attach(self.token.as_ref(), messages)
    }

    pub(crate) async fn client(&self) -> OrchestratorClient<Channel> {
        let channel = api::connect(Arc::new(OsNetwork), &self.address).await.expect("the control plane listens");
        OrchestratorClient::new(channel).max_decoding_message_size(api::MAX_FIRST_MESSAGE_BYTES)
    }
}

/// The next message of a stream that stays open.
pub(crate) async fn next<T>(stream: &mut Streaming<T>) -> T {
    timeout(WAIT_TIMEOUT, stream.message()).await.expect("a message arrives").unwrap().expect("the stream is open")
}

/// The reason for which the control plane ends a stream without a message.
pub(crate) async fn refusal<T>(stream: &mut Streaming<T>) -> Status
where
    Option<T>: std::fmt::Debug,
{
    timeout(WAIT_TIMEOUT, stream.message()).await.expect("a response arrives").expect_err("the peer is refused")
}

/// Reads until the control plane ends the stream.
pub(crate) async fn read_to_end<T>(stream: &mut Streaming<T>) {
    while let Ok(Some(_)) = timeout(WAIT_TIMEOUT, stream.message()).await.expect("the stream ends") {}
}

/// The identity of the cluster in a hello of a process that has read this welcome.
pub(crate) struct Membership {
    pub(crate) cluster: String,
    pub(crate) epoch: u32,
    pub(crate) epoch_nonce: u64,
}

impl Membership {
    pub(crate) fn of(welcome: &wire::Welcome) -> Self {
        Self { cluster: welcome.cluster.clone(), epoch: welcome.epoch, epoch_nonce: welcome.epoch_nonce }
    }
}
