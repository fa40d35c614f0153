//! Waiting for a part that is being started: a connection that is refused is tried again for a bounded time, so that a
//! script may go on right after it started a cluster.

use std::{thread, time::Duration};

use tokio::time::Instant;

/// Longest wait for a part to listen. A cluster listens within a second, on a busy machine within a few.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait after which the user is told what the program waits for.
const SILENT: Duration = Duration::from_secs(1);
/// Between two attempts: short against what a command takes, and no burden for a machine.
const PAUSE: Duration = Duration::from_millis(50);

/// Longest wait of one call.
pub(crate) struct ConnectRetry {
    since: Instant,
    limit: Duration,
    has_said_so: bool,
}

impl ConnectRetry {
    /// At most for `limit` from now on.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { since: Instant::now(), limit, has_said_so: false }
    }

    /// Waits a little; `false` when it has been long enough. `what` is said once, on standard error.
    #[allow(clippy::disallowed_methods, reason = "an operator's command has no runtime on this thread")]
    pub(crate) fn wait(&mut self, what: &str) -> bool {
        let left = self.limit.saturating_sub(self.since.elapsed());
        if left.is_zero() {
            return false;
        }
        if !self.has_said_so && self.since.elapsed() >= SILENT {
            self.has_said_so = true;
            terminal::note!("{what}: waiting for it, {:.0?} more at most", left);
        }
        thread::sleep(PAUSE.min(left));
        true
    }
}
