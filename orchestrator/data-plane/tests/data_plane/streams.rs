//! The stream to the control plane: lost, re-established, ended.

use std::time::Duration;

use api::wire::{self, EndpointState};
use sim::{ControlPlane, WAIT_TIMEOUT};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{advance, pause, resume, timeout},
};

use super::{
    client::{get, open, read, request, spawn_get},
    sandbox::Sandbox,
    world::{World, active, delta, function, with_sandbox},
};

#[tokio::test]
async fn warm_traffic_continues_without_a_control_plane_and_the_next_hello_lists_the_grants() {
    let (mut world, mut session, sandbox) = with_sandbox(1).await;
    session.close();
    drop(session);
    world.control_plane.stop();
    let address = world.control_plane.address;
    assert_eq!(get(world.data_plane, "f", "/").await.status, 200);
    let waiting = spawn_get(world.data_plane, "f", "/hold");
    sandbox.running(1).await;
    let queued = spawn_get(world.data_plane, "f", "/");
    assert_eq!(get(world.admin, "admin", "/readyz").await.status, 200, "it still knows the functions");

    world.control_plane = ControlPlane::start_at(address, 1).await;
    let mut session = world.control_plane.data_plane().await;
    assert_eq!(session.hello.held, [wire::HeldGrant { function: 1, sandbox: 1, slots: 1 }]);
    assert_eq!((session.hello.data_plane.as_str(), session.hello.epoch), ("dp", 1));
    session.welcome(2, vec![function()]);
    session.waiting(1).await;
    // Versions restart with the new stream.
    session.delta(delta(1, sandbox.address, 1, EndpointState::Active, 1));
    session.ack(1, |ack| ack.version == 1 && ack.slots == 1).await;
    sandbox.state.gate.add_permits(1);
    assert_eq!(waiting.await.unwrap().status, 200);
    assert_eq!(queued.await.unwrap().status, 200);
}

#[tokio::test]
async fn a_function_that_the_new_snapshot_lacks_is_forgotten() {
    let (mut world, mut session, sandbox) = with_sandbox(1).await;
    let running = spawn_get(world.data_plane, "f", "/hold");
    sandbox.running(1).await;
    session.close();
    let mut session = world.control_plane.data_plane().await;
    session.welcome(2, vec![wire::FunctionConfig { function: 2, name: "g".to_owned(), ..function() }]);
    session.applied(1).await;
    assert_eq!(get(world.data_plane, "f", "/").await.refusal(), (404, "unknown-function"));
    sandbox.state.gate.add_permits(1);
    assert_eq!(running.await.unwrap().status, 200);
    session.ack(1, |ack| ack.slots == 0).await;
}

#[tokio::test]
async fn the_stream_to_an_outdated_or_foreign_control_plane_ends() {
    let (mut world, mut session, _sandbox) = with_sandbox(1).await;
    session.close();
    let mut outdated = world.control_plane.data_plane().await;
    // Epoch 0 is over; epoch 1 has been seen.
    outdated.welcome(0, Vec::new());
    let mut foreign = world.control_plane.data_plane().await;
    let welcome = Some(wire::Welcome { protocol_version: 999, epoch: 7, ..Default::default() });
    foreign.send(wire::ToDataPlane { welcome, ..Default::default() });
    outdated.ended().await;
    foreign.ended().await;
    let mut session = world.control_plane.data_plane().await;
    assert_eq!(session.hello.epoch, 1, "neither counts");
    session.welcome(1, vec![function()]);
    session.applied(1).await;
    assert_eq!(get(world.data_plane, "f", "/").await.status, 200);
}

#[tokio::test]
async fn sandboxes_lost_to_another_process_of_the_same_name_are_not_used() {
    let (mut world, mut session, _sandbox) = with_sandbox(1).await;
    session.close();
    let refuse = async |world: &mut World| {
        let session = world.control_plane.data_plane().await;
        session.refuse(api::refuse_name("data plane dp is connected".to_owned()));
        session.hello
    };
    assert_eq!(refuse(&mut world).await.epoch, 1);
    // Its next attempt shows that this was no mistake, and the other process may be about to end.
    assert_eq!(refuse(&mut world).await.epoch, 1);
    assert_eq!(get(world.data_plane, "f", "/").await.status, 200, "it may be the one that stays");
    pause();
    advance(Duration::from_secs(11)).await;
    resume();
    let left = async { while refuse(&mut world).await.epoch != 0 {} };
    timeout(WAIT_TIMEOUT, left).await.expect("it leaves the cluster");
    assert_eq!(get(world.data_plane, "f", "/").await.refusal(), (503, "not-ready"));
    assert_eq!(get(world.admin, "admin", "/readyz").await.status, 503);

    let mut session = world.accept_stream(vec![function()]).await;
    assert_eq!((session.hello.epoch, session.hello.held.len()), (0, 0), "it is let in as a new one");
    let sandbox = Sandbox::start().await;
    session.delta(active(2, &sandbox, 1));
    session.ack(2, |ack| ack.slots == 1).await;
    assert_eq!(get(world.data_plane, "f", "/").await.status, 200);
}

#[tokio::test]
async fn at_shutdown_running_invocations_end_others_are_refused_and_all_slots_are_returned() {
    let (mut world, mut session, sandbox) = with_sandbox(1).await;
    let (response, _connection) = {
        let running = tokio::spawn(open(world.data_plane, request("f", "/hold")));
        sandbox.running(1).await;
        world.shut_down();
        let refused = async {
            loop {
                let response = get(world.data_plane, "f", "/").await;
                if response.refusal() == (503, "shutting-down") {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(WAIT_TIMEOUT, refused).await.expect("new requests are refused");
        sandbox.state.gate.add_permits(1);
        running.await.unwrap().unwrap()
    };
    assert_eq!(read(response).await.unwrap().body, "held");
    session.ack(1, |ack| ack.slots == 0).await;
    session.ended().await;
    session.close();
    world.ended().await;
}

#[tokio::test]
async fn a_full_admin_port_serves_health_checks_and_no_browser_pages() {
    let mut world = World::start().await;
    let _session = world.accept_stream(vec![function()]).await;
    assert_eq!(get(world.admin, "evil.example", "/v1/functions").await.status, 403, "not its own name");
    let mut silent = Vec::new();
    for _ in 0..256 {
        let mut stream = TcpStream::connect(world.admin).await.unwrap();
        // Half a head, so that it waits for the rest.
        stream.write_all(b"GET /v1/functions HTTP/1.1\r\n").await.unwrap();
        silent.push(stream);
    }
    let refused = get(world.admin, "admin", "/v1/functions").await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(get(world.admin, "admin", "/healthz").await.status, 200);
    assert_eq!(get(world.admin, "admin", "/metrics").await.status, 200);
}

#[tokio::test]
async fn the_admin_port_shows_grants_and_counts_outcomes() {
    let (world, _session, _sandbox) = with_sandbox(3).await;
    get(world.data_plane, "f", "/").await;
    get(world.data_plane, "nobody", "/").await;
    let functions = get(world.admin, "admin", "/v1/functions").await;
    let functions: serde_json::Value = serde_json::from_slice(&functions.body).unwrap();
    assert_eq!((&functions[0]["name"], &functions[0]["granted_slots"]), (&"f".into(), &3.into()));
    let metrics = get(world.admin, "admin", "/metrics").await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    for line in [
        "dirigent_data_plane_requests_total{outcome=\"ok\"} 1",
        "dirigent_data_plane_requests_total{outcome=\"unknown-function\"} 1",
        "dirigent_data_plane_functions 1",
        "dirigent_data_plane_stream_connected 1",
        "dirigent_data_plane_waiting 0",
        "dirigent_data_plane_granted_slots 3",
        "dirigent_data_plane_execution_seconds_count 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in\n{metrics}");
    }
    for name in ["dirigent_data_plane_reports_unsent ", "dirigent_data_plane_report_age_seconds "] {
        let value = metrics.lines().find_map(|found| found.strip_prefix(name)?.parse::<f64>().ok());
        assert!(value.is_some_and(|value| (0.0..60.0).contains(&value)), "{name} is missing in\n{metrics}");
    }
}

#[tokio::test]
async fn a_second_control_plane_is_tried_if_the_first_is_unreachable() {
    let away = ControlPlane::start().await;
    away.stop();
    let address = away.address.to_string();
    let mut world = World::with(|config| config.control_planes.insert(0, address)).await;
    let session = world.accept_stream(vec![function()]).await;
    let sandbox = Sandbox::start().await;
    session.delta(active(1, &sandbox, 1));
    assert_eq!(get(world.data_plane, "f", "/").await.status, 200);
}
