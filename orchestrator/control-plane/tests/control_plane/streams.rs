//! What data planes and workers see: a cold start from demand to slot, refusals, drains, and a restart.

use api::wire::{self, sandbox_event::Event};
use control_plane::Config;
use sim::{DataPlane, Worker};

use super::Running;

pub(crate) async fn data_plane_with(running: &Running, function: &str) -> (DataPlane, u64) {
    let mut data_plane = DataPlane::connect(&running.stream, DataPlane::hello("d")).await.unwrap();
    data_plane.read_until(|message| message.snapshot_end.then_some(())).await;
    let path = format!("/v1/functions/{function}");
    let (status, ()) = tokio::join!(running.request("PUT", &path, r#"{"image":"any"}"#), async {
        let named = |message: &wire::ToDataPlane| (!message.functions.is_empty()).then_some(());
        data_plane.read_until(named).await;
    });
    assert_eq!(status.0, 201);
    let id = data_plane.id_of(function);
    (data_plane, id)
}

pub(crate) fn first_creation(message: &wire::ToWorker) -> Option<wire::CreateSandbox> {
    message.create.first().cloned()
}

pub(crate) fn first_endpoint(message: &wire::ToDataPlane) -> Option<wire::EndpointDelta> {
    message.endpoints.first().cloned()
}

/// Function `f` with one sandbox of worker `w`, which is ready, and which data plane `d` was told of.
pub(crate) struct Served {
    pub(crate) data_plane: DataPlane,
    pub(crate) worker: Worker,
    pub(crate) function: u64,
    pub(crate) create: wire::CreateSandbox,
}

pub(crate) async fn served(running: &Running) -> Served {
    let (mut data_plane, function) = data_plane_with(running, "f").await;
    let mut worker = Worker::connect(&running.stream, Worker::hello("w")).await.unwrap();
    data_plane.demand(function, 1, 0).await;
    let create = worker.read_until(first_creation).await;
    worker.ready(create.sandbox).await;
    data_plane.read_until(first_endpoint).await;
    Served { data_plane, worker, function, create }
}

#[tokio::test]
async fn a_cold_start_goes_from_demand_to_a_granted_slot_and_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let record = dir.path().join("record");
    let config = Config { data_dir: dir.path().to_owned(), record: Some(record.clone()), ..Config::default() };
    let running = Running::start_with(config).await;
    let (mut data_plane, function) = data_plane_with(&running, "f").await;
    let mut worker = Worker::connect(&running.stream, Worker::hello("w")).await.unwrap();
    data_plane.demand(function, 1, 0).await;
    let (revision, create) = {
        let mut message = worker.read().await;
        while message.create.is_empty() {
            message = worker.read().await;
        }
        (message.functions[0].clone(), message.create[0])
    };
    assert_eq!((revision.name.as_str(), revision.revision), ("f", create.revision));
    // It waits for others of its worker first, which changes nothing about its record.
    for queued in [true, false] {
        worker.event(create.sandbox, Event::Progress(wire::CreationProgress { queued, ..Default::default() })).await;
    }
    worker.ready(create.sandbox).await;
    let endpoint = data_plane.read_until(first_endpoint).await;
    assert_eq!((endpoint.sandbox, endpoint.slots, endpoint.address.as_str()), (create.sandbox, 1, "127.1.0.1:80"));
    running.wait_for("/v1/functions/f", |function| function["ready"] == 1).await;
    let again = data_plane.demand(function, 0, 1);
    again.await;
    running.stop().await;
    let rows: Vec<record::ColdStart> = record::read_table(&record.join("coldstarts.csv")).unwrap();
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!((row.function.as_str(), row.node.as_str(), row.outcome.name()), ("f", "w-node", "ready"));
    assert_eq!((row.create_us, row.ready_us), (Some(5), Some(2)));
    assert!(row.dispatch_us.is_some(), "{row:?}");
    assert!(row.publish_us.is_some() && row.net_worker_us.is_some() && row.net_dataplane_us.is_some(), "{row:?}");
}

#[tokio::test]
async fn other_versions_and_nameless_peers_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let newer = wire::DataPlaneHello { protocol_version: 99, ..DataPlane::hello("d") };
    let Err(refusal) = DataPlane::connect(&running.stream, newer).await else { panic!("it was accepted") };
    assert!(refusal.message().contains("version 99"), "{refusal}");
    let nameless = wire::WorkerHello { worker: String::new(), ..Worker::hello("w") };
    let Err(refusal) = Worker::connect(&running.stream, nameless).await else { panic!("it was accepted") };
    assert!(refusal.message().contains("needs a name"), "{refusal}");
    running.stop().await;
}

#[tokio::test]
async fn a_failed_creation_is_tried_elsewhere_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let (mut data_plane, function) = data_plane_with(&running, "f").await;
    let mut workers = Vec::new();
    for name in ["w1", "w2"] {
        workers.push(Worker::connect(&running.stream, Worker::hello(name)).await.unwrap());
        workers.last_mut().unwrap().read().await;
    }
    data_plane.demand(function, 1, 0).await;
    let (first, second) = workers.split_at_mut(1);
    let (failed_on, other, create) = tokio::select! {
        create = first[0].read_until(first_creation) => (&first[0], &mut second[0], create),
        create = second[0].read_until(first_creation) => (&second[0], &mut first[0], create),
    };
    let failure = wire::CreationFailed { message: "no such image".to_owned(), permanent: false };
    failed_on.event(create.sandbox, Event::Failed(failure)).await;
    let again = other.read_until(first_creation).await;
    assert_ne!(again.sandbox, create.sandbox, "a sandbox id is never used twice");
    let problem = data_plane.read_until(|message| message.problems.first().cloned()).await;
    assert_eq!((problem.message.as_str(), problem.permanent), ("no such image", false));
    let seen = running.wait_for("/v1/functions/f", |function| function["failures"] == 1).await;
    assert_eq!(seen["last_error"], "no such image");
    other.ready(again.sandbox).await;
    data_plane.read_until(first_endpoint).await;
    running.stop().await;
}

#[tokio::test]
async fn a_permanent_failure_is_announced_after_three_attempts() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let (mut data_plane, function) = data_plane_with(&running, "f").await;
    let mut worker = Worker::connect(&running.stream, Worker::hello("w")).await.unwrap();
    data_plane.demand(function, 1, 0).await;
    for attempt in 1..=3 {
        let create = worker.read_until(first_creation).await;
        let failure = wire::CreationFailed { message: format!("bad image {attempt}"), permanent: true };
        worker.event(create.sandbox, Event::Failed(failure)).await;
    }
    let permanent = |message: &wire::ToDataPlane| message.problems.iter().find(|problem| problem.permanent).cloned();
    let problem = data_plane.read_until(permanent).await;
    assert_eq!(problem.message, "bad image 3");
    data_plane.demand(function, 2, 0).await;
    let problem = data_plane.read_until(permanent).await;
    assert_eq!(problem.message, "bad image 3", "who comes later is told too");
    running.stop().await;
}

#[tokio::test]
async fn deregistration_drains_before_it_deletes() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let Served { mut data_plane, mut worker, create, .. } = served(&running).await;
    let (deleted, draining) = tokio::join!(running.request("DELETE", "/v1/functions/f", ""), async {
        let draining = |message: &wire::ToDataPlane| {
            message.endpoints.iter().find(|delta| delta.state() == wire::EndpointState::Draining).cloned()
        };
        data_plane.read_until(draining).await
    });
    assert_eq!((deleted.0, draining.sandbox), (202, create.sandbox));
    // The model data plane has given the slot back with its acknowledgement: only then is the sandbox deleted.
    let deletion = worker.read_until(|message| message.delete.first().copied()).await;
    assert_eq!(deletion, create.sandbox);
    worker.event(create.sandbox, Event::Ended(wire::SandboxEnded::default())).await;
    running.wait_for("/v1/status", |status| status["sandboxes_leaving"] == 0 && status["functions"] == 0).await;
    running.stop().await;
}

#[tokio::test]
async fn a_drained_node_gets_nothing_new_and_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let mut worker = Worker::connect(&running.stream, Worker::hello("w")).await.unwrap();
    worker.read().await;
    assert_eq!(running.request("POST", "/v1/nodes/nothing/drain", "").await.0, 404);
    assert_eq!(running.request("POST", "/v1/nodes/w-node/drain", "").await.0, 202);
    assert_eq!(running.json("/v1/nodes").await["nodes"][0]["drained"], true);
    assert_eq!(running.request("DELETE", "/v1/nodes/w-node", "").await.0, 409, "its worker is connected");
    drop(worker);
    running.wait_for("/v1/nodes", |nodes| nodes["nodes"][0]["state"] == "suspect").await;
    running.stop().await;
    let running = Running::start(dir.path()).await;
    assert_eq!(running.json("/v1/nodes").await["nodes"][0]["drained"], true, "the order is durable");
    assert_eq!(running.request("DELETE", "/v1/nodes/w-node", "").await.0, 202);
    assert_eq!(running.json("/v1/nodes").await["nodes"].as_array().unwrap().len(), 0);
    running.stop().await;
}

#[tokio::test]
async fn a_worker_without_heartbeats_is_suspect_and_one_with_them_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let mut worker = Worker::connect(&running.stream, Worker::hello("w")).await.unwrap();
    worker.read().await;
    running.wait_for("/v1/nodes", |nodes| nodes["nodes"][0]["state"] == "ready").await;
    running.wait_for("/v1/nodes", |nodes| nodes["nodes"][0]["state"] == "suspect").await;
    worker.heartbeat(&running.stream).await;
    running.wait_for("/v1/nodes", |nodes| nodes["nodes"][0]["state"] == "ready").await;
    running.stop().await;
}

#[tokio::test]
async fn after_a_restart_sandboxes_are_found_again_and_old_epochs_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let Served { data_plane: DataPlane { welcome, .. }, worker: _worker, function, create } = served(&running).await;
    running.stop().await;

    let running = Running::start(dir.path()).await;
    assert_eq!(running.cluster().await, welcome.cluster, "a cluster outlives its control plane");
    let held = wire::HeldSandbox {
        sandbox: create.sandbox,
        node: 0,
        function,
        revision: create.revision,
        address: "127.1.0.1:80".to_owned(),
        concurrency: 1,
        ..Default::default()
    };
    let hello = wire::WorkerHello { sandboxes: vec![held], ..Worker::hello_again("w", &welcome) };
    let _worker = Worker::connect(&running.stream, hello).await.unwrap();
    let held = vec![wire::HeldGrant { function, sandbox: create.sandbox, slots: 1 }];
    let hello = wire::DataPlaneHello { held, ..DataPlane::hello_again("d", &welcome) };
    let mut data_plane = DataPlane::connect(&running.stream, hello).await.unwrap();
    let confirmed = data_plane.read_until(first_endpoint).await;
    assert_eq!((confirmed.sandbox, confirmed.state()), (create.sandbox, wire::EndpointState::Active));
    let seen = running.json("/v1/functions/f").await;
    assert_eq!((&seen["ready"], &seen["endpoints"][0]["data_plane"]), (&1.into(), &"d".into()));

    let from_the_future = wire::WorkerHello { epoch: 7, ..Worker::hello_again("other", &welcome) };
    let mut refused = Worker::connect(&running.stream, from_the_future).await.unwrap();
    let refusal = refused.refusal().await;
    assert!(
        refusal.message().contains("epoch 7"),
        "a worker that has obeyed a newer epoch is not commanded: {refusal}"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_message_beyond_the_bound_ends_its_stream_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let (mut data_plane, function) = data_plane_with(&running, "f").await;
    let mut worker = Worker::connect(&running.stream, Worker::hello("w")).await.unwrap();
    let sample = wire::Sample { function, span_ms: 1000, concurrency_us: 1_000_000, requests: 1, ..Default::default() };
    let message = wire::FromDataPlane { samples: vec![sample; 200_000], ..Default::default() };
    assert!(prost::Message::encoded_len(&message) > api::MAX_LATER_MESSAGE_BYTES);
    data_plane.send(message).await;
    data_plane.ended().await;
    let again = DataPlane::connect(&running.stream, DataPlane::hello("d")).await.unwrap();
    again.demand(function, 1, 0).await;
    worker.read_until(first_creation).await;
    running.stop().await;
}
