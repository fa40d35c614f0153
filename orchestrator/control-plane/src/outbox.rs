//! Messages to peers: batches that keep only the newest state until they are sent, converted to the wire then.

mod data_plane;
mod worker;

use api::{PROTOCOL_VERSION, wire};

pub(crate) use self::{data_plane::DataPlaneBatch, worker::WorkerBatch};
use crate::state::Welcome;

fn welcome_to_wire(welcome: Welcome) -> wire::Welcome {
    let Welcome { term, heartbeat_port } = welcome;
    wire::Welcome {
        protocol_version: PROTOCOL_VERSION,
        epoch: term.epoch.0,
        heartbeat_port: heartbeat_port.unwrap_or_default().into(),
        cluster: term.cluster.to_string(),
        epoch_nonce: term.nonce,
    }
}
