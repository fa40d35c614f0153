//! Sandboxes of several slots with an abandoned invocation that does not end.

use std::time::Duration;

use api::wire::{self, EndpointState};
use http::Method;
use tokio::{net::TcpListener, task::JoinHandle};

use super::{
    blocking::Blocking,
    client::{BufferedResponse, get, send, spawn_get, with_body},
    sandbox::Sandbox,
    world::{World, active, delta, function},
};

fn shared() -> wire::FunctionConfig {
    wire::FunctionConfig { concurrency: 4, ..function() }
}

fn spawn_post(world: &World) -> JoinHandle<BufferedResponse> {
    let (to, post) = (world.data_plane, with_body(Method::POST, "f", "/", ""));
    tokio::spawn(async move { send(to, post).await.expect("a complete answer") })
}

#[tokio::test]
async fn an_abandoned_invocation_keeps_its_slot_and_harms_no_other_one() {
    let mut world = World::with(|config| config.cancel_grace = Duration::from_millis(20)).await;
    let mut session = world.accept_stream(vec![shared()]).await;
    let sandbox = Blocking::start().await;
    session.delta(delta(1, sandbox.address(), 4, EndpointState::Active, 1));
    let kept = spawn_post(&world);
    let kept_call = sandbox.call().await;
    let left = spawn_get(world.data_plane, "f", "/");
    let mut left_call = sandbox.call().await;
    left.abort();
    left_call.unwanted().await;
    // Samples come every 50 ms, and the grace is shorter than that.
    for _ in 0..4 {
        session.samples.clear();
        session.sample(|sample| sample.running == 2).await;
    }
    assert_eq!(session.failures, [], "the sandbox works");
    let new = spawn_post(&world);
    sandbox.call().await.response().await;
    assert_eq!(new.await.unwrap().header("x-dirigent-sandbox"), "0-1", "it is used as before");
    left_call.response().await;
    session.sample(|sample| sample.running == 1).await;
    kept_call.response().await;
    assert_eq!(kept.await.unwrap().status, 200);
}

#[tokio::test]
async fn a_sandbox_with_an_invocation_beyond_its_time_out_is_drained_when_others_run_there() {
    for is_first_to_end in [false, true] {
        let mut world = World::with(|config| config.cancel_grace = Duration::from_millis(100)).await;
        let mut session = world.accept_stream(vec![shared()]).await;
        let sandbox = Blocking::start().await;
        let address = sandbox.address();
        session.delta(delta(1, address, 4, EndpointState::Active, 1));
        let kept = spawn_post(&world);
        let kept_call = sandbox.call().await;
        let functions = vec![wire::FunctionConfig { timeout_ms: 100, ..shared() }];
        session.send(wire::ToDataPlane { functions, sequence: 2, ..Default::default() });
        session.applied(2).await;
        let late = [spawn_get(world.data_plane, "f", "/"), spawn_get(world.data_plane, "f", "/")];
        let _late_calls = [sandbox.call().await, sandbox.call().await];
        for invocation in late {
            assert_eq!(invocation.await.unwrap().refusal(), (504, "timeout"));
        }
        let failure = session.failure(1).await;
        assert!(failure.retired && failure.drains, "{failure:?}");
        session.ack(1, |ack| ack.slots == 1 && ack.version == 1).await;
        let queued = spawn_get(world.data_plane, "f", "/");
        session.waiting(1).await;
        let metrics = get(world.admin, "admin", "/metrics").await;
        let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
        assert!(metrics.contains("\ndirigent_data_plane_sandboxes_failed_total 1\n"), "one, not two: {metrics}");

        let draining = delta(1, address, 4, EndpointState::Draining, 2);
        if is_first_to_end {
            kept_call.response().await;
            assert_eq!(kept.await.unwrap().status, 200);
            session.delta(draining);
        } else {
            session.delta(draining);
            assert_eq!(session.ack(1, |ack| ack.version == 2).await.slots, 1, "one invocation still runs");
            kept_call.response().await;
            assert_eq!(kept.await.unwrap().status, 200);
        }
        session.ack(1, |ack| ack.slots == 0 && ack.version == 2).await;
        assert!(session.failures.is_empty() && !queued.is_finished(), "nothing new goes there");
    }
}

#[tokio::test]
async fn a_retired_sandbox_stays_held_and_is_reported_again_on_a_new_stream() {
    let mut world = World::with(|config| config.cancel_grace = Duration::from_millis(20)).await;
    let mut session = world.accept_stream(vec![shared()]).await;
    let sandbox = Blocking::start().await;
    let address = sandbox.address();
    session.delta(delta(1, address, 4, EndpointState::Active, 1));
    let kept = spawn_post(&world);
    let kept_call = sandbox.call().await;
    let functions = vec![wire::FunctionConfig { timeout_ms: 100, ..shared() }];
    session.send(wire::ToDataPlane { functions: functions.clone(), sequence: 2, ..Default::default() });
    session.applied(2).await;
    let late = spawn_get(world.data_plane, "f", "/");
    let _late_call = sandbox.call().await;
    assert_eq!(late.await.unwrap().refusal(), (504, "timeout"));
    session.failure(1).await;
    kept_call.response().await;
    assert_eq!(kept.await.unwrap().status, 200);
    drop(session);
    let mut session = world.accept_stream(functions).await;
    assert_eq!(session.hello.held, [wire::HeldGrant { function: 1, sandbox: 1, slots: 1 }]);
    let failure = session.failure(1).await;
    assert!(failure.retired && failure.drains, "{failure:?}");
    session.delta(delta(1, address, 4, EndpointState::Active, 1));
    assert!(session.failure(1).await.drains, "whoever grants it anew has not heard of it");
    session.delta(delta(1, address, 4, EndpointState::Draining, 2));
    session.ack(1, |ack| ack.slots == 0 && ack.version == 2).await;
}

#[tokio::test]
async fn abandoned_attempts_are_no_reason_to_drain_a_sandbox() {
    let mut world = World::start().await;
    let mut session = world.accept_stream(vec![shared()]).await;
    let sandbox = Sandbox::start().await;
    session.delta(active(1, &sandbox, 4));
    // The first attempt keeps its slot for a moment, in which the second one fails as well.
    let _invocation = spawn_get(world.data_plane, "f", "/die");
    let failure = session.failure(1).await;
    assert!(!failure.drains && !failure.retired, "nothing runs there: {failure:?}");
}

#[tokio::test]
async fn a_sandbox_that_accepts_no_connection_keeps_no_slot_past_the_time_out() {
    let mut world = World::with(|config| config.cancel_grace = Duration::from_millis(20)).await;
    let mut session = world.accept_stream(vec![wire::FunctionConfig { timeout_ms: 300, ..shared() }]).await;
    // The kernel accepts the connections, the sandbox does not.
    let stalled = TcpListener::bind("127.0.0.1:0").await.unwrap();
    session.delta(delta(1, stalled.local_addr().unwrap(), 4, EndpointState::Active, 1));
    let stays = spawn_get(world.data_plane, "f", "/");
    let leave = [(); 3].map(|()| spawn_get(world.data_plane, "f", "/"));
    session.sample(|sample| sample.running == 4).await;
    for client in leave {
        client.abort();
    }
    assert_eq!(stays.await.unwrap().refusal(), (504, "timeout"));
    let failure = session.failure(1).await;
    assert!(failure.retired, "it may still run what nobody waits for: {failure:?}");
    session.samples.clear();
    session.sample(|sample| sample.running == 0).await;
}
