//! A worker with hollow sandboxes, commanded over the real protocol through real sockets.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking and documents itself")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the test harness captures what tests print")]

mod support;

use std::time::Duration;

use api::wire::{self, sandbox_ended::Reason};
use sim::ControlPlane;
use support::{Worker, get, hollow, hollow_with_listeners, revision, until};
use tokio::time::Instant;

const NO_DELAY: Duration = Duration::ZERO;
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_sandbox_is_created_responds_and_refuses_connections_after_its_deletion() {
    for own_listeners in [false, true] {
        let mut control_plane = ControlPlane::start().await;
        let worker = Worker::start(&[control_plane.address], |config| {
            if own_listeners { hollow_with_listeners(config) } else { hollow(config, NO_DELAY) }
        })
        .await;
        let mut stream = control_plane.worker().await;
        assert_eq!((stream.hello.worker.as_str(), stream.hello.runtime.as_str()), ("w", "hollow"));
        assert_eq!(stream.hello.admin, worker.admin.to_string());
        let names: Vec<&str> = stream.hello.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["w-0", "w-1", "w-2"]);

        let sandbox = stream.create(1, revision("anything"));
        let (address, ready) = stream.ready(sandbox).await;
        assert!(ready.own_us >= ready.create_us + ready.ready_us, "{ready:?}");
        let trace = "workload: trace\r\nrequested_cpu: 1\r\nfunction: f\r\n";
        let (code, body) = get(address, "/", trace).await.unwrap();
        assert!(code == 200 && body.contains(r#""MachineName":"w-0""#), "{code} {body}");

        let running = tokio::spawn(get(address, "/", "workload: trace\r\nrequested_cpu: 3600000\r\n"));
        stream.delete(sandbox);
        assert_eq!(stream.ended(sandbox).await, (Reason::Deleted, String::new()));
        assert!(get(address, "/", "").await.is_err(), "{address} still responds");
        assert!(running.await.unwrap().is_err(), "the running invocation is aborted");
    }
}

#[tokio::test]
async fn a_deletion_cancels_a_creation_under_way() {
    let mut control_plane = ControlPlane::start().await;
    let _worker = Worker::start(&[control_plane.address], |config| hollow(config, HOUR)).await;
    let mut stream = control_plane.worker().await;
    let sandbox = stream.create(1, revision("anything"));
    stream.delete(sandbox);
    assert_eq!(stream.ended(sandbox).await.0, Reason::Cancelled);
    stream.delete(sandbox);
    assert_eq!(stream.ended(sandbox).await.0, Reason::Deleted, "an unknown sandbox is reported as ended");
}

#[tokio::test]
async fn creations_beyond_the_limit_wait_and_a_cancelled_one_passes_its_permit_on() {
    let mut control_plane = ControlPlane::start().await;
    let delay = Duration::from_millis(20);
    let bounded = |delay| {
        move |config: &mut worker::Config| {
            hollow(config, delay);
            config.hollow.parallel_starts = 1;
        }
    };
    let worker = Worker::start(&[control_plane.address], bounded(delay)).await;
    let mut stream = control_plane.worker().await;
    let sent = Instant::now();
    for sequence in 1..=3 {
        stream.create(sequence, revision("anything"));
    }
    for sequence in 1..=3 {
        let (_, ready) = stream.ready(stream.id(sequence)).await;
        assert!(ready.steps.iter().any(|step| step.name == "wait"), "{sequence}: its wait is a step");
        // A command may arrive late, and waits less then: only since the first was sent must all before it have passed.
        let (took, least) = (sent.elapsed(), delay * u32::try_from(sequence).unwrap());
        assert!(
            took >= least,
            "{sequence} was ready after {took:?}, expected those before it to take {least:?} with it"
        );
    }
    worker.end().await;

    let _worker = Worker::start(&[control_plane.address], bounded(HOUR)).await;
    let mut stream = control_plane.worker().await;
    let (first, second) = (stream.create(4, revision("anything")), stream.create(5, revision("anything")));
    assert!(stream.is_queued(second).await, "its wait is reported");
    stream.delete(second);
    assert_eq!(stream.ended(second).await.0, Reason::Cancelled, "also one that waits");
    let third = stream.create(6, revision("anything"));
    assert!(stream.is_queued(third).await);
    stream.delete(first);
    assert_eq!(stream.ended(first).await.0, Reason::Cancelled);
    assert!(!stream.is_queued(third).await, "its start is reported");
}

#[tokio::test]
async fn a_repeated_creation_makes_one_sandbox() {
    let mut control_plane = ControlPlane::start().await;
    let worker = Worker::start(&[control_plane.address], |config| hollow(config, NO_DELAY)).await;
    let mut stream = control_plane.worker().await;
    let first = stream.create(1, revision("anything"));
    assert_eq!(stream.create(1, revision("anything")), first);
    stream.ready(first).await;
    let second = stream.create(2, revision("anything"));
    stream.ready(second).await;
    let (_, held) = worker.page("/v1/sandboxes").await;
    assert_eq!(held.matches(r#""state":"ready""#).count(), 2, "{held}");
}

#[tokio::test]
async fn a_broken_stream_keeps_the_sandboxes_and_the_next_hello_names_them() {
    let mut control_plane = ControlPlane::start().await;
    let at = control_plane.address;
    let worker = Worker::start(&[at], |config| hollow(config, NO_DELAY)).await;
    let mut stream = control_plane.worker().await;
    let sandbox = stream.create(7, revision("anything"));
    let (address, _) = stream.ready(sandbox).await;
    worker.page_becomes("/readyz", 200).await;
    drop((stream, control_plane));
    worker.page_becomes("/readyz", 503).await;
    assert_eq!(get(address, "/", "").await.unwrap().0, 200, "a disconnected worker keeps its sandboxes");

    let mut control_plane = ControlPlane::start_at(at, 2).await;
    let mut stream = control_plane.worker().await;
    let spec = revision("anything");
    let held = wire::HeldSandbox {
        sandbox: sandbox.to_wire(),
        node: 0,
        function: 1,
        revision: 5,
        address: address.to_string(),
        cpu_millicores: spec.cpu_millicores,
        memory_mib: spec.memory_mib,
        concurrency: spec.concurrency,
        queued: false,
    };
    assert_eq!((stream.hello.epoch, &stream.hello.sandboxes), (1, &vec![held]));
    let refused = sandbox;
    stream.delete(refused);
    assert_eq!(stream.ended(refused).await.0, Reason::Deleted, "a sandbox of an older epoch can be deleted");
}

#[tokio::test]
async fn a_control_plane_of_an_older_epoch_is_refused() {
    let mut newer = ControlPlane::start_at(service::ANY_LOOPBACK, 5).await;
    let commanded = model::SandboxId::new(model::Epoch(4), 1).unwrap();
    let create = vec![wire::CreateSandbox { sandbox: commanded.to_wire(), node: 0, revision: 5 }];
    let greeting = wire::ToWorker { functions: vec![revision("x")], create, ..wire::ToWorker::default() };
    let mut older = ControlPlane::start_with(service::ANY_LOOPBACK, 4, greeting).await;
    let worker = Worker::start(&[newer.address, older.address], |config| hollow(config, NO_DELAY)).await;
    let mut stream = newer.worker().await;
    let sandbox = stream.create(1, revision("anything"));
    stream.ready(sandbox).await;
    drop((stream, newer));
    let mut refused = older.worker().await;
    assert_eq!(refused.hello.epoch, 5);
    refused.closed().await;
    let (_, held) = worker.page("/v1/sandboxes").await;
    assert!(held.contains(&sandbox.to_string()) && !held.contains(&commanded.to_string()), "{held}");
    assert_eq!(worker.page("/readyz").await.0, 503);
}

#[tokio::test]
async fn a_sandbox_id_of_an_older_epoch_is_refused() {
    let mut control_plane = ControlPlane::start_at(service::ANY_LOOPBACK, 5).await;
    let _worker = Worker::start(&[control_plane.address], |config| hollow(config, NO_DELAY)).await;
    let mut stream = control_plane.worker().await;
    let old = model::SandboxId::new(model::Epoch(4), 1).unwrap();
    let create = wire::CreateSandbox { sandbox: old.to_wire(), node: 0, revision: 5 };
    let batch = wire::ToWorker { functions: vec![revision("x")], create: vec![create], ..wire::ToWorker::default() };
    stream.send(batch);
    let failed = stream.failed(old).await;
    assert!(failed.message.contains("epoch 4") && !failed.permanent, "{failed:?}");
}

#[tokio::test]
async fn heartbeats_start_at_once_and_continue() {
    let mut control_plane = ControlPlane::start().await;
    let _worker = Worker::start(&[control_plane.address], |config| hollow(config, NO_DELAY)).await;
    let _stream = control_plane.worker().await;
    tokio::time::timeout(sim::WAIT_TIMEOUT, control_plane.heartbeats.wait_for(|count| *count >= 10))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn the_admin_api_shows_sandboxes_and_metrics() {
    let mut control_plane = ControlPlane::start().await;
    let worker = Worker::start(&[control_plane.address], |config| hollow(config, NO_DELAY)).await;
    assert_eq!(worker.page("/healthz").await, (200, "ok\n".to_owned()));
    let mut stream = control_plane.worker().await;
    let sandbox = stream.create(1, revision("anything"));
    let (address, _) = stream.ready(sandbox).await;
    let held: serde_json::Value = serde_json::from_str(&worker.page("/v1/sandboxes").await.1).unwrap();
    let expected = serde_json::json!([{ "sandbox": "1-1", "function": "f", "revision": 5, "node": 0,
        "state": "ready", "address": address.to_string() }]);
    assert_eq!(held, expected);
    let (_, metrics) = worker.page("/metrics").await;
    for line in [
        r#"dirigent_worker_creations_total{outcome="ready"} 1"#,
        r#"dirigent_worker_creations_total{outcome="failed"} 0"#,
        r#"dirigent_worker_sandboxes{state="ready"} 1"#,
        "dirigent_worker_creation_seconds_count 1",
    ] {
        assert!(metrics.contains(line), "expected {line} in\n{metrics}");
    }
    assert_eq!(worker.page("/v1/sandboxes/1-1/logs").await, (200, String::new()));
    assert_eq!(worker.page("/v1/sandboxes/1-2/logs").await.0, 404);
    assert_eq!(worker.page("/v1/sandboxes/garbage/logs").await.0, 400);
}

#[tokio::test]
async fn shutting_down_ends_every_sandbox_and_reports_that() {
    let mut control_plane = ControlPlane::start().await;
    let worker = Worker::start(&[control_plane.address], |config| hollow(config, NO_DELAY)).await;
    let mut stream = control_plane.worker().await;
    let sandbox = stream.create(1, revision("anything"));
    let (address, _) = stream.ready(sandbox).await;
    worker.end().await;
    assert_eq!(stream.ended(sandbox).await.0, Reason::Stopped);
    assert!(get(address, "/", "").await.is_err());
}

#[tokio::test]
async fn an_admin_port_in_use_and_an_invalid_configuration_are_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _holder = std::net::TcpListener::bind(taken).unwrap();
    let config = worker::Config { admin: taken, ..worker::Config::default() };
    let error =
        worker::Service::start(config, std::sync::Arc::new(service::OsNetwork)).await.err().unwrap().to_string();
    assert!(error.contains(&taken.to_string()), "{error}");
    let config = worker::Config { control_planes: vec![], ..worker::Config::default() };
    let error =
        worker::Service::start(config, std::sync::Arc::new(service::OsNetwork)).await.err().unwrap().to_string();
    assert!(error.contains("control_planes"), "{error}");
}

/// Thousands of creations and deletions. `--nocapture` prints the cost; the bound is far above it and catches only
/// what grows with the number of sandboxes.
#[tokio::test]
async fn thousands_of_creations_need_little_cpu() {
    const COUNT: u64 = 5000;
    let mut control_plane = ControlPlane::start().await;
    let worker = Worker::start(&[control_plane.address], |config| hollow(config, NO_DELAY)).await;
    let mut stream = control_plane.worker().await;
    let (began, before) = (Instant::now(), process_cpu());
    let ids: Vec<_> = (0..COUNT).map(|sequence| stream.id(sequence)).collect();
    stream.send(wire::ToWorker { functions: vec![revision("x")], ..wire::ToWorker::default() });
    for chunk in ids.chunks(50) {
        let create = chunk.iter().map(|id| wire::CreateSandbox { sandbox: id.to_wire(), node: 1, revision: 5 });
        stream.send(wire::ToWorker { create: create.collect(), ..wire::ToWorker::default() });
    }
    let mut addresses = std::collections::BTreeSet::new();
    for _ in 0..COUNT {
        let (id, event) = stream.outcome().await;
        let wire::sandbox_event::Event::Ready(ready) = event else { panic!("{id}: {event:?}") };
        assert!(addresses.insert(ready.address.clone()), "{} twice", ready.address);
    }
    for chunk in ids.chunks(50) {
        let delete = chunk.iter().map(|id| id.to_wire()).collect();
        stream.send(wire::ToWorker { delete, ..wire::ToWorker::default() });
    }
    for _ in 0..COUNT {
        stream.outcome().await;
    }
    let cpu_us = (process_cpu() - before).as_micros() / u128::from(COUNT);
    println!("{COUNT} creations and deletions: {:?}, {cpu_us} CPU-µs each, both sides", began.elapsed());
    assert!(cpu_us < 1000, "{cpu_us} CPU-µs for one creation and deletion");
    until("no sandbox is left", async || worker.page("/v1/sandboxes").await.1 == "[]").await;
}

fn process_cpu() -> Duration {
    Duration::from(nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap())
}
