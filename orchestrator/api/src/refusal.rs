//! Refusals of peers: the gRPC statuses with which the control plane ends a stream, and their meaning for the peer.

use std::{error::Error, time::Duration};

use model::ClusterId;
use service::with_causes;
use tonic::{Code, Status, metadata::MetadataValue};

/// Metadata key of a refusal whose reason is the cluster or its history: the id of the control plane's cluster.
const CLUSTER_KEY: &str = "dirigent-cluster";
/// Metadata key of a refusal whose reason is a name: another process uses the name of the peer or of one of its nodes.
const NAME_CONFLICT_KEY: &str = "dirigent-name-taken";

/// Maximum back-off of a refused peer. The reason usually lasts until somebody changes a configuration, and each
/// attempt writes a line to the control plane's log.
pub const MAX_REFUSED_BACKOFF: Duration = Duration::from_secs(5);

/// Refuses a peer whose state refers to another cluster than the control plane's, `own`, or to a history of that
/// cluster which the control plane's command log does not contain. Ids in the peer's state have another meaning there.
#[must_use]
pub fn refuse_other_cluster(reason: String, own: ClusterId) -> Status {
    let mut status = Status::failed_precondition(reason);
    if let Ok(value) = own.to_string().parse() {
        status.metadata_mut().insert(CLUSTER_KEY, value);
    }
    status
}

/// Returns the control plane's cluster if it refused this peer by [`refuse_other_cluster`].
#[must_use]
pub fn cluster_of_refusal(status: &Status) -> Option<&str> {
    status.metadata().get(CLUSTER_KEY)?.to_str().ok()
}

/// Refuses a peer because another process uses its name or the name of one of its nodes.
#[must_use]
pub fn refuse_name(reason: String) -> Status {
    let mut status = Status::failed_precondition(reason);
    status.metadata_mut().insert(NAME_CONFLICT_KEY, MetadataValue::from_static("1"));
    status
}

/// Returns true if the control plane refused this peer by [`refuse_name`].
#[must_use]
pub fn is_name_conflict(status: &Status) -> bool {
    status.metadata().contains_key(NAME_CONFLICT_KEY)
}

/// Returns true if the control plane refused this peer in its present configuration, so that an immediate retry is
/// useless.
#[must_use]
pub fn is_refusal(status: &Status) -> bool {
    status.code() == Code::FailedPrecondition
}

/// Messages of the HTTP/2 library for a response that belongs to no stream of this protocol, such as one of a data
/// plane's port for invocations.
const FOREIGN_MESSAGES: [&str; 2] = ["invalid compression flag", "grpc-status header missing"];

/// Describes the end of a stream for a log line. If the status does not come from a control plane, the server at that
/// address speaks another protocol or broke the connection, and the text says how to check the address.
#[must_use]
pub fn describe_refusal(status: &Status) -> String {
    let is_foreign = FOREIGN_MESSAGES.iter().any(|message| status.message().contains(message));
    // A status that a control plane sent has no source, unlike one made here of a failed transport.
    let cause = match status.source() {
        None if is_foreign => status.message().to_owned(),
        None => return format!("the control plane refused: {}", status.message()),
        Some(cause) => with_causes(cause),
    };
    format!(
        "no control plane's stream answered there ({cause}); --control-plane wants its port for data planes and workers, \
         which is another one than that for operators"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_for_the_cluster_names_it() {
        let status = refuse_other_cluster("no".to_owned(), ClusterId(0xab));
        assert_eq!(cluster_of_refusal(&status), Some("000000000000000000000000000000ab"));
        assert_eq!(cluster_of_refusal(&Status::failed_precondition("no")), None);
        assert!(is_name_conflict(&refuse_name("no".to_owned())) && !is_name_conflict(&status));
    }
}
