//! Grants and revocations by the control plane.

use api::wire::{self, EndpointState};

use super::{
    client::{get, spawn_get},
    sandbox::Sandbox,
    world::{active, delta, with_sandbox},
};

#[tokio::test]
async fn a_draining_sandbox_finishes_its_invocations_and_then_returns_its_slots() {
    let (world, mut session, sandbox) = with_sandbox(1).await;
    let running = spawn_get(world.data_plane, "f", "/hold");
    sandbox.running(1).await;
    session.delta(delta(1, sandbox.address, 1, EndpointState::Draining, 2));
    assert_eq!(session.ack(1, |ack| ack.version == 2).await.slots, 1, "one invocation still runs");
    sandbox.state.gate.add_permits(1);
    assert_eq!(running.await.unwrap().status, 200);
    session.ack(1, |ack| ack.slots == 0).await;
    let waiting = spawn_get(world.data_plane, "f", "/");
    session.waiting(1).await;
    assert!(!waiting.is_finished(), "nothing new goes there");
}

#[tokio::test]
async fn invocations_in_a_sandbox_that_is_gone_fail_or_are_retried_elsewhere() {
    let (world, mut session, gone) = with_sandbox(1).await;
    let post = super::client::with_body(http::Method::POST, "f", "/hold", "body");
    let to = world.data_plane;
    let lost = tokio::spawn(async move { super::client::send(to, post).await.unwrap() });
    gone.running(1).await;
    let again = Sandbox::start().await;
    session.delta(delta(1, gone.address, 0, EndpointState::Gone, 2));
    session.ack(1, |ack| ack.version == 2 && ack.slots == 0).await;
    assert_eq!(lost.await.unwrap().refusal(), (502, "upstream"), "its body was consumed: it is not repeated");

    session.delta(delta(2, again.address, 1, EndpointState::Active, 1));
    let moved = spawn_get(world.data_plane, "f", "/hold");
    again.running(1).await;
    let last = Sandbox::start().await;
    session.delta(delta(2, again.address, 0, EndpointState::Gone, 2));
    session.waiting(1).await;
    session.delta(active(3, &last, 1));
    last.running(1).await;
    last.state.gate.add_permits(1);
    let response = moved.await.unwrap();
    assert_eq!((response.status.as_u16(), response.header("x-dirigent-attempts")), (200, "2"));
    gone.running(0).await;
}

#[tokio::test]
async fn a_suspended_sandbox_gets_nothing_new_until_it_is_active_again() {
    let (world, mut session, sandbox) = with_sandbox(1).await;
    session.delta(delta(1, sandbox.address, 1, EndpointState::Suspended, 2));
    session.ack(1, |ack| ack.version == 2 && ack.slots == 1).await;
    let waiting = spawn_get(world.data_plane, "f", "/");
    session.waiting(1).await;
    session.delta(delta(1, sandbox.address, 1, EndpointState::Active, 3));
    let response = waiting.await.unwrap();
    assert_eq!((response.status.as_u16(), response.header("x-dirigent-cold")), (200, "0"), "the sandbox is an old one");
}

#[tokio::test]
async fn a_cap_returns_idle_sandboxes_and_with_drain_busy_ones_too() {
    let (world, mut session, first) = with_sandbox(1).await;
    let second = Sandbox::start().await;
    session.delta(active(2, &second, 1));
    session.ack(2, |ack| ack.slots == 1).await;
    session.limit(wire::GrantLimit { function: 1, version: 1, slots: 1, min_idle_ms: 60_000, drain: false });
    assert_eq!(session.limit_ack(1).await.slots, 2, "nothing was idle for a minute");

    let running = [spawn_get(world.data_plane, "f", "/hold"), spawn_get(world.data_plane, "f", "/hold")];
    first.running(1).await;
    second.running(1).await;
    let queued = spawn_get(world.data_plane, "f", "/hold");
    session.waiting(1).await;
    session.limit(wire::GrantLimit { function: 1, version: 2, slots: 1, min_idle_ms: 0, drain: true });
    assert_eq!(session.limit_ack(2).await.slots, 2, "both are busy");
    first.state.gate.add_permits(1);
    // It carries the version of the newest delta, so that a delta under way would win.
    session.ack(1, |ack| ack.slots == 0 && ack.version == 1).await;
    assert_eq!(session.limit_ack(2).await.slots, 1, "the limit is met");
    second.state.gate.add_permits(2);
    for invocation in running.into_iter().chain([queued]) {
        assert_eq!(invocation.await.unwrap().status, 200);
    }
    assert_eq!(first.state.served.load(std::sync::atomic::Ordering::SeqCst), 1, "its slot was not handed on");
}

#[tokio::test]
async fn a_deregistered_function_is_unknown_at_once_and_its_grants_are_returned() {
    let (world, mut session, sandbox) = with_sandbox(1).await;
    let running = spawn_get(world.data_plane, "f", "/hold");
    sandbox.running(1).await;
    let waiting = spawn_get(world.data_plane, "f", "/");
    session.waiting(1).await;
    session.send(wire::ToDataPlane { removed: vec![1], sequence: 2, ..Default::default() });
    session.applied(2).await;
    assert_eq!(waiting.await.unwrap().refusal(), (404, "unknown-function"));
    assert_eq!(get(world.data_plane, "f", "/").await.refusal(), (404, "unknown-function"));
    sandbox.state.gate.add_permits(1);
    assert_eq!(running.await.unwrap().status, 200, "what runs finishes");
    session.ack(1, |ack| ack.slots == 0).await;
    session.delta(active(9, &sandbox, 1));
    assert_eq!(session.ack(9, |_| true).await.slots, 0, "nothing of an unknown function is held");
}

#[tokio::test]
async fn load_is_sampled_while_there_is_any_and_once_more() {
    let (world, mut session, sandbox) = with_sandbox(2).await;
    let running = spawn_get(world.data_plane, "f", "/hold");
    sandbox.running(1).await;
    let busy = session.sample(|sample| sample.running == 1 && sample.requests == 0).await;
    let lowest = u64::from(busy.span_ms) * 1_000;
    assert!((lowest..lowest + 1_000).contains(&busy.concurrency_us), "one ran for the whole span: {busy:?}");
    assert_eq!((busy.peak, busy.waiting), (1, 0));
    sandbox.state.gate.add_permits(1);
    running.await.unwrap();
    let last = session.sample(|sample| sample.concurrency_us == 0 && sample.peak == 0).await;
    assert_eq!((last.requests, last.running), (0, 0));
}
