//! What to do when a connection cannot be accepted: wait, and say so now and then.

use std::{io, time::Duration};

use tokio::time::{Instant, sleep};

/// Wait after a failed accept, so that the loop does not spin while descriptors are short.
const BACKOFF: Duration = Duration::from_millis(10);
/// Failures are logged this often at most: they come as fast as they are tried again.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// The failed accepts of one port.
pub(crate) struct Failures {
    port: &'static str,
    count: u64,
    logged: Option<Instant>,
}

impl Failures {
    /// Of the port of this name.
    pub(crate) fn of(port: &'static str) -> Self {
        Self { port, count: 0, logged: None }
    }

    /// Takes note of one more, and waits.
    pub(crate) async fn note(&mut self, error: &io::Error) {
        self.count += 1;
        let now = Instant::now();
        if self.logged.is_none_or(|logged| now.duration_since(logged) >= LOG_INTERVAL) {
            let (port, failures) = (self.port, self.count);
            tracing::warn!(cause = %error, failures, "cannot accept a connection on {port}");
            (self.count, self.logged) = (0, Some(now));
        }
        sleep(BACKOFF).await;
    }
}
