//! The state that all components of one data plane share: configuration, clock, network, functions and counters.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use http::HeaderValue;
use model::FunctionId;
use policy::balance::Balance;
use rand_pcg::Pcg32;
use service::{Clock, Network};

use crate::{
    clients::AllUnsent,
    config::Config,
    metrics::Metrics,
    overload::Overload,
    reports::Reports,
    sampler::Sampled,
    table::Table,
    upstream::{IdleConnections, Trust},
};

/// The shared state of one data plane.
pub(crate) struct Plane {
    pub(crate) config: Config,
    /// Balancing policy of functions that configure none.
    pub(crate) policy: &'static Balance,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) functions: Table,
    /// Active functions, whose load is being sampled.
    pub(crate) sampled: Sampled,
    pub(crate) reports: Reports,
    pub(crate) idle: IdleConnections,
    pub(crate) request_ids: RequestIds,
    seed: u64,
    /// Random number that distinguishes this process from others of the same name.
    pub(crate) instance: u64,
    /// Set once a snapshot of the cluster is complete.
    ready: AtomicBool,
    /// Evidence that sandboxes still exist, needed to open connections while there is no stream.
    pub(crate) trust: Trust,
    stopping: AtomicBool,
    pub(crate) overload: Overload,
    /// Requests that hold a permit of `limits.invocations`.
    open_requests: AtomicUsize,
    /// Response bytes that HTTP/2 clients have not read.
    pub(crate) unsent: AllUnsent,
}

impl Plane {
    /// A data plane without functions. `seed` determines its request ids and the random choices of its functions.
    pub(crate) fn new(config: Config, policy: &'static Balance, network: Arc<dyn Network>, seed: u64) -> Self {
        Self {
            idle: IdleConnections::new(config.limits.idle_connections()),
            config,
            policy,
            network,
            clock: Clock::start(),
            metrics: Arc::default(),
            functions: Table::default(),
            sampled: Sampled::default(),
            reports: Reports::default(),
            request_ids: RequestIds { seed, count: AtomicU64::new(0) },
            seed,
            instance: api::random_instance(),
            ready: AtomicBool::new(false),
            trust: Trust::default(),
            stopping: AtomicBool::new(false),
            overload: Overload::default(),
            open_requests: AtomicUsize::new(0),
            unsent: AllUnsent::default(),
        }
    }

    /// A generator for one function's random choices; the same seed gives the same choices in every run.
    pub(crate) fn random_for(&self, function: FunctionId) -> Pcg32 {
        Pcg32::new(self.seed, function.0)
    }

    /// Returns true if the set of functions is known.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Called when a snapshot is complete.
    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Called when the cluster is left: the set of functions is unknown again.
    pub(crate) fn set_unready(&self) {
        self.ready.store(false, Ordering::Release);
    }

    /// Takes a permit. The bound is checked by [`Self::is_full`] afterwards, so that a refused request is counted as
    /// well.
    pub(crate) fn request_opened(&self) {
        self.open_requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns a permit: the response is complete or the client has left.
    pub(crate) fn request_closed(&self) {
        self.open_requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Requests that hold a permit.
    pub(crate) fn open_requests(&self) -> usize {
        self.open_requests.load(Ordering::Relaxed)
    }

    /// Returns true if more requests hold permits than may, the calling one included.
    pub(crate) fn is_full(&self) -> bool {
        self.open_requests() > self.config.limits.invocations()
    }

    /// Number of further connections to sandboxes that take no file descriptors from clients.
    pub(crate) fn spare_descriptors(&self) -> usize {
        // Each open request has a connection or may need one.
        self.config.limits.upstream_connections().saturating_sub(self.open_requests() + self.idle.count())
    }

    /// Returns true if one more connection to a sandbox could take a file descriptor from clients.
    pub(crate) fn is_short_of_descriptors(&self) -> bool {
        self.spare_descriptors() == 0
    }

    /// Returns true while the data plane is draining.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Starts the drain: no more invocations are admitted.
    pub(crate) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

/// Generates ids for requests that arrive without one.
pub(crate) struct RequestIds {
    seed: u64,
    count: AtomicU64,
}

impl RequestIds {
    /// The next id as 32 hexadecimal digits: the seed and a counter, so that no id repeats.
    pub(crate) fn next(&self) -> HeaderValue {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let id = u128::from(self.seed) << 64 | u128::from(number);
        let text: [u8; 32] = std::array::from_fn(|index| DIGITS[(id >> (124 - 4 * index) & 0xf) as usize]);
        HeaderValue::from_bytes(&text).expect("hexadecimal digits are visible ASCII")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_hexadecimal_and_never_the_same() {
        let ids = RequestIds { seed: 0xab, count: AtomicU64::new(9) };
        assert_eq!(ids.next(), "00000000000000ab0000000000000009");
        assert_eq!(ids.next(), "00000000000000ab000000000000000a");
    }
}
