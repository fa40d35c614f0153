//! What is said and done at a real cluster, where a mock would say what its author believes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod program;

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use program::{Running, Scratch, run};
use serde_json::Value;

/// Longest wait for a cluster of this machine to listen; far above what it takes on a busy one.
const DEADLINE: Duration = Duration::from_secs(30);

/// A cluster of modelled sandboxes without functions.
struct Cluster {
    _child: Running,
    scratch: Scratch,
}

impl Cluster {
    fn start() -> Self {
        let scratch = Scratch::new();
        let mut command = Command::new(programs::path("dirigent").unwrap_or_else(|error| panic!("{error}")));
        command.args(["up", "--workers", "1", "--runtime", "hollow", "--no-auth", "--data-dir", &scratch.path("up")]);
        for port in ["--stream-port", "--http-port", "--invoke-port", "--admin-port", "--worker-port"] {
            command.args([port, "0"]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let cluster = Self { _child: Running(child), scratch };
        let begun = Instant::now();
        while cluster.ports("up").is_none() || cluster.ports("up/worker-1").is_none() {
            assert!(begun.elapsed() < DEADLINE, "expected the ports of a cluster and its worker within {DEADLINE:?}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        cluster
    }

    /// What a part says of its ports, once it does.
    fn ports(&self, folder: &str) -> Option<Value> {
        let text = fs::read_to_string(self.scratch.path(&format!("{folder}/ports.json"))).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Every port: its purpose, its address, and who answers there.
    fn all(&self) -> [(&'static str, String, &'static str); 5] {
        let of = |folder: &str, purpose: &str| self.ports(folder).unwrap()[purpose].as_str().unwrap().to_owned();
        [
            ("stream", of("up", "stream"), "like a control plane's port for data planes and workers, answers there"),
            ("http", of("up", "http"), "a control plane's port for operators answers there"),
            ("invoke", of("up", "invoke"), "a data plane's port for invocations answers there"),
            ("admin", of("up", "admin"), "a data plane's admin port answers there"),
            ("worker", of("up/worker-1", "admin"), "a worker's admin port answers there"),
        ]
    }
}

#[test]
fn the_port_of_another_purpose_is_recognised() {
    let cluster = Cluster::start();
    let from = cluster.scratch.path("functions.ndjson");
    fs::write(&from, "{\"name\":\"f\",\"image\":\"builtin:function\"}\n").unwrap();
    let rate = ["run", "--rate", "20", "--duration", "200ms", "--timeout", "5s", "--realtime", "off", "--overwrite"];
    let out = ["--out", &cluster.scratch.path("out")];
    let invoke = cluster.all().into_iter().find(|(purpose, ..)| *purpose == "invoke").unwrap().1;
    let there = ["--address", invoke.as_str()];
    let calls = [
        ("--control-plane", "http", 1, vec!["register", "--from", &from]),
        ("--register", "http", 1, [&rate[..], &out, &there].concat()),
        ("--address", "invoke", 3, [&rate[..], &out].concat()),
        ("--address", "invoke", 3, [&rate[..], &out, &["--protocol", "h2c"]].concat()),
    ];
    for (option, right, code, call) in calls {
        for (purpose, address, answers) in cluster.all() {
            let (found, printed, errors) = run(&[&call[..], &[option, &address]].concat());
            let said = printed + &errors;
            let wants = match right {
                "http" => format!("{option} wants a control plane's port for operators"),
                _ => format!("{option} wants a data plane's port for invocations"),
            };
            if purpose == right {
                assert!(!said.contains("answers there"), "{call:?} at {purpose}: {said}");
                continue;
            }
            assert_eq!(found, code, "{call:?} at {purpose}: {said}");
            assert!(said.contains(&format!("{answers}; {wants}")), "{call:?} at {purpose}: expected {answers}: {said}");
            assert!(said.contains(&format!("{address}: ")), "{call:?} at {purpose}: {said}");
        }
    }
}
