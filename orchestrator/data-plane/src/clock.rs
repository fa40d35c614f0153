//! The data plane's clock: microseconds since it was built, so that decisions take plain numbers.

use tokio::time::{Duration, Instant};

/// Counts from its creation, on tokio's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Microseconds since its creation; never decreases.
    pub(crate) fn now_us(self) -> u64 {
        micros(self.origin.elapsed())
    }

    /// Microseconds from its creation to `instant`.
    pub(crate) fn us_at(self, instant: Instant) -> u64 {
        micros(instant.saturating_duration_since(self.origin))
    }

    /// The instant `us` microseconds after its creation.
    pub(crate) fn at(self, us: u64) -> Instant {
        self.origin + Duration::from_micros(us)
    }
}

/// Whole microseconds of a duration: enough for 584,000 years.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
