//! Rate limit for log lines about failures that repeat, such as those of a component that cannot reach its control
//! plane: a reason is logged when it is new, and then once a minute while it lasts.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// Interval at which a lasting reason is logged: often enough to be seen at the end of a log, and sixty lines an hour.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Maximum number of remembered peers. Failures of further peers are logged each time.
const MAX_REMEMBERED: usize = 4096;

/// Remembers the newest logged reason per peer, which is an address that was tried or a name that was refused.
#[derive(Debug, Default)]
pub struct LogLimiter(HashMap<String, (String, Instant)>);

impl LogLimiter {
    /// Returns true if a failure of `peer` for `reason` is to be logged now, and remembers it as logged.
    pub fn should_log(&mut self, peer: &str, reason: &str) -> bool {
        let now = Instant::now();
        if self.0.get(peer).is_some_and(|(last, at)| last == reason && now.duration_since(*at) < LOG_INTERVAL) {
            return false;
        }
        if self.0.len() >= MAX_REMEMBERED {
            self.0.retain(|_, (_, at)| now.duration_since(*at) < LOG_INTERVAL);
        }
        if self.0.len() < MAX_REMEMBERED || self.0.contains_key(peer) {
            self.0.insert(peer.to_owned(), (reason.to_owned(), now));
        }
        true
    }

    /// Forgets all reasons after a success, so that the next failure is logged.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reason_is_logged_when_it_is_new_and_then_once_a_minute() {
        let mut log_limiter = LogLimiter::default();
        let mut logged = 0;
        for _ in 0..600 {
            logged += u32::from(log_limiter.should_log("a:1", "refused"));
            logged += u32::from(log_limiter.should_log("b:1", "no such host"));
            tokio::time::advance(Duration::from_millis(250)).await;
        }
        assert_eq!(logged, 6, "150 s of two addresses: at 0, 60 and 120 s each");
        assert!(log_limiter.should_log("a:1", "no token") && !log_limiter.should_log("a:1", "no token"));
        log_limiter.clear();
        assert!(log_limiter.should_log("a:1", "no token"), "a success came in between");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_peers_beyond_the_bound_are_logged_each_time() {
        let mut log_limiter = LogLimiter::default();
        assert!(log_limiter.should_log("worker a", "x") && log_limiter.should_log("worker b", "x"));
        assert!(!log_limiter.should_log("worker a", "x"));
        assert!(log_limiter.should_log("worker a", "y"));
        tokio::time::advance(LOG_INTERVAL).await;
        assert!(log_limiter.should_log("worker a", "y"));
        assert!((0..MAX_REMEMBERED).all(|number| log_limiter.should_log(&format!("worker {number}"), "x")));
        assert!(log_limiter.should_log("one more", "x") && log_limiter.should_log("one more", "x"));
        assert_eq!(log_limiter.0.len(), MAX_REMEMBERED);
        tokio::time::advance(LOG_INTERVAL).await;
        assert!(log_limiter.should_log("one more", "x") && !log_limiter.should_log("one more", "x"));
    }
}
