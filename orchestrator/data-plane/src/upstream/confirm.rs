//! Sandboxes without a control plane: nobody says then that one was deleted, and its address may become that of another
//! function's. A worker gives a port to no other sandbox for [`PORT_REST`], so where one has ended nobody takes connections
//! for so long. While there is no stream, each sandbox is looked at more often than that; requests are not held up by it.

use std::{io, sync::Arc, time::Duration};

use api::PORT_REST;
use futures::{StreamExt, stream};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::Sandbox;
use crate::{
    function::{Failing, Function},
    plane::Plane,
};

/// Pause between two looks at a sandbox that nobody uses.
const PERIOD: Duration = Duration::from_secs(10);
/// A sandbox of which it is not known for this long that it is there is used no more. What is left of [`PORT_REST`] is time
/// for a look, and for the invocations that came before its result.
const TRUSTED_FOR: Duration = PORT_REST.saturating_sub(PERIOD);
/// Looks at once.
const MAX_LOOKS: usize = 64;

/// Looks at the sandboxes while there is no stream, for ever.
pub(crate) async fn confirm(plane: Arc<Plane>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last, mut stood_still) = (Instant::now(), false);
    let mut trusted_us = 0;
    loop {
        ticks.tick().await;
        let pause = last.elapsed();
        last = Instant::now();
        // Then requests may have come before this look, and gone wherever.
        stood_still |= pause >= TRUSTED_FOR;
        if plane.has_stream() {
            // Where this process has just stood still, the stream may have ended unnoticed.
            if pause <= 2 * PERIOD {
                (stood_still, trusted_us) = (false, plane.clock.now_us());
            }
            continue;
        }
        let sandboxes = plane.functions.all().into_iter().flat_map(|function| {
            let sandboxes = function.view(|state| state.kept_sandboxes());
            sandboxes.into_iter().map(move |sandbox| (function.clone(), sandbox))
        });
        let look = async |(function, sandbox): (Arc<Function>, Arc<Sandbox>)| {
            if stood_still {
                give_back(&function, &sandbox);
            } else {
                look_at(&plane, &function, &sandbox, trusted_us).await;
            }
        };
        stream::iter(sandboxes).for_each_concurrent(MAX_LOOKS, look).await;
        last = Instant::now();
    }
}

/// Finds out whether `sandbox` is there. All were at `trusted_us`.
async fn look_at(plane: &Plane, function: &Arc<Function>, sandbox: &Arc<Sandbox>, trusted_us: u64) {
    let now_us = plane.clock.now_us();
    let unsure = Duration::from_micros(now_us.saturating_sub(sandbox.seen_us().max(trusted_us)));
    if unsure < PERIOD {
        return;
    }
    let connected = timeout(plane.config.limits.connect_timeout, plane.network.connect_to(sandbox.address())).await;
    match connected {
        Ok(Ok(_closed_at_once)) if unsure < TRUSTED_FOR => sandbox.seen(now_us),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            function.give_up(sandbox, Failing::broken("it takes no connections, and there is no control plane"));
        }
        _ if unsure < TRUSTED_FOR || plane.has_stream() => {}
        _ => give_back(function, sandbox),
    }
}

fn give_back(function: &Arc<Function>, sandbox: &Arc<Sandbox>) {
    let id = sandbox.id();
    tracing::warn!(function = %function.name(), sandbox = %id, "sandbox given back: it may have ended unseen");
    function.change(|state, now_us, effects| state.give_back(sandbox, now_us, effects));
}
