//! Probes sandboxes while there is no control plane: then no deletion is reported, and the address of a deleted sandbox
//! may be reused by another function. A worker assigns the port that has been unused longest, so as a rule a released
//! port refuses connections for [`PORT_REUSE_DELAY`](api::PORT_REUSE_DELAY). Without a stream each sandbox to which a
//! connection may be opened is probed more often than that; requests do not wait for probes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream, stream::FuturesUnordered};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    Sandbox,
    trust::{TICK, is_the_same},
};
use crate::{
    function::{Function, SandboxFailure, Usage},
    plane::Plane,
};
use service::micros;

/// Time between two probes of a sandbox with a free slot. The probes of all sandboxes are spread over it.
const PROBE_PERIOD: Duration = Duration::from_secs(10);
/// Time between two probes of a full sandbox. No invocation connects to it before a slot is free, and it remains
/// trusted by then if one of two probes within the trust period succeeds.
///
/// A program that accepts nothing while it is busy keeps closed probes in its listen backlog: five fill a backlog of
/// five after 100 s. Later probes fail, from which nothing is concluded.
const FULL_PROBE_PERIOD: Duration = Duration::from_secs(20);
/// Concurrent probes of the sandboxes at one address. An unresponsive machine does not delay probes of others.
const MAX_PROBES: usize = 64;
/// Concurrent probes per address if there are many addresses: some may hang without delaying the others of their
/// address for long.
const MIN_PROBES: usize = 2;
/// Longest time whose due probes are caught up after a suspension of this process or a late tick: they would compete
/// with the requests that waited. Twice the probes of a tick cover all sandboxes within 5 s, which leaves time for
/// those whose trust is running out.
const MAX_CAUGHT_UP: Duration = Duration::from_secs(2);
/// Concurrent probes if file descriptors are short. Without any, sandboxes that exist would lose their trust and be
/// returned.
const MIN_PROBE_PERMITS: usize = 16;

/// Bounds the concurrent probes over all addresses. The rate is bounded elsewhere; a probe takes about one round trip,
/// so a few permits allow thousands per second.
struct ProbeLimiter {
    permits: Semaphore,
    /// Number of permits, in use or not.
    size: AtomicUsize,
    /// Target number of permits, reached once enough of them are returned.
    wanted: AtomicUsize,
}

/// A probe that is due.
struct Probe {
    function: Arc<Function>,
    sandbox: Arc<Sandbox>,
    usage: Usage,
    /// Time at which the sandbox was last known to exist or probed, microseconds.
    last_us: u64,
}

/// Records that this process is running, and probes the sandboxes while there is no stream. Never returns.
pub(crate) async fn probe_sandboxes(plane: Arc<Plane>) {
    let mut ticks = interval(TICK);
    // `share` bounds what is caught up, so missed ticks are not repeated.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let limiter = ProbeLimiter::new();
    let mut passes = FuturesUnordered::new();
    let mut busy = BTreeSet::new();
    let mut last_us = plane.clock.now_us();
    loop {
        tokio::select! {
            // Ticks first: they tell whether the process was suspended, on which all evidence depends.
            biased;
            _ = ticks.tick() => {
                let now_us = plane.clock.now_us();
                let elapsed_us = now_us.saturating_sub(std::mem::replace(&mut last_us, now_us));
                let had_stream = plane.trust.has_stream();
                plane.trust.tick(now_us);
                // If the tick ended the stream, the next one gets a moment to begin.
                if had_stream {
                    continue;
                }
                limiter.resize(plane.spare_descriptors());
                let due = due(&plane, &busy, elapsed_us);
                let width = limiter.width(busy.len() + due.len());
                for (address, probes) in due {
                    busy.insert(address);
                    passes.push(pass(&plane, &limiter, width, address, probes));
                }
            }
            Some(address) = passes.next() => {
                busy.remove(&address);
            }
        }
    }
}

/// The probes due `elapsed_us` after the last call, by address, least recently probed first. Returns the grants of
/// sandboxes that are not trusted any more. Addresses in `busy` still have probes under way and get no more.
fn due(plane: &Plane, busy: &BTreeSet<IpAddr>, elapsed_us: u64) -> BTreeMap<IpAddr, Vec<Probe>> {
    let (now_us, expects_stream) = (plane.clock.now_us(), plane.trust.expects_stream());
    let (mut count, mut returned, mut probes) = (0, 0, Vec::new());
    for function in plane.functions.all() {
        for (sandbox, usage) in function.view(|state| state.usable_sandboxes()) {
            count += 1;
            let known_us = sandbox.known_us(plane, now_us);
            if !is_the_same(known_us, now_us) {
                // A probe could reach another sandbox at this address.
                if usage == Usage::Idle && !expects_stream {
                    returned += usize::from(function.return_grant(&sandbox));
                }
                continue;
            }
            let period = if usage == Usage::Full { FULL_PROBE_PERIOD } else { PROBE_PERIOD };
            let last_us = known_us.max(sandbox.probe_started_us());
            if now_us.saturating_sub(last_us) >= micros(period) && !busy.contains(&sandbox.address().ip()) {
                probes.push(Probe { function: function.clone(), sandbox, usage, last_us });
            }
        }
    }
    if returned > 0 {
        tracing::warn!(sandboxes = returned, "grants returned: the sandboxes may have ended unseen");
    }
    // By id as well, so that a simulation is reproducible.
    probes.sort_by_key(|probe| (probe.last_us, probe.sandbox.id()));
    probes.truncate(share(count, elapsed_us));
    let mut by_address = BTreeMap::<_, Vec<_>>::new();
    for probe in probes {
        by_address.entry(probe.sandbox.address().ip()).or_default().push(probe);
    }
    by_address
}

/// Number of probes of `count` sandboxes after `elapsed_us`, so that all are probed within the period, or soon after it
/// if ticks are late.
fn share(count: usize, elapsed_us: u64) -> usize {
    let part = |us: u64| usize::try_from(us).unwrap_or(usize::MAX);
    count.saturating_mul(part(elapsed_us.min(micros(MAX_CAUGHT_UP)))).div_ceil(part(micros(PROBE_PERIOD)))
}

impl ProbeLimiter {
    fn new() -> Self {
        let [size, wanted] = [MIN_PROBE_PERMITS; 2].map(AtomicUsize::new);
        Self { permits: Semaphore::new(MIN_PROBE_PERMITS), size, wanted }
    }

    /// Resizes to half of the `spare` descriptors; the other half is for requests. Probes under way finish first.
    fn resize(&self, spare: usize) {
        let wanted = (spare / 2).clamp(MIN_PROBE_PERMITS, Semaphore::MAX_PERMITS);
        let size = self.size.load(Ordering::Relaxed);
        let taken_away = self.permits.forget_permits(size.saturating_sub(wanted));
        self.permits.add_permits(wanted.saturating_sub(size));
        self.size.store(size.max(wanted) - taken_away, Ordering::Relaxed);
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    /// Returns the permit of a finished probe, or removes it if there are too many.
    fn leave(&self, permit: SemaphorePermit<'_>) {
        if self.size.load(Ordering::Relaxed) > self.wanted.load(Ordering::Relaxed) {
            self.size.fetch_sub(1, Ordering::Relaxed);
            permit.forget();
        }
    }

    /// Concurrent probes per address for this number of addresses, so that unresponsive addresses do not take all
    /// permits.
    fn width(&self, addresses: usize) -> usize {
        (self.wanted.load(Ordering::Relaxed) / addresses.max(1)).clamp(MIN_PROBES, MAX_PROBES)
    }
}

/// Runs the probes of one address, `width` at a time.
async fn pass(plane: &Plane, limiter: &ProbeLimiter, width: usize, address: IpAddr, probes: Vec<Probe>) -> IpAddr {
    let probes = stream::iter(probes).for_each_concurrent(width, async |probe: Probe| {
        let Ok(permit) = limiter.permits.acquire().await else { return };
        probe.probe(plane).await;
        limiter.leave(permit);
    });
    probes.await;
    address
}

impl Probe {
    /// Connects to the sandbox to find out whether it exists.
    async fn probe(self, plane: &Plane) {
        let Self { function, sandbox, usage, .. } = self;
        let began_us = plane.clock.now_us();
        sandbox.probe_started(began_us);
        if plane.trust.has_stream() || !is_the_same(sandbox.known_us(plane, began_us), began_us) {
            return;
        }
        let connected = timeout(plane.config.limits.connect_timeout, plane.network.connect_to(sandbox.address())).await;
        let now_us = plane.clock.now_us();
        match connected {
            Ok(Ok(_closed_at_once)) if is_the_same(sandbox.known_us(plane, now_us), now_us) => {
                sandbox.probe_succeeded(began_us)
            }
            // A full sandbox need not accept more, and its responses may still be on their way. If something was
            // received meanwhile it exists: it may have refused because it became busy.
            Ok(Err(error))
                if error.kind() == io::ErrorKind::ConnectionRefused
                    && usage != Usage::Full
                    && sandbox.known_us(plane, now_us) <= began_us =>
            {
                let failing = SandboxFailure::broken("it refuses connections, and there is no control plane");
                function.fail_sandbox_unless_full(&sandbox, failing);
            }
            // Other failures prove nothing. The grant is returned once trust has run out.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn late_probes_are_caught_up_in_parts() {
        let second = micros(TICK);
        assert_eq!([0, second / 2, second].map(|elapsed_us| share(10_000, elapsed_us)), [0, 500, 1_000]);
        assert_eq!([2, 5, 54].map(|seconds| share(10_000, seconds * second)), [2_000; 3]);
        assert_eq!((share(1, second), share(0, second)), (1, 0), "each has its turn");
    }

    #[test]
    fn half_of_the_spare_descriptors_are_for_probes_and_a_few_without_any() {
        let limiter = ProbeLimiter::new();
        assert_eq!((limiter.permits.available_permits(), limiter.width(1)), (MIN_PROBE_PERMITS, MIN_PROBE_PERMITS));
        limiter.resize(1_000);
        assert_eq!((limiter.permits.available_permits(), limiter.width(1), limiter.width(100)), (500, MAX_PROBES, 5));
        let mut under_way: Vec<_> = (0..490).map(|_| limiter.permits.try_acquire().unwrap()).collect();
        limiter.resize(0);
        let mut waiting = Box::pin(limiter.permits.acquire());
        let mut waits = || waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        assert!(waits(), "more are under way than may be");
        for permit in under_way.split_off(MIN_PROBE_PERMITS) {
            limiter.leave(permit);
            assert!(waits(), "there are too many still");
        }
        under_way.drain(..).for_each(|permit| limiter.leave(permit));
        assert!(!waits());
        assert_eq!(
            (limiter.permits.available_permits(), limiter.width(2), limiter.width(40)),
            (MIN_PROBE_PERMITS, 8, MIN_PROBES)
        );
    }
}
