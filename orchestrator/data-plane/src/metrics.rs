//! Counters of a data plane: plain atomics on the warm path, read by Prometheus.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{refusal::Cause, timeline::Timeline};

/// Smallest upper bound of the latency buckets. Bounds are powers of two up to 67 s, so that finding a bucket is a
/// count of leading zeros.
const MIN_BOUND_US: u64 = 64;
/// Bounded buckets; one more takes the rest.
const BUCKETS: usize = 21;

/// All counters of a data plane.
#[derive(Default)]
pub(crate) struct Metrics {
    responded: AtomicU64,
    cold: AtomicU64,
    client_gone: AtomicU64,
    refused: [AtomicU64; Cause::ALL.len()],
    retries: AtomicU64,
    sandboxes_failed: AtomicU64,
    responses_broken: AtomicU64,
    connections_opened: AtomicU64,
    streams: AtomicU64,
    /// Time from arrival to slot, of invocations that waited.
    pub(crate) wait: Latency,
    /// Time from slot to response head.
    pub(crate) execution: Latency,
}

/// A histogram of durations.
#[derive(Default)]
pub(crate) struct Latency {
    buckets: [AtomicU64; BUCKETS + 1],
    sum_us: AtomicU64,
}

/// A reading of the counters.
pub(crate) struct Counts {
    /// Requests by outcome.
    pub(crate) outcomes: Vec<(&'static str, u64)>,
    /// Other counters: name, help text, value.
    pub(crate) totals: [(&'static str, &'static str, u64); 6],
}

impl Metrics {
    /// Counts a response of a function.
    pub(crate) fn responded(&self, timeline: &Timeline) {
        add(&self.responded);
        if timeline.is_cold() {
            add(&self.cold);
        }
        if timeline.waited_us() > 0 {
            self.wait.record(timeline.waited_us());
        }
        self.execution.record(timeline.executed_us());
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, cause: Cause) {
        add(&self.refused[cause as usize]);
    }

    /// Counts a client that left before a response.
    pub(crate) fn client_gone(&self) {
        add(&self.client_gone);
    }

    /// Counts a retry.
    pub(crate) fn retried(&self) {
        add(&self.retries);
    }

    /// Counts a response that was truncated.
    pub(crate) fn response_broken(&self) {
        add(&self.responses_broken);
    }

    /// Counts a failed sandbox.
    pub(crate) fn sandbox_failed(&self) {
        add(&self.sandboxes_failed);
    }

    /// Counts an opened connection to a sandbox.
    pub(crate) fn connection_opened(&self) {
        add(&self.connections_opened);
    }

    /// Counts an established stream to a control plane.
    pub(crate) fn connected(&self) {
        add(&self.streams);
    }

    /// Reads the counters.
    pub(crate) fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let own = [("ok", read(&self.responded)), ("client-gone", read(&self.client_gone))];
        let refused = Cause::ALL.iter().map(|&cause| (cause.name(), read(&self.refused[cause as usize])));
        Counts {
            outcomes: own.into_iter().chain(refused).collect(),
            totals: [
                ("cold_starts", "Invocations whose sandbox became ready after they arrived", read(&self.cold)),
                ("retries", "Further attempts after a sandbox failed", read(&self.retries)),
                ("sandboxes_failed", "Sandboxes found not to work", read(&self.sandboxes_failed)),
                ("responses_broken", "Responses that ended early after their heads", read(&self.responses_broken)),
                ("upstream_connections_opened", "Connections to sandboxes opened", read(&self.connections_opened)),
                ("streams_opened", "Streams to a control plane opened", read(&self.streams)),
            ],
        }
    }
}

impl Latency {
    fn record(&self, us: u64) {
        // Minus one, because upper bounds are inclusive.
        let bits = u64::BITS - us.saturating_sub(1).leading_zeros();
        let bucket = bits.saturating_sub(MIN_BOUND_US.ilog2()) as usize;
        add(&self.buckets[bucket.min(BUCKETS)]);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// The sum in seconds, and each bucket's upper bound in seconds with its count.
    pub(crate) fn read(&self) -> (f64, Vec<(f64, u64)>) {
        #[allow(clippy::cast_precision_loss, reason = "a sum of microseconds is exact to 285 years")]
        let seconds = |us: u64| us as f64 / 1e6;
        let bounds = (0..BUCKETS).map(|index| seconds(MIN_BOUND_US << index)).chain([f64::MAX]);
        let counts = self.buckets.iter().map(|count| count.load(Ordering::Relaxed));
        (seconds(self.sum_us.load(Ordering::Relaxed)), bounds.zip(counts).collect())
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_below_its_bound() {
        let latency = Latency::default();
        for us in [0, 1, 64, 65, 128, 129, 67_108_864, 67_108_865, u64::MAX / 2] {
            latency.record(us);
        }
        let (_, buckets) = latency.read();
        let counted: Vec<_> = buckets.iter().filter(|(_, count)| *count > 0).copied().collect();
        let expected = [(0.000_064, 3), (0.000_128, 2), (0.000_256, 1), (67.108_864, 1), (f64::MAX, 2)];
        assert_eq!(counted, expected);
    }
}
