//! Sandboxes without a control plane: nobody says then that one was deleted, and its address may become that of another
//! function's. A worker gives out first the port that has rested longest, so where one has ended nobody takes connections for
//! [`PORT_REST`](api::PORT_REST), as a rule. While there is no stream, each sandbox to which a connection may be opened is
//! looked at more often than that; requests are not held up by it.

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
    clock::micros,
    function::{Function, SandboxFailure, Usage},
    plane::Plane,
};

/// Time between two looks at a sandbox with a free slot. Looks at all of them are spread over it.
const PROBE_PERIOD: Duration = Duration::from_secs(10);
/// The same where all slots are in use. Nobody else connects to it before one is free; it is known to be there by then if one
/// of two looks finds it in the time after which it would not be.
///
/// A program that accepts nothing while it is busy keeps each look in its backlog, though it has ended: five fill a backlog of
/// five after 100 s. Looks are in vain from then on, from which nothing follows.
const FULL_PROBE_PERIOD: Duration = Duration::from_secs(20);
/// Looks under way at the sandboxes of one address. Where a machine does not answer, those at others do not wait for it.
const MAX_PROBES: usize = 64;
/// The same where there are many addresses: some of them hang without holding up the others of their address for long.
const MIN_PROBES: usize = 2;
/// After a pause of this process, or a late tick, as many looks are taken as are due after this long, and no more: they would
/// come together with the requests that waited. Twice those of a tick are all within 5 s, which leaves time for those that
/// were not known to be there for long.
const MAX_CAUGHT_UP: Duration = Duration::from_secs(2);
/// Looks under way where descriptors are short: what is kept for everything else has room for so few. Without any, sandboxes
/// would be given back that are there.
const MIN_PROBE_PERMITS: usize = 16;

/// Bounds the looks under way, at all addresses together. How many begin in a second is another matter: each takes about a
/// round trip, so a few places are enough for thousands.
struct ProbeLimiter {
    permits: Semaphore,
    /// Number of them, in use or not.
    size: AtomicUsize,
    /// How many there are to be, once enough of them are not in use.
    wanted: AtomicUsize,
}

/// A sandbox to look at.
struct Probe {
    function: Arc<Function>,
    sandbox: Arc<Sandbox>,
    usage: Usage,
    /// When it was last known to be there, or looked at.
    last_us: u64,
}

/// Notes that this process goes on, and looks at the sandboxes while there is no stream; for ever.
pub(crate) async fn probe_sandboxes(plane: Arc<Plane>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let limiter = ProbeLimiter::new();
    let mut passes = FuturesUnordered::new();
    let mut busy = BTreeSet::new();
    let mut last_us = plane.clock.now_us();
    loop {
        tokio::select! {
            biased;
            _ = ticks.tick() => {
                let now_us = plane.clock.now_us();
                let elapsed_us = now_us.saturating_sub(std::mem::replace(&mut last_us, now_us));
                let had_stream = plane.trust.has_stream();
                plane.trust.tick(now_us);
                // Where that ends the stream, there is a moment for the next one to begin.
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

/// The sandboxes to look at now, `elapsed_us` after the last time, by where they are: those first that were not looked at for
/// longest. Gives back those that nobody knows to be there. Where looks are under way already, as at those of `busy`, no more
/// are due.
fn due(plane: &Plane, busy: &BTreeSet<IpAddr>, elapsed_us: u64) -> BTreeMap<IpAddr, Vec<Probe>> {
    let (now_us, expects_stream) = (plane.clock.now_us(), plane.trust.expects_stream());
    let (mut count, mut returned, mut probes) = (0, 0, Vec::new());
    for function in plane.functions.all() {
        for (sandbox, usage) in function.view(|state| state.usable_sandboxes()) {
            count += 1;
            let known_us = sandbox.known_us(plane, now_us);
            if !is_the_same(known_us, now_us) {
                // A look would find whatever has its address.
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
        tracing::warn!(sandboxes = returned, "sandboxes given back: they may have ended unseen");
    }
    probes.sort_by_key(|probe| (probe.last_us, probe.sandbox.id()));
    probes.truncate(share(count, elapsed_us));
    let mut by_address = BTreeMap::<_, Vec<_>>::new();
    for probe in probes {
        by_address.entry(probe.sandbox.address().ip()).or_default().push(probe);
    }
    by_address
}

/// How many of `count` sandboxes to look at after `elapsed_us`, so that all are within the period, or soon after it where
/// ticks are late.
fn share(count: usize, elapsed_us: u64) -> usize {
    let part = |us: u64| usize::try_from(us).unwrap_or(usize::MAX);
    count.saturating_mul(part(elapsed_us.min(micros(MAX_CAUGHT_UP)))).div_ceil(part(micros(PROBE_PERIOD)))
}

impl ProbeLimiter {
    fn new() -> Self {
        let [size, wanted] = [MIN_PROBE_PERMITS; 2].map(AtomicUsize::new);
        Self { permits: Semaphore::new(MIN_PROBE_PERMITS), size, wanted }
    }

    /// Makes it as large as so many `spare` descriptors allow: half of these stay for requests. Looks under way are not
    /// ended; it is smaller when they are over.
    fn resize(&self, spare: usize) {
        let wanted = (spare / 2).clamp(MIN_PROBE_PERMITS, Semaphore::MAX_PERMITS);
        let size = self.size.load(Ordering::Relaxed);
        let taken_away = self.permits.forget_permits(size.saturating_sub(wanted));
        self.permits.add_permits(wanted.saturating_sub(size));
        self.size.store(size.max(wanted) - taken_away, Ordering::Relaxed);
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    /// A look is over. One that waits for a place does not get it where there are too many.
    fn leave(&self, permit: SemaphorePermit<'_>) {
        if self.size.load(Ordering::Relaxed) > self.wanted.load(Ordering::Relaxed) {
            self.size.fetch_sub(1, Ordering::Relaxed);
            permit.forget();
        }
    }

    /// Looks under way at each of so many addresses, so that one has room beside others that do not answer.
    fn width(&self, addresses: usize) -> usize {
        (self.wanted.load(Ordering::Relaxed) / addresses.max(1)).clamp(MIN_PROBES, MAX_PROBES)
    }
}

/// Looks at sandboxes of one address, at `width` of them at once.
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
    /// Finds out whether the sandbox is there.
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
            // One that has all that it may run need take no more; and what it has written may be on its way still. Where
            // something was heard of it meanwhile it is there: it may have refused for what it ran.
            Ok(Err(error))
                if error.kind() == io::ErrorKind::ConnectionRefused
                    && usage != Usage::Full
                    && sandbox.known_us(plane, now_us) <= began_us =>
            {
                let failing = SandboxFailure::broken("it takes no connections, and there is no control plane");
                function.fail_sandbox_unless_full(&sandbox, failing);
            }
            // It is given back when that has gone on for too long.
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
