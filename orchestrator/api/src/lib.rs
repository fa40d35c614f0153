//! Protocol between components: the wire messages, their conversion to and from the model, and the streams that carry
//! them.
//!
//! A data plane or worker has one long-lived bidirectional stream of batches to the control plane. A sender puts the
//! newest state into an [`Outbox`]; everything in it when the writer is free is sent as one message.

mod bounds;
mod connect;
mod convert;
mod heartbeats;
mod identity;
mod incoming;
mod outbox;
mod peer_config;
mod refusal;
mod revisions;
mod session;
mod token;
mod unauthenticated;

/// The messages and services generated from `proto/orchestrator.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    clippy::large_futures,
    reason = "generated; the .proto file is the documentation"
)]
pub mod wire {
    tonic::include_proto!("dirigent.v1");
}

use std::time::Duration;

pub use bounds::{
    MAX_BATCH_BYTES, MAX_FIRST_MESSAGE_BYTES, MAX_LATER_MESSAGE_BYTES, MAX_TEXT_BYTES, Room, check_size, shorten,
};
pub use connect::{ConnectError, connect, connect_with_slow_pings, is_address, is_loopback};
pub use convert::{
    WireError, function_config, optional_address, parse_address, revision_spec, state_from_wire, state_to_wire,
};
pub use heartbeats::{HeartbeatReceiver, Heartbeats};
pub use identity::{NameConflict, random_cluster, random_epoch_nonce, random_instance};
pub use incoming::{Incoming, PeerConnection, PeerInfo};
pub use outbox::{Batch, Outbox, OutboxMessages};
pub use peer_config::check_peer_config;
pub use refusal::{
    MAX_REFUSED_BACKOFF, cluster_of_refusal, describe_refusal, is_name_conflict, is_refusal, refuse_name,
    refuse_other_cluster,
};
pub use revisions::Revisions;
pub use session::{SessionError, handshake, next_message};
pub use token::{CLUSTER_TOKEN_FILE, Token, TokenError, TokenSource};

/// Minimum time between the end of a sandbox and the reuse of its port, if the machine has enough ports: workers reuse
/// the port that has been free longest. A data plane without a stream, which receives no deltas about ended sandboxes,
/// checks more often than this that its sandboxes still exist.
pub const PORT_REUSE_DELAY: Duration = Duration::from_secs(60);
/// Version of the wire protocol. A peer of another version is refused after its first message.
pub const PROTOCOL_VERSION: u32 = 1;
