//! Measures the load of a function: the time integral of its invocations, which feeds the autoscaling policies.

/// The load of one function over a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoadSample {
    pub(crate) span_ms: u32,
    /// Time integral of waiting + running over the span: invocations times microseconds.
    pub(crate) concurrency_us: u64,
    /// Arrivals within the span.
    pub(crate) requests: u32,
    /// Waiting invocations at its end.
    pub(crate) waiting: u32,
    /// Running invocations at its end.
    pub(crate) running: u32,
    /// Greatest waiting + running within the span.
    pub(crate) peak: u32,
    /// Cold starts completed within the span.
    pub(crate) cold: u32,
}

/// Measures one function between samples. Its load is waiting + running invocations.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Set while samples are being taken.
    sampled: bool,
    /// Start of the current span, microseconds.
    span_since_us: u64,
    /// `integral_us` is complete up to this time.
    counted_until_us: u64,
    /// Sum of load × microseconds over the span.
    integral_us: u64,
    requests: u32,
    peak: u32,
}

impl Activity {
    /// Counts an arrival. Returns true if sampling was off and must start.
    pub(super) fn arrive(&mut self, now_us: u64) -> bool {
        let begins = self.begin(now_us);
        self.requests = self.requests.saturating_add(1);
        begins
    }

    /// Starts measuring. Returns false if it was running.
    pub(super) fn begin(&mut self, now_us: u64) -> bool {
        if self.sampled {
            return false;
        }
        *self = Self { sampled: true, span_since_us: now_us, counted_until_us: now_us, ..Self::default() };
        true
    }

    /// Records that the load was `before` until now and is `after` from now on.
    pub(super) fn change(&mut self, now_us: u64, before: u32, after: u32) {
        self.count(now_us, before);
        self.peak = self.peak.max(after);
    }

    /// The measurements since the last sample, and whether to continue: sampling ends with an idle span.
    pub(super) fn sample(&mut self, now_us: u64, waiting: u32, running: u32) -> (LoadSample, bool) {
        let load = waiting + running;
        self.count(now_us, load);
        let sample = LoadSample {
            span_ms: u32::try_from(now_us.saturating_sub(self.span_since_us) / 1000).unwrap_or(u32::MAX),
            concurrency_us: self.integral_us,
            requests: self.requests,
            waiting,
            running,
            peak: self.peak.max(load),
            cold: 0,
        };
        // An invocation may begin and end within the span: the load at its end does not show it.
        let active = load > 0 || self.requests > 0 || self.integral_us > 0;
        *self = Self {
            sampled: active,
            span_since_us: now_us,
            counted_until_us: now_us,
            integral_us: 0,
            requests: 0,
            peak: load,
        };
        (sample, active)
    }

    fn count(&mut self, now_us: u64, load: u32) {
        // Two threads may read the clock in one order and take the lock in the other, so time may appear to go back.
        let span_us = now_us.saturating_sub(self.counted_until_us);
        self.integral_us += span_us * u64::from(load);
        self.counted_until_us += span_us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_integrates_load_over_time_and_an_idle_one_is_the_last() {
        let mut activity = Activity::default();
        assert!(activity.arrive(1_000), "the first arrival begins the samples");
        activity.change(1_000, 0, 1);
        assert!(!activity.arrive(3_000));
        activity.change(3_000, 1, 2);
        activity.change(4_000, 2, 0);
        let (sample, active) = activity.sample(11_000, 0, 0);
        assert_eq!((sample.span_ms, sample.concurrency_us, sample.requests, sample.peak), (10, 4_000, 2, 2));
        assert!(active, "it was busy within the span");
        let (sample, active) = activity.sample(12_000, 0, 0);
        assert_eq!((sample.span_ms, sample.concurrency_us, sample.requests, sample.peak), (1, 0, 0, 0));
        assert!(!active, "a whole span passed without anything");
        assert!(activity.arrive(20_000), "so the next arrival begins anew");
    }

    #[test]
    fn a_constant_load_counts_in_every_span() {
        let mut activity = Activity::default();
        activity.arrive(0);
        activity.change(0, 0, 3);
        for _ in 0..2 {
            let (sample, active) = activity.sample(activity.counted_until_us + 1_000, 2, 1);
            assert_eq!((sample.concurrency_us, sample.peak, active), (3_000, 3, true));
        }
    }

    #[test]
    fn a_clock_read_out_of_order_is_harmless() {
        let mut activity = Activity::default();
        activity.arrive(0);
        activity.change(10, 0, 1);
        activity.change(5, 1, 2);
        activity.change(20, 2, 0);
        assert_eq!(activity.sample(20, 0, 0).0.concurrency_us, 20);
    }
}
