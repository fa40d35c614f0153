//! How the parts talk: the wire messages, their conversion to and from the model, and connecting.
//!
//! Every connection between parts is one long-lived bidirectional stream of batches. A sender puts the newest
//! state into an [`Outbox`]; whatever is in it when the writer is free goes out as one message.

mod accept;
mod bounds;
mod connect;
mod convert;
mod heartbeats;
mod identity;
mod listen;
mod network;
mod outbox;
mod pages;
mod problem;
mod retold;
mod revisions;
mod token;
mod unproven;

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

pub use bounds::{MAX_BATCH_BYTES, MAX_MESSAGE_BYTES, MAX_TEXT_BYTES, MESSAGE_BYTES, Room, check_size, shorten};
pub use connect::{ConnectError, connect, connect_quietly, is_address, is_loopback};
pub use convert::{
    WireError, function_config, optional_address, parse_address, revision_spec, state_from_wire, state_to_wire,
};
pub use heartbeats::{HeartbeatReceiver, Heartbeats};
pub use identity::{
    MAX_UNWANTED_PAUSE, NameTaken, cluster_of_refusal, draw_cluster, draw_epoch_nonce, draw_instance,
    is_refused_for_name, is_unwanted, refuse_name, refuse_other_cluster,
};
pub use listen::{Incoming, PeerConnection, PeerInfo};
pub use network::{ANY_LOOPBACK, Accepted, Datagrams, Duplex, Io, Listener, Network, OsNetwork};
pub use outbox::{Batch, Outbox, OutboxMessages};
pub use pages::Pages;
pub use problem::{invalid_field, problem};
pub use retold::{Retold, describe_refusal, with_causes};
pub use revisions::Revisions;
pub use token::{CLUSTER_TOKEN_FILE, Token, TokenError, TokenSource};

/// The port of a sandbox that has ended becomes that of another one after this long at the soonest, where the machine has
/// enough ports: workers give out first what has rested longest. A data plane without a stream, to which nobody says that a
/// sandbox has ended, looks more often than this for whether its sandboxes are there.
pub const PORT_REST: Duration = Duration::from_secs(60);
/// Version of the wire protocol; peers of another version are refused in the first message.
pub const PROTOCOL_VERSION: u32 = 1;
