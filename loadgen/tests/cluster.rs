//! Tests with a real cluster, as a mock would respond as its author believes.
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

    /// The ports that a component announces, once it does.
    fn ports(&self, folder: &str) -> Option<Value> {
        let text = fs::read_to_string(self.scratch.path(&format!("{folder}/ports.json"))).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// The address for one purpose of the cluster itself.
    fn address(&self, purpose: &str) -> String {
        self.ports("up").unwrap()[purpose].as_str().unwrap().to_owned()
    }

    /// Every port: its purpose, its address, and who answers there.
    fn all(&self) -> [(&'static str, String, &'static str); 5] {
        let worker = self.ports("up/worker-1").unwrap()["admin"].as_str().unwrap().to_owned();
        let of_streams = "like a control plane's port for data planes and workers, answers there";
        [
            ("stream", self.address("stream"), of_streams),
            ("http", self.address("http"), "a control plane's port for operators answers there"),
            ("invoke", self.address("invoke"), "a data plane's port for invocations answers there"),
            ("admin", self.address("admin"), "a data plane's admin port answers there"),
            ("worker", worker, "a worker's admin port answers there"),
        ]
    }
}

/// Standard output of a client of the cluster's, which must succeed.
fn dirigent(arguments: &[&str]) -> String {
    let output = Command::new(programs::path("dirigent").unwrap()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_file_of_functions_is_read_alike_by_both_programs_that_register() {
    let cluster = Cluster::start();
    let (from, http) = (cluster.scratch.path("functions.ndjson"), cluster.address("http"));
    let there = ["--from", &from, "--control-plane", &http];
    // A byte order mark; wrong for both; wrong in a field that only the control plane, or `dirigent`, knows; twice.
    let text = "\u{feff}{\"name\":\"X-1\",\"image\":\"i\"}\r\n\n{\"name\":\"X-2\"}\n{\"name\":\"X-3\",\"image\":\"i\",\"retry\":1}\n\
                {\"name\":\"X-1\",\"image\":\"i\"}\n{\"name\":\"X-4\",\"image\":\"i\",\"scale\":{\"max\":2}}";
    let nothing = "{\"name\":\"X-9\"}\n";
    let of = |name: &str, text: &str| fs::write(&from, text.replace('X', name)).unwrap();
    let by_loadgen = |text: &str| {
        of("l", text);
        run(&[&["register"][..], &there].concat()).0
    };
    let by_dirigent = |text: &str| {
        of("d", text);
        let mut command = Command::new(programs::path("dirigent").unwrap());
        command.args([&["function", "register"][..], &there].concat()).output().unwrap().status.code().unwrap()
    };
    assert_eq!((by_loadgen(text), by_dirigent(text)), (1, 1));
    assert_eq!((by_loadgen(nothing), by_dirigent(nothing)), (2, 2));
    let listed = dirigent(&["function", "list", "--format", "csv", "--control-plane", &http]);
    let names: Vec<&str> = listed.lines().skip(1).map(|row| row.split(',').next().unwrap()).collect();
    assert_eq!(names, ["d-1", "d-4", "l-1", "l-4"], "{listed}");
}

#[test]
fn the_port_of_another_purpose_is_recognised() {
    let cluster = Cluster::start();
    let from = cluster.scratch.path("functions.ndjson");
    fs::write(&from, "{\"name\":\"f\",\"image\":\"builtin:function\"}\n").unwrap();
    let rate = ["run", "--rate", "20", "--duration", "200ms", "--timeout", "5s", "--realtime", "off", "--overwrite"];
    let directory = cluster.scratch.path("out");
    let out = ["--out", directory.as_str()];
    let invoke = cluster.address("invoke");
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
