//! Sandboxes without a control plane: nobody says then that one was deleted, and its address may become that of another
//! function's. A worker gives out first the port that has rested longest, so where one has ended nobody takes connections for
//! [`PORT_REST`](api::PORT_REST), as a rule. While there is no stream, each sandbox to which a connection may be opened is
//! looked at more often than that; requests are not held up by it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream, stream::FuturesUnordered};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{
    Sandbox,
    trust::{TICK, is_the_same},
};
use crate::{
    clock::micros,
    function::{Failing, Function},
    plane::Plane,
};

/// Time between two looks at a sandbox that nobody uses.
const PERIOD: Duration = Duration::from_secs(10);
/// Looks are spread over the period: with each tick one of so many parts is due.
const PARTS: usize = 10;
/// Looks at once at the sandboxes of one address. Where a machine does not answer, those at others do not wait for it.
const MAX_LOOKS: usize = 64;

/// A sandbox to look at.
type Look = (Arc<Function>, Arc<Sandbox>);

/// Notes that this process goes on, and looks at the sandboxes while there is no stream; for ever.
pub(crate) async fn confirm(plane: Arc<Plane>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut passes = FuturesUnordered::new();
    let mut busy = BTreeSet::new();
    loop {
        tokio::select! {
            biased;
            _ = ticks.tick() => {
                let had_stream = plane.trust.has_stream();
                plane.trust.tick(plane.clock.now_us());
                // Where that ends the stream, there is a moment for the next one to begin.
                if had_stream {
                    continue;
                }
                for (address, looks) in due(&plane, &busy) {
                    busy.insert(address);
                    passes.push(pass(&plane, address, looks));
                }
            }
            Some(address) = passes.next() => {
                busy.remove(&address);
            }
        }
    }
}

/// The sandboxes to look at now, by where they are, those first that were not looked at for longest. Gives back those that
/// nobody knows to be there. Where an address is `busy`, its turn comes later.
fn due(plane: &Plane, busy: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, Vec<Look>> {
    let now_us = plane.clock.now_us();
    let (mut count, mut looks): (usize, Vec<(u64, Look)>) = (0, Vec::new());
    for function in plane.functions.all() {
        for (sandbox, is_in_use) in function.view(|state| state.available_sandboxes()) {
            count += 1;
            let known_us = sandbox.known_us(plane, now_us);
            let last_us = known_us.max(sandbox.tried_us());
            if !is_the_same(known_us, now_us) && !is_in_use {
                function.give_back(&sandbox);
            } else if now_us.saturating_sub(last_us) >= micros(PERIOD) && !busy.contains(&sandbox.address().ip()) {
                looks.push((last_us, (function.clone(), sandbox)));
            }
        }
    }
    looks.sort_by_key(|(last_us, (_, sandbox))| (*last_us, sandbox.id()));
    looks.truncate(count.div_ceil(PARTS));
    let mut by_address = BTreeMap::<_, Vec<_>>::new();
    for (_, look) in looks {
        by_address.entry(look.1.address().ip()).or_default().push(look);
    }
    by_address
}

/// Looks at sandboxes of one address.
async fn pass(plane: &Plane, address: IpAddr, looks: Vec<Look>) -> IpAddr {
    let looks = stream::iter(looks);
    looks
        .for_each_concurrent(MAX_LOOKS, async |(function, sandbox)| {
            look_at(plane, &function, &sandbox).await;
        })
        .await;
    address
}

/// Finds out whether `sandbox` is there.
async fn look_at(plane: &Plane, function: &Arc<Function>, sandbox: &Arc<Sandbox>) {
    let began_us = plane.clock.now_us();
    sandbox.tried(began_us);
    if plane.trust.has_stream() || !is_the_same(sandbox.known_us(plane, began_us), began_us) {
        return;
    }
    let connected = timeout(plane.config.limits.connect_timeout, plane.network.connect_to(sandbox.address())).await;
    let now_us = plane.clock.now_us();
    match connected {
        Ok(Ok(_closed_at_once)) if is_the_same(sandbox.known_us(plane, now_us), now_us) => sandbox.seen(began_us),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            function.give_up(sandbox, Failing::broken("it takes no connections, and there is no control plane"));
        }
        // It is given back when that has gone on for too long.
        _ => {}
    }
}
