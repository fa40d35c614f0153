//! The time at which the state handles an input.

use std::time::Duration;

use service::{Clock, micros};

/// A moment, as the state sees it while it handles one input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Microseconds since the control plane started.
    pub(crate) us: u64,
    clock: Option<Clock>,
}

impl Now {
    pub(crate) fn read(clock: Clock) -> Self {
        Self { us: clock.now_us(), clock: Some(clock) }
    }

    /// A moment without a clock, which measures no durations.
    #[cfg(test)]
    pub(crate) fn at_us(us: u64) -> Self {
        Self { us, clock: None }
    }

    /// Returns the time `duration` later, in microseconds; saturates.
    pub(crate) fn after(self, duration: Duration) -> u64 {
        self.us.saturating_add(micros(duration))
    }

    /// Milliseconds since the control plane started, the unit of policies.
    pub(crate) fn ms(self) -> u64 {
        self.us / 1000
    }

    /// Reads the clock again, to measure a step that takes no time as far as decisions are concerned.
    pub(crate) fn measured_us(self) -> u64 {
        self.clock.map_or(self.us, Clock::now_us)
    }
}
