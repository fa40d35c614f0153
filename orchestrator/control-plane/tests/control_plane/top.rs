//! What `/v1/top` and `/metrics` say after a cold start and after a failure.

use api::wire::{self, sandbox_event::Event};
use serde_json::Value;
use sim::{DataPlane, Worker};

use super::{
    Running,
    streams::{data_plane_with, first_creation, first_endpoint},
};

/// The line of a metric, labels included, as a number.
async fn metric(running: &Running, name: &str) -> Option<f64> {
    let (_, text) = running.request("GET", "/metrics", "").await;
    let text = String::from_utf8(text.to_vec()).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

async fn sample(data_plane: &DataPlane, sample: wire::Sample) {
    data_plane.send(wire::FromDataPlane { samples: vec![sample], ..Default::default() }).await;
}

fn phase<'a>(top: &'a Value, name: &str) -> &'a Value {
    let phases = top["phases"].as_array().unwrap();
    phases.iter().find(|phase| phase["phase"] == name).unwrap_or_else(|| panic!("no phase {name} in {top}"))
}

#[tokio::test]
async fn a_cold_start_is_counted_by_function_and_by_phase() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let (mut data_plane, function) = data_plane_with(&running, "f").await;
    let mut worker = Worker::connect(&running.stream, Worker::hello("w")).await.unwrap();
    let before = running.json("/v1/top").await;
    assert_eq!(before["functions"][0]["name"], "f", "a function that did nothing is shown while there is room");
    data_plane.demand(function, 1, 0).await;
    let create = worker.read_until(first_creation).await;
    worker.ready(create.sandbox).await;
    data_plane.read_until(first_endpoint).await;
    let busy =
        wire::Sample { function, span_ms: 1000, requests: 3, cold: 1, running: 1, peak: 1, ..Default::default() };
    sample(&data_plane, busy).await;

    let counted = |top: &Value| top["functions"][0]["invocations"] == 3 && phase(top, "net_dataplane")["count"] == 1;
    let top = running.wait_for("/v1/top?limit=5", counted).await;
    let row = &top["functions"][0];
    assert_eq!(
        (&row["invocations_cold"], &row["creations"], &row["creations_failed"]),
        (&1.into(), &1.into(), &0.into())
    );
    assert_eq!((&row["ready"], &row["starting"], &row["running"]), (&1.into(), &0.into(), &1.into()));
    assert!(top["at_us"].as_u64() > before["at_us"].as_u64(), "{top}");
    let node = &top["nodes"][0];
    assert_eq!((&node["name"], &node["state"], &node["sandboxes"]), (&"w-node".into(), &"ready".into(), &1.into()));
    assert!(node["reserved_share"].as_f64().is_some_and(|share| share > 0.0 && share <= 1.0), "{node}");
    let create_phase = phase(&top, "create");
    assert_eq!((&create_phase["count"], &create_phase["sum_us"]), (&1.into(), &5.into()));
    assert_eq!(create_phase["buckets"], serde_json::json!([{ "most_us": 5, "count": 1 }]));
    assert_eq!((&top["cluster"]["granted_slots"], &top["cluster"]["running"]), (&1.into(), &1.into()));

    for phase in ["decide", "place", "dispatch", "create", "ready", "publish", "net_worker", "net_dataplane"] {
        let name = format!("dirigent_control_plane_creation_phase_seconds_count{{phase=\"{phase}\"}}");
        assert_eq!(metric(&running, &name).await, Some(1.0), "{name}");
    }
    let gauges = [
        ("granted_slots", 1.0),
        ("running", 1.0),
        ("waiting", 0.0),
        ("nodes_dead", 0.0),
        ("functions_unschedulable", 0.0),
    ];
    for (level, expected) in gauges {
        let name = format!("dirigent_control_plane_{level}");
        assert_eq!(metric(&running, &name).await, Some(expected), "{name}");
    }
    let waits = metric(&running, "dirigent_control_plane_input_wait_seconds_count").await;
    assert!(waits.is_some_and(|waits| waits >= 3.0), "each message of a peer waited for the owner: {waits:?}");
    running.stop().await;
}

#[tokio::test]
async fn failures_are_counted_and_the_busiest_function_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let (mut data_plane, quiet) = data_plane_with(&running, "a-quiet").await;
    let register = running.put("z-busy", r#"{"image":"any"}"#);
    let (status, ()) = tokio::join!(register, async {
        data_plane.read_until(|message| (!message.functions.is_empty()).then_some(())).await;
    });
    assert_eq!(status, 201);
    let busy = data_plane.id_of("z-busy");
    let mut worker = Worker::connect(&running.stream, Worker::hello("w")).await.unwrap();
    data_plane.demand(quiet, 1, 0).await;
    let create = worker.read_until(first_creation).await;
    let failure = wire::CreationFailed { message: "no such image".to_owned(), permanent: false };
    worker.event(create.sandbox, Event::Failed(failure)).await;
    data_plane.demand(busy, 5, 0).await;

    let failed_and_busy = |top: &Value| {
        top["functions"][0]["waiting"] == 5 && top["functions"][1]["creations_failed"].as_u64() >= Some(1)
    };
    let top = running.wait_for("/v1/top", failed_and_busy).await;
    let names: Vec<_> = top["functions"].as_array().unwrap().iter().map(|function| &function["name"]).collect();
    assert_eq!(names, ["z-busy", "a-quiet"]);
    assert_eq!(top["functions"][1]["last_error"], "no such image");
    let one = running.json("/v1/top?limit=1").await;
    assert_eq!(one["functions"].as_array().unwrap().len(), 1);
    assert_eq!(running.request("GET", "/v1/top?limit=many", "").await.0, 400);
    let failed = metric(&running, "dirigent_control_plane_creations_ended_total{outcome=\"failed\"}").await;
    assert!(failed >= Some(1.0), "{failed:?}");
    assert_eq!(metric(&running, "dirigent_control_plane_waiting").await, Some(6.0));
    let (_, text) = running.request("GET", "/metrics", "").await;
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(!text.contains("z-busy") && !text.contains("a-quiet"), "no label is a function's name:\n{text}");
    running.stop().await;
}
