//! Sandboxes that fail, and clients and functions that take too long.

use std::{sync::atomic::Ordering, time::Duration};

use api::wire::{self, EndpointState};
use http::{Method, Request};
use http_body_util::StreamBody;
use hyper::body::Frame;
use sim::DataPlaneStream;
use tokio::{io::AsyncReadExt, task::JoinHandle};

use super::{
    client::{BufferedResponse, get, open, read, request, send, spawn_get, with_body},
    sandbox::Sandbox,
    world::{World, active, delta, function, with_function, with_sandbox},
};

/// An invocation of `f` whose only sandbox, 1, refuses the connection, and the reported failure.
async fn get_from_the_dead(
    world: &World,
    session: &mut DataPlaneStream,
) -> (JoinHandle<BufferedResponse>, wire::EndpointFailure) {
    let dead = Sandbox::start().await;
    dead.kill();
    let address = dead.address;
    drop(dead);
    session.delta(delta(1, address, 1, EndpointState::Active, 1));
    session.ack(1, |ack| ack.slots == 1).await;
    let invocation = spawn_get(world.data_plane, "f", "/");
    let failure = session.failure(1).await;
    (invocation, failure)
}

#[tokio::test]
async fn a_refused_connection_is_reported_and_the_invocation_goes_elsewhere() {
    let mut world = World::start().await;
    let mut session = world.accept_stream(vec![function()]).await;
    let (invocation, failure) = get_from_the_dead(&world, &mut session).await;
    assert!(failure.cause.contains("refused"), "{failure:?}");
    let sandbox = Sandbox::start().await;
    session.delta(active(2, &sandbox, 1));
    let response = invocation.await.unwrap();
    assert_eq!((response.status.as_u16(), response.header("x-dirigent-attempts")), (200, "2"));
    assert_eq!(response.header("x-dirigent-sandbox"), "0-2");
}

#[tokio::test]
async fn what_was_not_sent_survives_a_refused_connection_whatever_it_is() {
    for protocol in [wire::Protocol::Http1, wire::Protocol::H2c] {
        let function_config = wire::FunctionConfig { protocol: protocol.into(), ..function() };
        let (world, mut session, gone) = with_function(function_config, 1).await;
        // Leaves an idle connection, which has ended as well when the request is sent on it.
        assert_eq!(get(world.data_plane, "f", "/").await.status, 200);
        gone.kill();
        drop(gone);
        // A body of unknown length that is too long to be retained for a retry.
        let pieces =
            futures::stream::iter((0..32).map(|_| Ok::<_, std::io::Error>(Frame::data(vec![b'x'; 8192].into()))));
        let post = Request::post("/echo").header("host", "f").body(StreamBody::new(pieces)).unwrap();
        let data_plane = world.data_plane;
        let invocation = tokio::spawn(async move { send(data_plane, post).await.unwrap() });
        session.failure(1).await;
        let sandbox = Sandbox::start().await;
        session.delta(active(2, &sandbox, 1));
        let response = invocation.await.unwrap();
        assert_eq!(
            (response.status.as_u16(), response.body.len()),
            (200, 32 * 8192),
            "{protocol:?}: {:?}",
            response.headers
        );
    }
}

#[tokio::test]
async fn a_data_plane_on_another_host_reports_why_it_cannot_connect_to_loopback() {
    // The first control plane is the one that is found; the second one indicates a cluster of several machines.
    let mut world = World::with(|config| config.control_planes.push("192.0.2.1:9090".to_owned())).await;
    let mut session = world.accept_stream(vec![function()]).await;
    let (invocation, failure) = get_from_the_dead(&world, &mut session).await;
    assert!(failure.cause.contains("loopback") && failure.cause.contains("process.address"), "{failure:?}");
    invocation.abort();
}

#[tokio::test]
async fn an_attempt_that_dies_without_a_byte_is_repeated() {
    let (world, _session, sandbox) = with_sandbox(1).await;
    let response = get(world.data_plane, "f", "/die-once").await;
    assert_eq!((response.status.as_u16(), response.header("x-dirigent-attempts")), (200, "2"));
    let put = with_body(Method::PUT, "f", "/echo", "kept");
    assert_eq!(send(world.data_plane, put).await.unwrap().body, "kept", "and the slot is as good as before");
    sandbox.running(0).await;
}

#[tokio::test]
async fn a_consumed_body_is_not_sent_twice_unless_that_is_harmless() {
    let (world, _session, sandbox) = with_sandbox(1).await;
    let post = with_body(Method::POST, "f", "/die-once", "once only");
    assert_eq!(send(world.data_plane, post).await.unwrap().refusal(), (502, "upstream"));
    assert_eq!(sandbox.state.served.load(Ordering::SeqCst), 1);
    let (world, _session, _sandbox) = with_sandbox(1).await;
    let put = with_body(Method::PUT, "f", "/die-once", "again");
    let response = send(world.data_plane, put).await.unwrap();
    assert_eq!((response.status.as_u16(), response.header("x-dirigent-attempts")), (200, "2"));
    let (world, _session, sandbox) = with_sandbox(1).await;
    let long = with_body(Method::PUT, "f", "/die-once", vec![b'x'; 65_537]);
    assert_eq!(send(world.data_plane, long).await.unwrap().refusal(), (502, "upstream"), "more than can be kept");
    assert_eq!(sandbox.state.served.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_sandbox_that_dies_twice_in_a_row_is_dropped_and_reported() {
    let (world, mut session, _sandbox) = with_sandbox(1).await;
    let invocation = spawn_get(world.data_plane, "f", "/die");
    session.failure(1).await;
    session.waiting(1).await;
    let other = Sandbox::start().await;
    session.delta(active(2, &other, 1));
    let response = invocation.await.unwrap();
    assert_eq!(response.refusal(), (502, "upstream"), "a third sandbox is not risked for it");
    assert_eq!(other.state.served.load(Ordering::SeqCst), 1);
    assert_eq!(get(world.data_plane, "f", "/").await.status, 200, "the other one has died once only");
}

#[tokio::test]
async fn a_truncated_response_is_an_error_for_the_client() {
    let (world, _session, _sandbox) = with_sandbox(1).await;
    let (response, _connection) = open(world.data_plane, request("f", "/half")).await.unwrap();
    assert_eq!(response.status(), 200);
    let error = read(response).await.expect_err("it must not look complete");
    assert!(error.is_incomplete_message() || error.is_body_write_aborted() || !error.is_timeout(), "{error:?}");
    assert_eq!(get(world.data_plane, "f", "/").await.status, 200, "the slot is free again");
}

#[tokio::test]
async fn a_function_that_times_out_keeps_its_slot_until_it_has_stopped() {
    let (world, _session, sandbox) = with_function(wire::FunctionConfig { timeout_ms: 100, ..function() }, 1).await;
    let response = get(world.data_plane, "f", "/hold").await;
    assert_eq!(response.refusal(), (504, "timeout"));
    sandbox.running(0).await;
    assert_eq!(get(world.data_plane, "f", "/").await.status, 200);
    assert_eq!(sandbox.state.max_running.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_time_out_within_a_response_truncates_it() {
    let (world, _session, sandbox) = with_function(wire::FunctionConfig { timeout_ms: 100, ..function() }, 1).await;
    let (response, _connection) = open(world.data_plane, request("f", "/drip")).await.unwrap();
    assert_eq!(response.status(), 200);
    read(response).await.expect_err("the answer had no end");
    sandbox.running(0).await;
}

#[tokio::test]
async fn a_sandbox_that_does_not_end_a_cancelled_invocation_is_retired() {
    let mut world = World::with(|config| config.cancel_grace = Duration::from_millis(100)).await;
    let mut session = world.accept_stream(vec![wire::FunctionConfig { timeout_ms: 100, ..function() }]).await;
    // It accepts the request, and never responds nor closes.
    let stalled = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    session.delta(delta(1, stalled.local_addr().unwrap(), 1, EndpointState::Active, 1));
    let invocation = spawn_get(world.data_plane, "f", "/");
    let (mut connection, _) = stalled.accept().await.unwrap();
    assert!(connection.read_u8().await.is_ok());
    assert_eq!(invocation.await.unwrap().refusal(), (504, "timeout"));
    let waiting = spawn_get(world.data_plane, "f", "/");
    session.waiting(1).await;
    let failure = session.failure(1).await;
    assert!(failure.cause.contains("cancelled"), "{failure:?}");
    let sandbox = Sandbox::start().await;
    session.delta(active(2, &sandbox, 1));
    assert_eq!(waiting.await.unwrap().header("x-dirigent-sandbox"), "0-2");
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_invocation_and_frees_the_slot() {
    for protocol in [wire::Protocol::Http1, wire::Protocol::H2c] {
        let (world, _session, sandbox) =
            with_function(wire::FunctionConfig { protocol: protocol.into(), ..function() }, 1).await;
        let gone = spawn_get(world.data_plane, "f", "/hold");
        sandbox.running(1).await;
        gone.abort();
        sandbox.running(0).await;
        assert_eq!(get(world.data_plane, "f", "/").await.status, 200, "{protocol:?}");
        assert_eq!(sandbox.state.max_running.load(Ordering::SeqCst), 1, "{protocol:?}");
    }
}

#[tokio::test]
async fn idle_connections_are_reused_and_bounded() {
    let (world, session, sandbox) = with_sandbox(1).await;
    for _ in 0..5 {
        assert_eq!(get(world.data_plane, "f", "/").await.status, 200);
    }
    assert_eq!(sandbox.state.connections.load(Ordering::SeqCst), 1, "one connection served all");
    drop((world, session));

    let mut world = World::with(|config| config.limits.idle_connections = Some(4)).await;
    let session = world.accept_stream(vec![function()]).await;
    let mut sandboxes = Vec::new();
    for number in 1..=8 {
        let sandbox = Sandbox::start().await;
        session.delta(active(number, &sandbox, 1));
        sandboxes.push(sandbox);
    }
    let held: Vec<_> = (0..8).map(|_| spawn_get(world.data_plane, "f", "/hold")).collect();
    for sandbox in &sandboxes {
        sandbox.running(1).await;
    }
    for sandbox in &sandboxes {
        sandbox.state.gate.add_permits(1);
    }
    for invocation in held {
        assert_eq!(invocation.await.unwrap().status, 200);
    }
    let metrics = get(world.admin, "admin", "/metrics").await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    let idle = metrics.lines().find(|line| line.starts_with("dirigent_data_plane_upstream_connections_idle ")).unwrap();
    let idle: u32 = idle.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((1..=4).contains(&idle), "{idle} idle connections");
}
