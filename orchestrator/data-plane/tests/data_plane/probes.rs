//! Probes of sandboxes in an outage of the control plane: their concurrency, and the meaning of refusals.

use std::{sync::atomic::Ordering, time::Duration};

use api::wire;
use data_plane::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    outage::{Outage, jump},
    world::{active, until},
};

/// Number of sandboxes in an outage with many.
const MANY: u64 = 200;

/// Loses the control plane of a data plane with many sandboxes, whose connections wait until the test releases them.
/// Open ones stay.
async fn held_outage(sandboxes: u64, change: impl FnOnce(&mut Config)) -> Outage {
    let function = wire::FunctionConfig { connection_idle_ms: Some(3_600_000), ..Outage::function() };
    let (outage, session) = Outage::of(function, |config| {
        config.limits.connect_timeout = Duration::from_secs(600);
        change(config);
    })
    .await;
    for number in 2..=sandboxes {
        session.delta(active(number, &outage.sandbox, 1));
    }
    until("it has them", async || outage.metric("granted_slots").await == sandboxes).await;
    outage.lose(session).await;
    outage.network.is_held.send_replace(true);
    outage
}

/// Connection attempts within a tick, `seconds` from now.
async fn probes_after(outage: &Outage, seconds: u64) -> usize {
    let tried = || outage.network.tried.load(Ordering::SeqCst);
    let before = tried();
    jump(seconds).await;
    until("it looks", async || tried() > before).await;
    // By then all probes of the tick have begun.
    outage.metric("granted_slots").await;
    tried() - before
}

#[tokio::test]
async fn after_a_suspension_sandboxes_are_probed_in_parts_and_all_in_time() {
    let outage = held_outage(MANY, |_| {}).await;
    assert_eq!(probes_after(&outage, 30).await, 40, "those of two seconds");
    outage.network.is_held.send_replace(false);
    outage.go_on(12).await;
    until("all have been looked at", async || outage.network.over.load(Ordering::SeqCst) > 200).await;
    outage.go_on(60).await;
    assert_eq!((outage.metric("granted_slots").await, outage.metric("sandboxes_failed_total").await), (MANY, 0));
}

#[tokio::test]
async fn probes_leave_scarce_descriptors_to_requests() {
    // The connection of the warm sandbox.
    let short = |config: &mut Config| {
        config.limits.client_connections = Some(64);
        config.limits.descriptors = 129;
        config.limits.invocations = Some(64);
    };
    let outage = held_outage(10 * MANY, short).await;
    let over = outage.network.over.load(Ordering::SeqCst);
    assert_eq!(probes_after(&outage, 30).await, 16, "those that find room beside everything else");
    outage.network.is_held.send_replace(false);
    // All that are due in that time rather than a number per second: otherwise grants of existing sandboxes would be
    // returned.
    until("the others follow", async || outage.network.over.load(Ordering::SeqCst) >= over + 400).await;
}

#[tokio::test]
async fn a_sandbox_that_refuses_a_probe_because_it_has_become_busy_is_not_broken() {
    for is_over in [false, true] {
        let outage = held_outage(1, |_| {}).await;
        // Without a suspension, after which no input would be trusted.
        outage.go_on(9).await;
        assert_eq!(probes_after(&outage, 2).await, 1, "nobody uses it");
        let mut client = TcpStream::connect(outage.world.data_plane).await.unwrap();
        client.write_all(b"GET /hold HTTP/1.1\r\nHost: f\r\n\r\n").await.unwrap();
        outage.sandbox.running(1).await;
        let mut response = async || {
            outage.sandbox.state.gate.add_permits(1);
            let mut status = [0; 12];
            client.read_exact(&mut status).await.unwrap();
            assert_eq!(&status, b"HTTP/1.1 200");
            until("its slot is free", async || outage.metric("running").await == 0).await;
        };
        if is_over {
            response().await;
        }
        outage.sandbox.stop_listening();
        let over = outage.network.over.load(Ordering::SeqCst);
        outage.network.is_held.send_replace(false);
        until("it is refused", async || outage.network.over.load(Ordering::SeqCst) > over).await;
        assert_eq!(outage.metric("sandboxes_failed_total").await, 0, "it answers, or has: {is_over}");
        if !is_over {
            response().await;
        }
        // Now it has no reason to refuse.
        outage.go_on(25).await;
        until("its end is noticed", async || outage.metric("sandboxes_failed_total").await == 1).await;
    }
}
