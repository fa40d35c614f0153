//! Identity of the ends of a stream: random ids of clusters, epochs and processes, and name conflicts.
//!
//! Ids are only compared for equality, so a simulated run does not depend on their values and they need no seed.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use model::ClusterId;
use tokio::time::Instant;

/// Returns a random id for this process. It is never 0, which means that a process has none.
#[must_use]
pub fn random_instance() -> u64 {
    random_u64(0).max(1)
}

/// Returns a random id for a new cluster.
#[must_use]
pub fn random_cluster() -> ClusterId {
    ClusterId(u128::from(random_u64(1)) << 64 | u128::from(random_u64(2)))
}

/// Returns a random nonce for a new epoch. It is never 0, which means that an epoch has none.
#[must_use]
pub fn random_epoch_nonce() -> u64 {
    random_u64(3).max(1)
}

/// Uses the keys of a hasher: the only random numbers of the operating system that the standard library offers.
fn random_u64(salt: u8) -> u64 {
    RandomState::new().hash_one(salt)
}

/// A peer whose name another process has used for this long has lost its sandboxes: the control plane replaced them
/// when it admitted the other process. Equals the default time after which an unresponsive worker is dead.
const NAME_CONFLICT_TIMEOUT: Duration = Duration::from_secs(10);

/// A peer's record of how long another process has used its name.
#[derive(Debug, Default)]
pub struct NameConflict {
    since: Option<Instant>,
}

impl NameConflict {
    /// Records a refusal because of the name. Returns true if the peer has lost its sandboxes.
    pub fn on_refusal(&mut self) -> bool {
        self.since.get_or_insert_with(Instant::now).elapsed() >= NAME_CONFLICT_TIMEOUT
    }

    /// Records that the control plane accepted the name.
    pub fn on_welcome(&mut self) {
        self.since = None;
    }

    /// Returns the delay before the next attempt: `backoff`, shortened so that the attempt that decides is not late.
    #[must_use]
    pub fn next_attempt(&self, backoff: Duration) -> Duration {
        let left = self.since.map_or(Duration::ZERO, |since| NAME_CONFLICT_TIMEOUT.saturating_sub(since.elapsed()));
        if left.is_zero() { backoff } else { backoff.min(left) }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::MAX_REFUSED_BACKOFF;

    #[tokio::test(start_paused = true)]
    async fn the_attempt_that_confirms_a_lost_name_is_not_delayed_by_back_off() {
        let mut name = NameConflict::default();
        let (began, mut backoff) = (Instant::now(), Duration::from_millis(10));
        assert_eq!(name.next_attempt(backoff), backoff);
        while !name.on_refusal() {
            advance(name.next_attempt(backoff)).await;
            backoff = (backoff * 2).min(MAX_REFUSED_BACKOFF);
        }
        assert_eq!(began.elapsed(), NAME_CONFLICT_TIMEOUT, "no back-off is added");
        assert_eq!(
            name.next_attempt(MAX_REFUSED_BACKOFF),
            MAX_REFUSED_BACKOFF,
            "the loss is known, so the usual back-off applies"
        );
        name.on_welcome();
        assert!(!name.on_refusal(), "a new conflict starts a new period");
    }

    #[test]
    fn random_ids_differ() {
        assert_ne!(random_instance(), random_instance());
        assert_ne!(random_cluster(), random_cluster());
        assert_ne!(random_epoch_nonce(), random_epoch_nonce());
    }
}
