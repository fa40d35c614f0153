//! Who is let in: peers of this cluster, each under a name of its own.

use api::wire::{self, sandbox_event::Event};
use control_plane::{Command, RedbStore, Store};
use sim::{DataPlane, Worker};

use super::{
    Running,
    streams::{Served, data_plane_with, first_creation, first_endpoint, served},
};

#[tokio::test]
async fn a_second_worker_of_one_name_is_refused_and_a_new_stream_of_the_same_process_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let hello = |instance| wire::WorkerHello { instance, ..Worker::hello("w") };
    let mut first = Worker::connect(&running.stream, hello(1)).await.unwrap();
    first.read().await;
    let mut second = Worker::connect(&running.stream, hello(2)).await.unwrap();
    let refusal = second.refusal().await;
    assert!(refusal.message().contains("another worker of the name \"w\" is connected"), "{refusal}");
    let mut again = Worker::connect(&running.stream, hello(1)).await.unwrap();
    assert!(again.read().await.welcome.is_some(), "its old stream is broken");
    assert!(first.refusal().await.message().contains("again"));
    running.wait_for("/v1/nodes", |nodes| nodes["nodes"][0]["state"] == "ready").await;

    // A name is free when the stream of its worker has ended; silence is not the end.
    drop(again);
    running.wait_for("/v1/nodes", |nodes| nodes["nodes"][0]["state"] == "suspect").await;
    let mut second = Worker::connect(&running.stream, hello(2)).await.unwrap();
    assert!(second.read().await.welcome.is_some());
    running.wait_for("/v1/nodes", |nodes| nodes["nodes"][0]["state"] == "suspect").await;
    let mut third = Worker::connect(&running.stream, hello(3)).await.unwrap();
    let refusal = third.refusal().await;
    assert!(api::is_name_conflict(&refusal), "one that stands still may go on: {refusal}");
    running.stop().await;
}

#[tokio::test]
async fn a_second_data_plane_of_one_name_is_refused_while_the_first_is_connected() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let hello = |instance| wire::DataPlaneHello { instance, ..DataPlane::hello("d") };
    let mut first = DataPlane::connect(&running.stream, hello(1)).await.unwrap();
    first.read_until(|message| message.snapshot_end.then_some(())).await;
    let mut second = DataPlane::connect(&running.stream, hello(2)).await.unwrap();
    let refusal = second.refusal().await;
    assert!(refusal.message().contains("another data plane of the name \"d\" is connected"), "{refusal}");
    let mut again = DataPlane::connect(&running.stream, hello(1)).await.unwrap();
    again.read_until(|message| message.snapshot_end.then_some(())).await;
    drop((first, again));
    running.wait_for("/v1/status", |status| status["data_planes"].as_array().unwrap().is_empty()).await;
    let mut second = DataPlane::connect(&running.stream, hello(2)).await.unwrap();
    second.read_until(|message| message.snapshot_end.then_some(())).await;
    running.stop().await;
}

#[tokio::test]
async fn a_node_has_one_owner_and_removing_it_leaves_the_control_plane_whole() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let mut owner = Worker::connect(&running.stream, Worker::hello("w")).await.unwrap();
    owner.read().await;
    let thief = wire::WorkerHello { worker: "thief".to_owned(), ..Worker::hello("w") };
    let mut refused = Worker::connect(&running.stream, thief.clone()).await.unwrap();
    let refusal = refused.refusal().await;
    assert!(refusal.message().contains("\"w-node\" is served by worker \"w\""), "{refusal}");
    let mut twice = Worker::hello("v");
    twice.nodes.push(twice.nodes[0].clone());
    let mut refused = Worker::connect(&running.stream, twice).await.unwrap();
    assert!(refused.refusal().await.message().contains("\"v-node\" twice"));

    drop(owner);
    running.wait_for("/v1/nodes", |nodes| nodes["nodes"][0]["state"] == "suspect").await;
    let mut heir = Worker::connect(&running.stream, thief).await.unwrap();
    heir.read().await;
    assert_eq!(running.request("DELETE", "/v1/nodes/w-node", "").await.0, 409, "its worker is connected");
    drop(heir);
    running.wait_for("/v1/nodes", |nodes| nodes["nodes"][0]["state"] == "suspect").await;
    assert_eq!(running.request("DELETE", "/v1/nodes/w-node", "").await.0, 202);
    let mut back = Worker::connect(&running.stream, Worker::hello("w")).await.unwrap();
    back.read().await;
    running.wait_for("/v1/nodes", |nodes| nodes["nodes"][0]["state"] == "ready").await;
    running.stop().await;
}

#[tokio::test]
async fn a_cluster_begins_its_log_with_its_id_and_keeps_it() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut seen = Vec::new();
    for dir in [&dirs[0], &dirs[0], &dirs[1]] {
        let running = Running::start(dir.path()).await;
        seen.push(running.cluster().await);
        running.stop().await;
    }
    assert_eq!(seen[0], seen[1], "it is the same after a restart");
    assert_ne!(seen[0], seen[2], "another log is of another cluster");
    let log = RedbStore::open(dirs[0].path()).unwrap().load().await.unwrap();
    let Command::BeginCluster { id } = log[0].command else { panic!("expected the cluster first: {log:?}") };
    assert_eq!((log[0].index, id.to_string()), (1, seen[0].clone()));
}

/// Ids are numbers that begin anew with a new log: what a peer holds of the lost one would be taken for something else.
#[tokio::test]
async fn after_a_lost_log_peers_of_the_lost_cluster_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let Served { data_plane: DataPlane { welcome, .. }, worker: _worker, create, .. } = served(&running).await;
    running.stop().await;

    let empty = tempfile::tempdir().unwrap();
    let running = Running::start(empty.path()).await;
    let (mut fresh, other) = data_plane_with(&running, "g").await;
    let held = wire::HeldSandbox {
        sandbox: create.sandbox,
        function: other,
        revision: other,
        address: "127.1.0.1:80".to_owned(),
        concurrency: 1,
        ..Default::default()
    };
    for cluster in [welcome.cluster.clone(), String::new()] {
        let welcome = wire::Welcome { cluster: cluster.clone(), ..welcome.clone() };
        let hello = wire::WorkerHello { sandboxes: vec![held.clone()], ..Worker::hello_again("w", &welcome) };
        let mut refused = Worker::connect(&running.stream, hello).await.unwrap();
        let refusal = refused.refusal().await;
        let named = (!cluster.is_empty()).then_some(running.cluster().await);
        assert_eq!(api::cluster_of_refusal(&refusal).map(str::to_owned), named, "{refusal}");
        let held = vec![wire::HeldGrant { function: other, sandbox: create.sandbox, slots: 1 }];
        let hello = wire::DataPlaneHello { held, ..DataPlane::hello_again("old", &welcome) };
        let mut refused = DataPlane::connect(&running.stream, hello).await.unwrap();
        refused.refusal().await;
    }
    // Nothing of theirs was taken over.
    let mut worker = Worker::connect(&running.stream, Worker::hello("new")).await.unwrap();
    fresh.demand(other, 1, 0).await;
    let create = worker.read_until(first_creation).await;
    worker.ready(create.sandbox).await;
    let endpoint = fresh.read_until(first_endpoint).await;
    assert_eq!((endpoint.function, endpoint.sandbox), (other, create.sandbox));
    running.stop().await;
}

/// What a peer learnt after the copy was made, in the same epoch or a later one, means something else now.
#[tokio::test]
async fn after_an_older_copy_of_the_log_was_put_back_who_knows_more_than_it_is_refused_or_ends_that() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let running = Running::start(dirs[0].path()).await;
    let (mut data_plane, kept) = data_plane_with(&running, "kept").await;
    let mut worker = Worker::connect(&running.stream, Worker::hello("w")).await.unwrap();
    worker.read().await;
    worker.leave().await;
    std::fs::copy(dirs[0].path().join("commands.redb"), dirs[1].path().join("commands.redb")).unwrap();
    let lost = {
        let named = data_plane.read_until(|message| message.functions.first().map(|config| config.function));
        let ((status, _), function) =
            tokio::join!(running.request("PUT", "/v1/functions/lost", r#"{"image":"any"}"#), named);
        assert_eq!(status, 201);
        function
    };
    let welcome = data_plane.welcome.clone();
    running.stop().await;
    let running = Running::start(dirs[0].path()).await;
    let (DataPlane { welcome: next, .. }, _) = data_plane_with(&running, "more").await;
    running.stop().await;

    let running = Running::start(dirs[1].path()).await;
    assert_eq!(running.cluster().await, welcome.cluster);
    let hello = |known| wire::DataPlaneHello { known, ..DataPlane::hello_again("d", &welcome) };
    let mut knows_no_more = DataPlane::connect(&running.stream, hello(kept)).await.unwrap();
    knows_no_more.read_until(|message| message.snapshot_end.then_some(())).await;
    assert_eq!((knows_no_more.welcome.epoch, next.epoch), (2, 2));
    drop(knows_no_more);
    running.wait_for("/v1/status", |status| status["data_planes"].as_array().unwrap().is_empty()).await;
    for (hello, reason) in [
        (hello(lost), format!("knows command {lost} of epoch 1")),
        (DataPlane::hello_again("d", &next), format!("epoch 2 of this cluster with nonce {:016x}", next.epoch_nonce)),
        (wire::DataPlaneHello { epoch_nonce: 0, ..hello(kept) }, "does not say its nonce".to_owned()),
    ] {
        let refusal = DataPlane::connect(&running.stream, hello).await.unwrap().refusal().await;
        assert!(refusal.message().contains(&reason), "{refusal}");
        assert!(api::cluster_of_refusal(&refusal).is_some(), "a data plane may begin anew");
    }
    let held = |sandbox, function| wire::HeldSandbox {
        sandbox,
        function,
        revision: function,
        address: "127.1.0.1:80".to_owned(),
        concurrency: 1,
        ..Default::default()
    };
    let first = model::SandboxId::new(model::Epoch(1), 1).unwrap().to_wire();
    let sandboxes = vec![held(first, kept), held(first + 1, lost)];
    let mut refused = Worker::connect(&running.stream, Worker::hello_again("w", &next)).await.unwrap();
    assert!(refused.refusal().await.message().contains("epoch 2 of this cluster"));
    let hello = wire::WorkerHello { sandboxes, ..Worker::hello_again("w", &welcome) };
    let mut worker = Worker::connect(&running.stream, hello).await.unwrap();
    assert_eq!(worker.read_until(|message| message.delete.first().copied()).await, first + 1);
    running.wait_for("/v1/functions/kept", |function| function["endpoints"][0]["node"] == "w-node").await;
    running.stop().await;
}

#[tokio::test]
async fn a_sandbox_that_ends_soon_after_it_was_ready_is_a_failure_that_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let (mut data_plane, function) = data_plane_with(&running, "f").await;
    let mut worker = Worker::connect(&running.stream, Worker::hello("w")).await.unwrap();
    data_plane.demand(function, 1, 0).await;
    for attempt in 1..=3 {
        let create = worker.read_until(first_creation).await;
        worker.ready(create.sandbox).await;
        data_plane.read_until(first_endpoint).await;
        let ended =
            wire::SandboxEnded { reason: wire::sandbox_ended::Reason::Exited.into(), message: "boom".to_owned() };
        worker.event(create.sandbox, Event::Ended(ended)).await;
        data_plane.demand(function, 1, 0).await;
        let seen = running.wait_for("/v1/functions/f", |function| function["failures"] == attempt).await;
        assert!(seen["last_error"].as_str().unwrap().contains("boom"), "{seen}");
    }
    running.stop().await;
}
