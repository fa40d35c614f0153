//! Connections to sandboxes that are used again: how they end, and what may be sent on them.

use std::{sync::atomic::Ordering, time::Duration};

use api::wire;
use tokio::time::timeout;

use super::{
    client::{get, spawn_get},
    sandbox::Sandbox,
    world::{World, function, with_function},
};

/// Makes `count` connections to the sandbox and leaves them idle.
async fn rest(world: &World, sandbox: &Sandbox, count: usize) {
    let held: Vec<_> = (0..count).map(|_| spawn_get(world.data_plane, "f", "/hold")).collect();
    sandbox.running(count).await;
    sandbox.state.gate.add_permits(count);
    for invocation in held {
        assert_eq!(invocation.await.unwrap().status, 200);
    }
    assert_eq!(sandbox.state.connections.load(Ordering::SeqCst), count);
}

#[tokio::test]
async fn the_end_of_many_idle_connections_costs_the_next_invocation_nothing() {
    for protocol in [wire::Protocol::Http1, wire::Protocol::H2c] {
        // More than a task of the runtime may look at in one turn.
        let count = 160;
        let terms = wire::FunctionConfig { concurrency: 200, protocol: protocol.into(), ..function() };
        let (world, _session, sandbox) = with_function(terms, 200).await;
        rest(&world, &sandbox, count).await;
        sandbox.end_connections().await;
        // Half of the function's time-out, which it would wait for on a connection that has ended.
        let answer = timeout(Duration::from_secs(5), get(world.data_plane, "f", "/")).await.expect("an answer at once");
        assert_eq!((answer.status.as_u16(), answer.header("x-dirigent-attempts")), (200, "1"), "{protocol:?}");
    }
}
