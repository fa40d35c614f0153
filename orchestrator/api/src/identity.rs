//! Who speaks on a stream: which process, and of which cluster.
//!
//! Ids are equal or not, and nothing else depends on them: a simulated run is the same whatever is drawn.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use model::ClusterId;
use tokio::time::Instant;
use tonic::{Code, Status, metadata::MetadataValue};

/// Metadata of a refusal: the cluster that the control plane belongs to, where what the peer knows means something else.
const CLUSTER_KEY: &str = "dirigent-cluster";
/// Metadata of a refusal: another process has the name of the peer or of one of its nodes.
const NAME_KEY: &str = "dirigent-name-taken";

/// A number for this process, drawn at random and never 0, which stands for a process that has none.
#[must_use]
pub fn draw_instance() -> u64 {
    draw(0).max(1)
}

/// The id of a cluster that begins now.
#[must_use]
pub fn draw_cluster() -> ClusterId {
    ClusterId(u128::from(draw(1)) << 64 | u128::from(draw(2)))
}

/// A number for an epoch that begins now, never 0, which stands for epochs that were begun without one.
#[must_use]
pub fn draw_epoch_nonce() -> u64 {
    draw(3).max(1)
}

/// The hasher's keys are the only random numbers that the standard library takes from the operating system.
fn draw(number: u8) -> u64 {
    RandomState::new().hash_one(number)
}

/// Refuses a peer that belongs to another cluster than the control plane, which is `ours`, or that knows of a history of
/// it which the control plane's command log does not have. What the peer knows means something else there.
#[must_use]
pub fn refuse_other_cluster(reason: String, ours: ClusterId) -> Status {
    let mut status = Status::failed_precondition(reason);
    if let Ok(value) = ours.to_string().parse() {
        status.metadata_mut().insert(CLUSTER_KEY, value);
    }
    status
}

/// The cluster of the control plane, if it refused this peer because what the peer knows is of another one, or of
/// another history of it.
#[must_use]
pub fn cluster_of_refusal(status: &Status) -> Option<&str> {
    status.metadata().get(CLUSTER_KEY)?.to_str().ok()
}

/// Refuses a peer because another process has its name or that of one of its nodes.
#[must_use]
pub fn refuse_name(reason: String) -> Status {
    let mut status = Status::failed_precondition(reason);
    status.metadata_mut().insert(NAME_KEY, MetadataValue::from_static("1"));
    status
}

/// Longest pause before a peer tries again where a control plane answered that it does not want it: a name in use stays so
/// until somebody changes it, and each refusal is a line in the control plane's log.
pub const MAX_UNWANTED_PAUSE: Duration = Duration::from_secs(5);

/// A peer whose name another process has for this long has lost its sandboxes: the control plane gave them up when it let
/// the other one in. As long as a silent worker is waited for by default.
const NAME_TAKEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Since when another process has had the name of a peer, as the peer knows it.
#[derive(Debug, Default)]
pub struct NameTaken {
    since: Option<Instant>,
}

impl NameTaken {
    /// Takes note of a refusal for the name. Returns true if the peer has lost its sandboxes by that.
    pub fn refused(&mut self) -> bool {
        self.since.get_or_insert_with(Instant::now).elapsed() >= NAME_TAKEN_TIMEOUT
    }

    /// Takes note that the name is the peer's own.
    pub fn welcomed(&mut self) {
        self.since = None;
    }

    /// When to try again that would wait for `pause`: not later than the refusal that decides.
    #[must_use]
    pub fn next_attempt(&self, pause: Duration) -> Duration {
        let left = self.since.map_or(Duration::ZERO, |since| NAME_TAKEN_TIMEOUT.saturating_sub(since.elapsed()));
        if left.is_zero() { pause } else { pause.min(left) }
    }
}

/// Returns true if the control plane answered that it does not want this peer as it is.
#[must_use]
pub fn is_unwanted(status: &Status) -> bool {
    status.code() == Code::FailedPrecondition
}

/// Returns true if the control plane refused this peer because another process has its name.
#[must_use]
pub fn is_refused_for_name(status: &Status) -> bool {
    status.metadata().contains_key(NAME_KEY)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_name_that_is_lost_is_asked_for_once_more_when_that_is_certain() {
        let mut name = NameTaken::default();
        let (began, mut pause) = (Instant::now(), Duration::from_millis(10));
        assert_eq!(name.next_attempt(pause), pause);
        while !name.refused() {
            advance(name.next_attempt(pause)).await;
            pause = (pause * 2).min(MAX_UNWANTED_PAUSE);
        }
        assert_eq!(began.elapsed(), NAME_TAKEN_TIMEOUT, "not one pause later");
        assert_eq!(name.next_attempt(MAX_UNWANTED_PAUSE), MAX_UNWANTED_PAUSE, "it is known by then");
        name.welcomed();
        assert!(!name.refused(), "another process has it since then");
    }

    #[test]
    fn what_is_drawn_differs() {
        assert_ne!(draw_instance(), draw_instance());
        assert_ne!(draw_cluster(), draw_cluster());
        assert_ne!(draw_epoch_nonce(), draw_epoch_nonce());
    }

    #[test]
    fn a_refusal_names_the_cluster_and_other_refusals_do_not() {
        let status = refuse_other_cluster("no".to_owned(), ClusterId(0xab));
        assert_eq!(cluster_of_refusal(&status), Some("000000000000000000000000000000ab"));
        assert_eq!(cluster_of_refusal(&Status::failed_precondition("no")), None);
        assert!(is_refused_for_name(&refuse_name("no".to_owned())) && !is_refused_for_name(&status));
    }
}
