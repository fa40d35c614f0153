//! Counters of a data plane: plain atomics on the warm path, read by Prometheus.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use service::Histogram;

use crate::{refusal::Cause, timeline::Timeline};

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
    pub(crate) wait: Histogram,
    /// Time from slot to response head.
    pub(crate) execution: Histogram,
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
            self.wait.observe_us(timeline.waited_us());
        }
        self.execution.observe_us(timeline.executed_us());
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

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
