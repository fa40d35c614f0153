//! Admission, the queue, and the assignment of slots.

use std::{sync::atomic::Ordering, time::Duration};

use api::wire;
use http::Method;
use sim::WAIT_TIMEOUT;
use tokio::time::timeout;

use super::{
    client::{get, send, spawn_get, with_body},
    sandbox::Sandbox,
    world::{World, active, function, with_function, with_sandbox},
};

#[tokio::test]
async fn before_its_first_snapshot_it_is_not_ready_and_afterwards_unknown_functions_are_404() {
    let mut world = World::start().await;
    assert_eq!(get(world.data_plane, "f", "/").await.refusal(), (503, "not-ready"));
    assert_eq!(get(world.admin, "admin", "/readyz").await.status, 503);
    assert_eq!(get(world.admin, "admin", "/healthz").await.status, 200);
    let session = world.accept_stream(vec![function()]).await;
    assert_eq!(session.hello.address, world.data_plane.to_string());
    assert_eq!(get(world.data_plane, "g", "/").await.refusal(), (404, "unknown-function"));
    assert_eq!(get(world.admin, "admin", "/readyz").await.status, 200);
}

#[tokio::test]
async fn a_warm_response_describes_its_invocation() {
    let (world, _session, _sandbox) = with_sandbox(1).await;
    let response = get(world.data_plane, "f", "/").await;
    assert_eq!((response.status.as_u16(), &response.body[..]), (200, &b"ok"[..]));
    assert_eq!((response.header("x-dirigent-cold"), response.header("x-dirigent-attempts")), ("0", "1"));
    assert_eq!(response.header("x-dirigent-sandbox"), "0-1");
    let timing = response.header("server-timing");
    assert!(timing.starts_with("queue;dur=0.000, cold;dur=0.000, exec;dur="), "{timing}");
}

#[tokio::test]
async fn cold_invocations_report_demand_and_are_served_in_order_as_slots_are_granted() {
    let mut world = World::start().await;
    let mut session = world.accept_stream(vec![function()]).await;
    let mut invocations = Vec::new();
    for waiting in 1..=3 {
        invocations.push(spawn_get(world.data_plane, "f", "/hold"));
        session.waiting(waiting).await;
    }
    let sandbox = Sandbox::start().await;
    session.delta(active(1, &sandbox, 1));
    for (index, invocation) in invocations.into_iter().enumerate() {
        sandbox.running(1).await;
        assert!(!invocation.is_finished(), "it waits for the gate");
        sandbox.state.gate.add_permits(1);
        let response =
            timeout(WAIT_TIMEOUT, invocation).await.expect("the one who came first is served first").unwrap();
        assert_eq!((response.status.as_u16(), response.header("x-dirigent-cold")), (200, "1"), "invocation {index}");
        assert!(!response.header("server-timing").contains("cold;dur=0.000"), "{:?}", response.headers);
    }
    session.waiting(0).await;
}

#[tokio::test]
async fn an_invocation_served_by_a_freed_slot_is_queued_and_not_cold() {
    let (world, mut session, sandbox) = with_sandbox(1).await;
    let first = spawn_get(world.data_plane, "f", "/hold");
    sandbox.running(1).await;
    let second = spawn_get(world.data_plane, "f", "/");
    session.waiting(1).await;
    sandbox.state.gate.add_permits(1);
    first.await.unwrap();
    let response = second.await.unwrap();
    assert_eq!(response.header("x-dirigent-cold"), "0");
    assert!(response.header("server-timing").contains("cold;dur=0.000"), "{:?}", response.headers);
    assert!(!response.header("server-timing").contains("queue;dur=0.000"), "{:?}", response.headers);
}

/// The sandboxes that serve `times` consecutive invocations.
async fn served_by(world: &World, times: usize) -> Vec<String> {
    let mut sandboxes = Vec::new();
    for _ in 0..times {
        let response = get(world.data_plane, "f", "/").await;
        assert_eq!(response.status.as_u16(), 200);
        sandboxes.push(response.header("x-dirigent-sandbox").to_owned());
    }
    sandboxes
}

#[tokio::test]
async fn a_function_is_balanced_by_its_policy_and_a_change_applies_at_once() {
    let balanced = |balance: &str| wire::FunctionConfig { balance: balance.to_owned(), ..function() };
    let (world, mut session, _first) = with_function(balanced("round-robin"), 1).await;
    let others = [Sandbox::start().await, Sandbox::start().await];
    for (number, sandbox) in (2..).zip(&others) {
        session.delta(active(number, sandbox, 1));
        session.ack(number, |ack| ack.slots == 1).await;
    }
    assert_eq!(served_by(&world, 6).await, ["0-1", "0-2", "0-3", "0-1", "0-2", "0-3"], "in turn");

    for (sequence, balance, expected) in [
        (2, "knative", "0-1"), // The first of all that are free.
        (3, "", "0-1"),        // The data plane's default, least-loaded: the one used last.
        (4, "magic", "0-1"),   // Of another version than this data plane: its default.
    ] {
        session.send(wire::ToDataPlane { sequence, functions: vec![balanced(balance)], ..Default::default() });
        session.applied(sequence).await;
        assert_eq!(served_by(&world, 4).await, vec![expected; 4], "{balance:?}");
    }
}

#[tokio::test]
async fn a_full_queue_refuses_with_retry_after() {
    let (world, mut session, _sandbox) = with_function(wire::FunctionConfig { queue_limit: 1, ..function() }, 1).await;
    let _running = spawn_get(world.data_plane, "f", "/hold");
    let _waiting = spawn_get(world.data_plane, "f", "/");
    session.waiting(1).await;
    let response = get(world.data_plane, "f", "/").await;
    assert_eq!(response.refusal(), (503, "queue-full"));
    assert_eq!(response.header("retry-after"), "1");
}

#[tokio::test]
async fn the_queue_deadline_ends_a_wait_and_hides_the_details_of_the_last_problem() {
    let mut world = World::start().await;
    let mut session = world.accept_stream(vec![wire::FunctionConfig { queue_deadline_ms: 150, ..function() }]).await;
    let invocation = spawn_get(world.data_plane, "f", "/");
    session.waiting(1).await;
    let problem = wire::CreationProblem { function: 1, permanent: false, message: "password=secret".to_owned() };
    session.send(wire::ToDataPlane { problems: vec![problem], ..Default::default() });
    let response = invocation.await.unwrap();
    assert_eq!(response.refusal(), (504, "queue-deadline"));
    let body = String::from_utf8_lossy(&response.body);
    assert!(body.contains("no sandbox could be created in time") && !body.contains("secret"), "{body}");
    assert_eq!(response.header("content-type"), "application/problem+json");
    session.waiting(0).await;
}

#[tokio::test]
async fn a_permanent_creation_problem_is_refused_at_once_without_its_details() {
    let mut world = World::start().await;
    let mut session = world.accept_stream(vec![function()]).await;
    let invocation = spawn_get(world.data_plane, "f", "/");
    session.waiting(1).await;
    let problem = wire::CreationProblem { function: 1, permanent: true, message: "password=secret".to_owned() };
    session.send(wire::ToDataPlane { problems: vec![problem], ..Default::default() });
    for response in [invocation.await.unwrap(), get(world.data_plane, "f", "/").await] {
        assert_eq!(response.refusal(), (503, "creation-failed"));
        assert!(!String::from_utf8_lossy(&response.body).contains("secret"), "{:?}", response.body);
    }
}

#[tokio::test]
async fn a_client_that_disconnects_leaves_the_queue_at_once() {
    let mut world = World::start().await;
    let mut session = world.accept_stream(vec![function()]).await;
    let gone = spawn_get(world.data_plane, "f", "/");
    session.waiting(1).await;
    let stays = spawn_get(world.data_plane, "f", "/");
    session.waiting(2).await;
    gone.abort();
    session.waiting(1).await;
    let sandbox = Sandbox::start().await;
    session.delta(active(1, &sandbox, 1));
    assert_eq!(stays.await.unwrap().status, 200);
    assert_eq!(sandbox.state.served.load(Ordering::SeqCst), 1, "the one that left never ran");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrency_is_never_exceeded_under_load_and_cancellation() {
    let (world, session, first) = with_function(wire::FunctionConfig { concurrency: 2, ..function() }, 2).await;
    let second = Sandbox::start().await;
    session.delta(active(2, &second, 2));
    let mut clients = tokio::task::JoinSet::new();
    let to = world.data_plane;
    for client in 0..16u64 {
        clients.spawn(async move {
            for round in 0..20u64 {
                let mut invocation = spawn_get(to, "f", "/slow");
                if (client + round).is_multiple_of(3) {
                    // This client cancels: some invocations are queued when it leaves, some running, some done.
                    let client_timeout = Duration::from_millis(4 * (round % 8));
                    if timeout(client_timeout, &mut invocation).await.is_err() {
                        invocation.abort();
                    }
                } else {
                    assert_eq!(invocation.await.unwrap().status, 200);
                }
            }
        });
    }
    // These are running for certain when they are cancelled.
    let sandboxes = [first.state.clone(), second.state.clone()];
    clients.spawn(async move {
        let holds = || sandboxes.iter().map(|sandbox| sandbox.holds.load(Ordering::SeqCst)).sum::<usize>();
        for round in 0..20 {
            let invocation = spawn_get(to, "f", "/hold");
            let begun = async {
                let mut again = tokio::time::interval(Duration::from_millis(1));
                while holds() <= round {
                    again.tick().await;
                }
            };
            timeout(WAIT_TIMEOUT, begun).await.expect("it gets its turn");
            invocation.abort();
        }
    });
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    for sandbox in [&first, &second] {
        assert!(sandbox.state.max_running.load(Ordering::SeqCst) <= 2, "two at once at most");
        sandbox.running(0).await;
    }
    // No slot was lost: all four serve at once.
    let held: Vec<_> = (0..4).map(|_| spawn_get(world.data_plane, "f", "/hold")).collect();
    for sandbox in [&first, &second] {
        sandbox.running(2).await;
    }
    for sandbox in [&first, &second] {
        sandbox.state.gate.add_permits(2);
    }
    for invocation in held {
        assert_eq!(invocation.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_waiting_request_is_sent_in_the_new_protocol_after_its_function_changed() {
    let mut world = World::start().await;
    let mut session = world.accept_stream(vec![function()]).await;
    let post = with_body(Method::POST, "f", "/request", "body");
    let data_plane = world.data_plane;
    let invocation = tokio::spawn(async move { send(data_plane, post).await.unwrap() });
    session.waiting(1).await;
    let changed = wire::FunctionConfig { protocol: wire::Protocol::H2c.into(), revision: 2, ..function() };
    session.send(wire::ToDataPlane { functions: vec![changed], ..Default::default() });
    let sandbox = Sandbox::start().await;
    session.delta(wire::EndpointDelta { revision: 2, ..active(1, &sandbox, 1) });
    let response = invocation.await.unwrap();
    let seen = String::from_utf8_lossy(&response.body).into_owned();
    assert_eq!(response.status, 200, "{seen}");
    assert!(seen.starts_with("POST http://f/request HTTP/2.0\n"), "{seen}");
}
