//! What everything in one data plane shares: its configuration, clock, network, functions and counters.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use api::Network;
use http::HeaderValue;
use model::FunctionId;
use policy::balance::Balance;
use rand_pcg::Pcg32;

use crate::{
    clients::AllUnsent,
    clock::Clock,
    config::Config,
    metrics::Metrics,
    overload::Overload,
    reports::Reports,
    sampler::Sampled,
    table::Table,
    upstream::{IdleConnections, Trust},
};

/// One data plane.
pub(crate) struct Plane {
    pub(crate) config: Config,
    /// How invocations of functions are balanced that choose nothing themselves.
    pub(crate) policy: &'static Balance,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) functions: Table,
    /// Functions whose load is being sampled.
    pub(crate) sampled: Sampled,
    pub(crate) reports: Reports,
    pub(crate) idle: IdleConnections,
    pub(crate) request_ids: RequestIds,
    seed: u64,
    /// This process, among those of its name.
    pub(crate) instance: u64,
    /// Whether a snapshot of its cluster was received.
    ready: AtomicBool,
    /// Whether sandboxes are known to be there.
    pub(crate) trust: Trust,
    stopping: AtomicBool,
    pub(crate) overload: Overload,
    /// Requests that hold a place.
    open_requests: AtomicUsize,
    /// What HTTP/2 clients have not taken of their responses.
    pub(crate) unsent: AllUnsent,
}

impl Plane {
    /// A data plane that knows nothing yet. `seed` makes its request ids and its functions' random choices its own.
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
            instance: api::draw_instance(),
            ready: AtomicBool::new(false),
            trust: Trust::default(),
            stopping: AtomicBool::new(false),
            overload: Overload::default(),
            open_requests: AtomicUsize::new(0),
            unsent: AllUnsent::default(),
        }
    }

    /// Randomness for one function's choices: the same in every run with the same seed.
    pub(crate) fn random_for(&self, function: FunctionId) -> Pcg32 {
        Pcg32::new(self.seed, function.0)
    }

    /// Whether it knows the functions.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// A snapshot is complete.
    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// It belongs to no cluster any more, and knows no functions.
    pub(crate) fn set_unready(&self) {
        self.ready.store(false, Ordering::Release);
    }

    /// A request has come.
    pub(crate) fn request_opened(&self) {
        self.open_requests.fetch_add(1, Ordering::Relaxed);
    }

    /// It holds no place any more: its response is complete, or its client has left.
    pub(crate) fn request_closed(&self) {
        self.open_requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Requests that hold a place.
    pub(crate) fn open_requests(&self) -> usize {
        self.open_requests.load(Ordering::Relaxed)
    }

    /// Whether as many requests are under way as may be, the one that asks among them.
    pub(crate) fn is_full(&self) -> bool {
        self.open_requests() > self.config.limits.invocations()
    }

    /// Number of further connections to sandboxes that take no descriptors from clients.
    pub(crate) fn spare_descriptors(&self) -> usize {
        // Each request has or may want a connection.
        self.config.limits.upstream_connections().saturating_sub(self.open_requests() + self.idle.count())
    }

    /// Whether connections to sandboxes could take descriptors from clients, were one more opened.
    pub(crate) fn is_short_of_descriptors(&self) -> bool {
        self.spare_descriptors() == 0
    }

    /// Whether it takes no more invocations.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// It takes no more invocations from now on.
    pub(crate) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

/// Makes ids for requests that come without one.
pub(crate) struct RequestIds {
    seed: u64,
    count: AtomicU64,
}

impl RequestIds {
    /// 32 hexadecimal digits: this data plane's seed and a number that it never uses twice.
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
