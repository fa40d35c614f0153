//! Sandboxes without a control plane: nobody says then that one was deleted, and its address may become that of another
//! function's. A worker gives out first the port that has rested longest, so where one has ended nobody takes connections for
//! [`PORT_REST`](api::PORT_REST), as a rule. While there is no stream, each sandbox to which a connection may be opened is
//! looked at more often than that; requests are not held up by it.

use std::{collections::BTreeMap, io, net::IpAddr, sync::Arc, time::Duration};

use futures::{StreamExt, stream, stream::FuturesUnordered};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{
    Sandbox,
    trust::{TICK, is_the_same},
};
use crate::{
    clock::micros,
    function::{Failing, Function, Usage},
    plane::Plane,
};

/// Time between two looks at a sandbox with a free slot. Looks at all of them are spread over it.
const PERIOD: Duration = Duration::from_secs(10);
/// The same where all slots are in use. Nobody else connects to it before one is free; it is known to be there by then if one
/// of two looks finds it in the time after which it would not be.
///
/// A program that accepts nothing while it is busy keeps each look in its backlog, though it has ended: five fill a backlog of
/// five after 100 s. Looks are in vain from then on, from which nothing follows.
const FULL_PERIOD: Duration = Duration::from_secs(20);
/// Looks at once at the sandboxes of one address. Where a machine does not answer, those at others do not wait for it.
const MAX_LOOKS: usize = 64;
/// After a pause of this process, or a late tick, as many looks are taken as are due after this long, and no more: they would
/// come together with the requests that waited. Twice those of a tick are all within 5 s, which leaves time for those that
/// were not known to be there for long.
const MAX_CAUGHT_UP: Duration = Duration::from_secs(2);
/// Looks under way where descriptors are short: what is kept for everything else has room for so few. Without any, sandboxes
/// would be given back that are there.
const MIN_UNDER_WAY: usize = 16;

/// A sandbox to look at.
struct Look {
    function: Arc<Function>,
    sandbox: Arc<Sandbox>,
    usage: Usage,
    /// When it was last known to be there, or looked at.
    last_us: u64,
}

/// Notes that this process goes on, and looks at the sandboxes while there is no stream; for ever.
pub(crate) async fn confirm(plane: Arc<Plane>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut passes = FuturesUnordered::new();
    let mut busy = BTreeMap::new();
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
                for (address, looks) in due(&plane, &busy, elapsed_us) {
                    busy.insert(address, looks.len().min(MAX_LOOKS));
                    passes.push(pass(&plane, address, looks));
                }
            }
            Some(address) = passes.next() => {
                busy.remove(&address);
            }
        }
    }
}

/// The sandboxes to look at now, `elapsed_us` after the last time, by where they are: those first that were not looked at for
/// longest. Gives back those that nobody knows to be there. Where an address is `busy` with so many, its turn comes later.
fn due(plane: &Plane, busy: &BTreeMap<IpAddr, usize>, elapsed_us: u64) -> BTreeMap<IpAddr, Vec<Look>> {
    let (now_us, expects_stream) = (plane.clock.now_us(), plane.trust.expects_stream());
    let (mut count, mut given_back, mut looks) = (0, 0, Vec::new());
    for function in plane.functions.all() {
        for (sandbox, usage) in function.view(|state| state.kept_sandboxes()) {
            count += 1;
            let known_us = sandbox.known_us(plane, now_us);
            if !is_the_same(known_us, now_us) {
                // A look would find whatever has its address.
                if usage == Usage::Idle && !expects_stream {
                    given_back += usize::from(function.give_back(&sandbox));
                }
                continue;
            }
            let period = if usage == Usage::Full { FULL_PERIOD } else { PERIOD };
            let last_us = known_us.max(sandbox.tried_us());
            if now_us.saturating_sub(last_us) >= micros(period) && !busy.contains_key(&sandbox.address().ip()) {
                looks.push(Look { function: function.clone(), sandbox, usage, last_us });
            }
        }
    }
    if given_back > 0 {
        tracing::warn!(sandboxes = given_back, "sandboxes given back: they may have ended unseen");
    }
    looks.sort_by_key(|look| (look.last_us, look.sandbox.id()));
    looks.truncate(share(count, elapsed_us).min(room(plane.spare_descriptors(), busy.values().sum())));
    let mut by_address = BTreeMap::<_, Vec<_>>::new();
    for look in looks {
        by_address.entry(look.sandbox.address().ip()).or_default().push(look);
    }
    by_address
}

/// How many of `count` sandboxes to look at after `elapsed_us`, so that all are within the period, or soon after it where
/// ticks are late.
fn share(count: usize, elapsed_us: u64) -> usize {
    let part = |us: u64| usize::try_from(us).unwrap_or(usize::MAX);
    count.saturating_mul(part(elapsed_us.min(micros(MAX_CAUGHT_UP)))).div_ceil(part(micros(PERIOD)))
}

/// How many looks may begin beside those `under_way`, with so many `spare` descriptors: half of these stay for requests.
fn room(spare: usize, under_way: usize) -> usize {
    (spare / 2).max(MIN_UNDER_WAY).saturating_sub(under_way)
}

/// Looks at sandboxes of one address.
async fn pass(plane: &Plane, address: IpAddr, looks: Vec<Look>) -> IpAddr {
    let looks = stream::iter(looks);
    looks.for_each_concurrent(MAX_LOOKS, async |look: Look| look.look(plane).await).await;
    address
}

impl Look {
    /// Finds out whether the sandbox is there.
    async fn look(self, plane: &Plane) {
        let Self { function, sandbox, usage, .. } = self;
        let began_us = plane.clock.now_us();
        sandbox.tried(began_us);
        if plane.trust.has_stream() || !is_the_same(sandbox.known_us(plane, began_us), began_us) {
            return;
        }
        let connected = timeout(plane.config.limits.connect_timeout, plane.network.connect_to(sandbox.address())).await;
        let now_us = plane.clock.now_us();
        match connected {
            Ok(Ok(_closed_at_once)) if is_the_same(sandbox.known_us(plane, now_us), now_us) => sandbox.seen(began_us),
            // One that has all that it may run need take no more; and what it has written may be on its way still. Where
            // something was heard of it meanwhile it is there: it may have refused for what it ran.
            Ok(Err(error))
                if error.kind() == io::ErrorKind::ConnectionRefused
                    && usage != Usage::Full
                    && sandbox.known_us(plane, now_us) <= began_us =>
            {
                let failing = Failing::broken("it takes no connections, and there is no control plane");
                function.give_up_unless_full(&sandbox, failing);
            }
            // It is given back when that has gone on for too long.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_is_caught_up_in_parts_and_descriptors_are_left_for_requests() {
        let second = micros(TICK);
        assert_eq!([0, second / 2, second].map(|elapsed_us| share(10_000, elapsed_us)), [0, 500, 1_000]);
        assert_eq!([2, 5, 54].map(|seconds| share(10_000, seconds * second)), [2_000; 3]);
        assert_eq!((share(1, second), share(0, second)), (1, 0), "each has its turn");
        assert_eq!((room(1_000, 0), room(1_000, 490), room(1_000, 700)), (500, 10, 0));
        assert_eq!(
            (room(0, 0), room(0, 10), room(0, 20)),
            (MIN_UNDER_WAY, MIN_UNDER_WAY - 10, 0),
            "a few all the same"
        );
    }
}
