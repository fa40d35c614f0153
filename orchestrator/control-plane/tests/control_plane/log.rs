//! The command log grows with what there is, not with what has happened, and a restart finds everything as it was.

use std::{collections::BTreeMap, path::Path, time::Duration};

use api::wire;
use control_plane::{Command, RedbStore, Store};
use model::FunctionSpec;
use sim::{DataPlane, Worker};

use super::{Running, streams::first_creation};

/// A function's id, revision, memory and most sandboxes (0: no bound).
type Registered = (u64, u64, u64, u64);

impl Running {
    async fn put_all(&self, count: u64, memory: u64, most: u64) {
        let line = |index| {
            format!("{{\"name\":\"f{index}\",\"image\":\"any\",\"memory\":{memory},\"scale\":{{\"max\":{most}}}}}\n")
        };
        let (status, _) = self.request("POST", "/v1/functions", (0..count).map(line).collect::<String>()).await;
        assert_eq!(status, 200);
    }

    async fn registered(&self) -> BTreeMap<String, Registered> {
        let list = self.json("/v1/functions?limit=10000").await;
        let functions = list["functions"].as_array().unwrap().iter();
        let view = |function: &serde_json::Value| {
            let of = |value: &serde_json::Value| value.as_u64().unwrap_or(0);
            let spec = &function["spec"];
            let seen = (of(&function["id"]), of(&function["revision"]), of(&spec["memory"]), of(&spec["scale"]["max"]));
            (spec["name"].as_str().unwrap().to_owned(), seen)
        };
        functions.map(view).collect()
    }

    async fn metric(&self, name: &str) -> u64 {
        let (_, text) = self.request("GET", "/metrics", "").await;
        let text = String::from_utf8(text.to_vec()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("dirigent_control_plane_{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }
}

#[tokio::test]
async fn the_log_stays_small_and_every_function_keeps_its_id_and_revision() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    for (memory, most) in [(64, 1), (65, 1), (65, 2), (66, 2), (64, 2), (64, 3)] {
        running.put_all(2000, memory, most).await;
    }
    for index in 0..100 {
        assert_eq!(running.request("DELETE", &format!("/v1/functions/f{index}"), "").await.0, 202);
    }
    running.put("f0", r#"{"image":"any"}"#).await;
    let before = running.registered().await;
    assert_eq!(before.len(), 1901);
    let updated = before["f100"];
    assert!(updated.0 <= 2000 && updated.1 > 8000 && (updated.2, updated.3) == (64, 3), "{updated:?}");
    assert_eq!(running.metric("commands_total").await, 12_101);
    assert_eq!(running.metric("log_compactions_total").await, 1, "12,101 commands for 2,000 functions are too many");
    assert!(running.metric("log_entries").await < 5000, "{} entries", running.metric("log_entries").await);
    running.stop().await;

    for round in 0..2 {
        let running = Running::start(dir.path()).await;
        assert_eq!(running.registered().await, before, "round {round}");
        assert!(running.metric("log_entries").await < 1910, "{} entries", running.metric("log_entries").await);
        running.stop().await;
    }
    let running = Running::start(dir.path()).await;
    assert_eq!(running.put("f1", r#"{"image":"any"}"#).await, 201);
    let anew = running.registered().await["f1"];
    assert!(anew.0 > 12_101, "an index is not used again: {anew:?}");
    running.stop().await;
}

/// A log written by a program without the bounds of this one has these functions.
async fn write_log(dir: &Path, specs: Vec<FunctionSpec>) {
    let commands = specs.into_iter().map(|spec| Command::PutFunction { spec: Box::new(spec) }).collect();
    RedbStore::open(dir).unwrap().append(commands).await.unwrap();
}

fn spec(name: &str) -> FunctionSpec {
    FunctionSpec { memory: 64, ..FunctionSpec::new(name.parse().unwrap(), "any") }
}

#[tokio::test]
async fn a_specification_of_the_log_beyond_a_bound_is_readable_and_sent_to_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = FunctionSpec { args: vec!["x".repeat(2 * 1024 * 1024)], ..spec("arguments") };
    let mut window = spec("window");
    window.scale.stable_window = Duration::MAX;
    let long = FunctionSpec { balance: Some("x".repeat(2 * 1024 * 1024)), timeout: Duration::MAX, ..spec("long") };
    let mut good = spec("good");
    // Taken before it was reserved.
    good.env.insert("PORT".to_owned(), "80".to_owned());
    write_log(dir.path(), vec![arguments, good, window, long]).await;
    let running = Running::start(dir.path()).await;
    let mut data_plane = DataPlane::connect(&running.stream, DataPlane::hello("d")).await.unwrap();
    let mut worker = Worker::connect(&running.stream, Worker::hello("w")).await.unwrap();
    let longest = api::MAX_LATER_MESSAGE_BYTES;
    loop {
        let message = data_plane.read().await;
        assert!(prost::Message::encoded_len(&message) <= longest);
        if message.snapshot_end {
            break;
        }
    }
    for (name, field) in [("arguments", "args"), ("window", "scale.stable_window"), ("long", "timeout")] {
        data_plane.demand(data_plane.id_of(name), 1, 0).await;
        let about = |message: &wire::ToDataPlane| {
            let mut problems = message.problems.iter();
            problems.find(|problem| problem.message.starts_with(&format!("{field}: expected at most"))).cloned()
        };
        let problem = data_plane.read_until(about).await;
        assert!(problem.permanent && problem.function == data_plane.id_of(name), "{problem:?}");
        let seen = running.json(&format!("/v1/functions/{name}")).await;
        let error = seen["last_error"].as_str().unwrap();
        assert!(error.starts_with(field) && error.contains("register the function again"), "{error}");
    }
    // Whatever would have been made is commanded by now.
    let good = data_plane.id_of("good");
    data_plane.demand(good, 1, 0).await;
    let mut described = Vec::new();
    while described.is_empty() {
        described = worker.read().await.functions;
    }
    assert_eq!(described.iter().map(|known| known.name.as_str()).collect::<Vec<_>>(), ["good"]);
    let registered = running.request("PUT", "/v1/functions/window", r#"{"image":"any","memory":64}"#);
    let named = |message: &wire::ToDataPlane| (!message.functions.is_empty()).then_some(());
    let (registered, ()) = tokio::join!(registered, data_plane.read_until(named));
    assert_eq!(registered.0, 200);
    worker.heartbeat(&running.stream).await;
    data_plane.demand(data_plane.id_of("window"), 1, 0).await;
    worker.read_until(first_creation).await;
    assert_eq!(running.json("/v1/functions/window").await["last_error"], serde_json::Value::Null);
    running.stop().await;
}
