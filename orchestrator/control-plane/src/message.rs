//! Messages of peers, converted from the wire once, where they are read.
//!
//! Names and addresses are checked, and numbers and texts are cut at bounds that no real peer comes near. So a faulty
//! or malicious peer affects only what concerns itself, and sums over all peers, for as long as a control plane runs,
//! stay in their types. A zero or an empty text that means "none" on the wire is an `Option` or an enum here.

mod data_plane;
mod worker;

pub(crate) use self::{
    data_plane::{
        CapAck, DataPlaneHello, DataPlaneMessage, Demand, EndpointFailure, FunctionSample, GrantAck, HeldGrant,
    },
    worker::{
        CreationProgress, EndReason, HeldSandbox, HeldState, MAX_SANDBOXES, SandboxEvent, SandboxReady, SandboxReport,
        Step, WorkerHello,
    },
};

/// Longest time that a sample covers, or that anything took: a day.
const MAX_TIME_US: u64 = 24 * 3600 * 1_000_000;
/// Longest name of a peer or of a node: a host's name (RFC 1035).
const MAX_NAME_BYTES: usize = 253;
/// Longest part of a refused name that a refusal repeats.
const MAX_SHOWN_CHARS: usize = 32;

fn check_name(peer: &str, name: &str) -> Result<(), String> {
    if is_name(name, MAX_NAME_BYTES) {
        return Ok(());
    }
    let shown: String = name.chars().take(MAX_SHOWN_CHARS).collect();
    Err(format!("a {peer} needs a name of 1 to {MAX_NAME_BYTES} letters, digits and `.-_`: this one is {shown:?}"))
}

/// Returns true for a name that is safe in logs, paths and addresses.
fn is_name(name: &str, max_bytes: usize) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=max_bytes).contains(&name.len()) && name.bytes().all(is_plain)
}

fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn non_zero(number: u64) -> Option<u64> {
    (number != 0).then_some(number)
}
