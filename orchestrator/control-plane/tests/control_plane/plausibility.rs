//! Peers that lie: nothing that they say is believed beyond their own sandboxes, grants and nodes.

use api::wire::{self, EndpointState, sandbox_ended::Reason, sandbox_event::Event};
use serde_json::Value;
use sim::{DataPlane, Worker};

use super::{
    Running,
    streams::{Served, data_plane_with, first_creation, served},
};

/// The only sandbox of function `f`: its state, its node and who holds it.
fn only_sandbox(function: &Value) -> [String; 3] {
    let endpoints = function["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), 1, "{function}");
    ["state", "node", "data_plane"].map(|field| endpoints[0][field].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_peer_changes_nothing_about_what_others_have() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let Served { data_plane, worker: _worker, function, create } = served(&running).await;
    let expected = ["ready", "w-node", "d"].map(str::to_owned);
    assert_eq!(only_sandbox(&running.json("/v1/functions/f").await), expected);

    // A worker that says it has the sandbox, at another address, and that it has ended.
    let held = wire::HeldSandbox {
        sandbox: create.sandbox,
        function,
        revision: create.revision,
        address: "192.0.2.1:80".to_owned(),
        concurrency: u32::MAX,
        ..Default::default()
    };
    // One of an id that will be given to the next sandbox.
    let next = wire::HeldSandbox { sandbox: create.sandbox + 1, ..held.clone() };
    let hello = wire::WorkerHello { sandboxes: vec![held, next], ..Worker::hello_again("liar", &data_plane.welcome) };
    let mut liar = Worker::connect(&running.stream, hello).await.unwrap();
    let mut ended = Vec::new();
    while ended.len() < 2 {
        ended.extend(liar.read().await.delete);
    }
    assert_eq!(ended, [create.sandbox, create.sandbox + 1], "it is told to end what it cannot have");
    let exited = wire::SandboxEnded { reason: Reason::Exited.into(), message: "x".repeat(100_000) };
    liar.event(create.sandbox, Event::Ended(exited)).await;
    liar.event(create.sandbox, Event::Failed(wire::CreationFailed::default())).await;
    liar.leave().await;
    let is_gone = |nodes: &Value| nodes["nodes"].as_array().unwrap().iter().any(|node| node["state"] == "suspect");
    running.wait_for("/v1/nodes", is_gone).await;
    assert_eq!(only_sandbox(&running.json("/v1/functions/f").await), expected);

    // A data plane that says it holds the sandbox, and that it does not work; and that more waits than can be counted.
    let held = vec![wire::HeldGrant { function, sandbox: create.sandbox, slots: u32::MAX }];
    let hello = wire::DataPlaneHello { held, ..DataPlane::hello_again("liar", &data_plane.welcome) };
    let mut liar = DataPlane::connect(&running.stream, hello).await.unwrap();
    let gone = |message: &wire::ToDataPlane| {
        message.endpoints.iter().find(|delta| delta.sandbox == create.sandbox).map(wire::EndpointDelta::state)
    };
    assert_eq!(liar.read_until(gone).await, EndpointState::Gone);
    let failure =
        wire::EndpointFailure { sandbox: create.sandbox, function, cause: "broken".to_owned(), ..Default::default() };
    liar.send(wire::FromDataPlane { failures: vec![failure], applied: u64::MAX, ..Default::default() }).await;
    liar.demand(function, u32::MAX, u32::MAX).await;
    let seen = running.wait_for("/v1/functions/f", |function| function["waiting"].as_u64() > Some(1)).await;
    assert!(seen["waiting"].as_u64() < Some(u64::from(u32::MAX)), "{seen}");
    let mut held = seen["endpoints"].as_array().unwrap().iter().filter(|endpoint| endpoint["data_plane"] == "d");
    assert_eq!(held.next().map(|endpoint| &endpoint["state"]), Some(&"ready".into()), "{seen}");
    running.stop().await;
}

#[tokio::test]
async fn a_peer_whose_name_cannot_be_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let refused = DataPlane::connect(&running.stream, DataPlane::hello("d\u{1b}[2J")).await.err().unwrap();
    assert!(refused.message().contains("a data plane needs a name"), "{refused}");
    let refused = Worker::connect(&running.stream, Worker::hello(&"w".repeat(300))).await.err().unwrap();
    assert!(refused.message().contains("a worker needs a name"), "{refused}");
    let mut hello = Worker::hello("w");
    hello.nodes[0].name = "no node".to_owned();
    let refused = Worker::connect(&running.stream, hello).await.err().unwrap();
    assert!(refused.message().contains("a node needs a name"), "{refused}");
    running.stop().await;
}

/// Ids of older epochs are known to no control plane that began later, and those who have them say so once.
#[tokio::test]
async fn a_worker_that_has_reported_and_one_that_is_new_invent_no_sandboxes_of_before() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let Served { data_plane, worker: _worker, function, create } = served(&running).await;
    let welcome = data_plane.welcome.clone();
    let mut liar = Worker::connect(&running.stream, Worker::hello("liar")).await.unwrap();
    liar.read().await;
    running.stop().await;

    let running = Running::start(dir.path()).await;
    let held = wire::HeldSandbox {
        sandbox: create.sandbox,
        function,
        revision: create.revision,
        address: "127.1.0.1:80".to_owned(),
        concurrency: 1,
        ..Default::default()
    };
    let mut liar = Worker::connect(&running.stream, Worker::hello_again("liar", &welcome)).await.unwrap();
    liar.read().await;
    liar.leave().await;
    for name in ["liar", "nobody-knows-it"] {
        let hello = wire::WorkerHello { sandboxes: vec![held.clone()], ..Worker::hello_again(name, &welcome) };
        let mut liar = Worker::connect(&running.stream, hello).await.unwrap();
        assert_eq!(liar.read_until(|message| message.delete.first().copied()).await, create.sandbox, "{name}");
        liar.leave().await;
    }
    // Who has it says so for the first time.
    let hello = wire::WorkerHello { sandboxes: vec![held], ..Worker::hello_again("w", &welcome) };
    let mut worker = Worker::connect(&running.stream, hello).await.unwrap();
    worker.read().await;
    let seen =
        running.wait_for("/v1/functions/f", |function| !function["endpoints"].as_array().unwrap().is_empty()).await;
    assert_eq!(only_sandbox(&seen)[1], "w-node");
    running.stop().await;
}

#[tokio::test]
async fn a_sandbox_without_a_usable_address_is_a_failed_creation() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let (data_plane, function) = data_plane_with(&running, "f").await;
    let mut worker = Worker::connect(&running.stream, Worker::hello("w")).await.unwrap();
    data_plane.demand(function, 1, 0).await;
    let create = worker.read_until(first_creation).await;
    let ready = wire::SandboxReady { address: "nowhere".to_owned(), ..Default::default() };
    worker.event(create.sandbox, Event::Ready(ready)).await;
    let seen = running.wait_for("/v1/functions/f", |function| function["failures"] == 1).await;
    assert!(seen["last_error"].as_str().unwrap().contains("no usable address"), "{seen}");
    // Another one is made for whoever waits.
    worker.read_until(first_creation).await;
    running.stop().await;
}
