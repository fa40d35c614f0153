//! Monotonic time as microseconds since a component started, so that decisions take plain numbers.

use tokio::time::{Duration, Instant};

/// Counts microseconds from its creation. Cheap to copy; follows tokio's clock, which a simulation controls.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Creates a clock whose time is 0 now.
    #[must_use]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Returns the microseconds since its creation; never decreases.
    #[must_use]
    pub fn now_us(self) -> u64 {
        micros(self.origin.elapsed())
    }

    /// Returns the microseconds from its creation to `instant`; 0 for an earlier instant.
    #[must_use]
    pub fn us_at(self, instant: Instant) -> u64 {
        micros(instant.saturating_duration_since(self.origin))
    }

    /// Returns the instant `us` microseconds after its creation.
    #[must_use]
    pub fn at(self, us: u64) -> Instant {
        self.origin + Duration::from_micros(us)
    }
}

/// Converts a duration to whole microseconds; `u64::MAX` for more than 584,000 years.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
