//! Waiting for a state, with a deadline.

use std::time::Duration;

use tokio::time::Instant;

/// Longest wait for anything that a test expects; far above what it takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// Interval between polls.
const POLL: Duration = Duration::from_millis(10);

/// Calls `check` until it succeeds; fails after [`DEADLINE`] with `expected` and what was seen last.
pub(crate) fn wait_for<T>(expected: &str, check: impl FnMut() -> Result<T, String>) -> T {
    wait_within(DEADLINE, expected, check)
}

/// The same with a deadline that is part of the property.
pub(crate) fn wait_within<T>(deadline: Duration, expected: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let since = Instant::now();
    loop {
        match check() {
            Ok(found) => return found,
            Err(seen) if since.elapsed() > deadline => panic!("expected {expected} within {deadline:?}; last: {seen}"),
            Err(_) => std::thread::park_timeout(POLL),
        }
    }
}

/// `Ok` when `holds`, what was `seen` otherwise: the end of most polls.
pub(crate) fn check(holds: bool, seen: impl ToString) -> Result<(), String> {
    if holds { Ok(()) } else { Err(seen.to_string()) }
}
