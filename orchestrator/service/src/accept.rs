//! Back-off and rate-limited logging when a listener cannot accept connections.

use std::{io, time::Duration};

use tokio::time::{Instant, sleep};

/// Wait after a failed accept, so that the accept loop does not spin while the process is out of file descriptors.
const BACKOFF: Duration = Duration::from_millis(10);
/// Minimum time between two log lines: failures occur once per [`BACKOFF`] while their cause lasts.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Failed accepts of one listener.
pub struct AcceptFailures {
    listener: &'static str,
    /// Failures since the newest log line.
    count: u64,
    logged: Option<Instant>,
}

impl AcceptFailures {
    /// Counts the failures of the listener that the log calls `listener`.
    #[must_use]
    pub fn new(listener: &'static str) -> Self {
        Self { listener, count: 0, logged: None }
    }

    /// Counts one failure, logs it unless another one was logged within the last second, and waits.
    pub async fn log_and_back_off(&mut self, error: &io::Error) {
        self.count += 1;
        let now = Instant::now();
        if self.logged.is_none_or(|logged| now.duration_since(logged) >= LOG_INTERVAL) {
            let (listener, failures) = (self.listener, self.count);
            tracing::warn!(cause = %error, failures, "cannot accept a connection on {listener}");
            (self.count, self.logged) = (0, Some(now));
        }
        sleep(BACKOFF).await;
    }
}
