//! Time as this data plane counts it: microseconds since it was built, so that decisions take plain numbers.

use tokio::time::{Duration, Instant};

/// Counts from the moment it was made, on tokio's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that begins now.
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Microseconds since its beginning; never decreases.
    pub(crate) fn now_us(self) -> u64 {
        micros(self.origin.elapsed())
    }

    /// Microseconds from its beginning to `instant`.
    pub(crate) fn us_at(self, instant: Instant) -> u64 {
        micros(instant.saturating_duration_since(self.origin))
    }

    /// The instant `us` after its beginning.
    pub(crate) fn at(self, us: u64) -> Instant {
        self.origin + Duration::from_micros(us)
    }
}

/// A duration in whole microseconds: enough for 584,000 years.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
