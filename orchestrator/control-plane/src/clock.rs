//! The control plane's monotonic time, in microseconds since it started.

use std::time::Duration;

use tokio::time::Instant;

/// Tells the time since one instant. Cheap to copy; follows tokio's clock, which a simulation controls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

/// A moment, as the state sees it while it handles one input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Microseconds since the control plane started.
    pub(crate) us: u64,
    clock: Option<Clock>,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub(crate) fn now_us(self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn now(self) -> Now {
        Now { us: self.now_us(), clock: Some(self) }
    }

    pub(crate) fn instant(self, us: u64) -> Instant {
        self.origin + Duration::from_micros(us)
    }
}

/// A duration in microseconds, `u64::MAX` for one that is longer.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Now {
    /// A moment without a clock behind it.
    #[cfg(test)]
    pub(crate) fn at_us(us: u64) -> Self {
        Self { us, clock: None }
    }

    /// So much later, in microseconds; the end of time for a duration that leads beyond it.
    pub(crate) fn after(self, duration: Duration) -> u64 {
        self.us.saturating_add(micros(duration))
    }

    /// Milliseconds, as policies count them.
    pub(crate) fn ms(self) -> u64 {
        self.us / 1000
    }

    /// The clock read again, for measuring a step that takes no time as far as decisions are concerned.
    pub(crate) fn measured_us(self) -> u64 {
        self.clock.map_or(self.us, Clock::now_us)
    }
}
