//! The real system, load generator and analysis: a few seconds of a synthetic trace from start to report.

use std::{fs, path::Path};

use record::{ExitState, InvocationReader, NodeUsage, Outcome, RunDir, read_table};

use crate::toy::said;

/// One "minute" of trace in eight seconds, so that the whole takes little longer.
const DEFINITION: &str = r#"
id = "short"
question = "Does all of it work together?"
systems = ["dirigent"]
[load]
minutes = 1
minute = "8s"
functions = 5
max_run = "200ms"
timeout = "20s"
[function]
image = "builtin:function"
cpu = 100
timeout = "20s"
[sandbox]
runtime = "hollow"
mode = "sleep"
delay = "20ms"
workers = 2
nodes = 3
cpu = "16"
memory = "64GiB"
[expect]
failed_share_max = 0.0
[scales.laptop]
[runtimes.process]
sandbox = { mode = "spin", nodes = 1 }
"#;

/// What a machine that runs other tests at the same time cannot be held to.
const TIMING: [&str; 2] = ["lag p99 within max(1 ms, 2 % of median latency)", "at least 99.5 % were sent"];

fn run(runtime: &str) {
    let checkout = tempfile::tempdir().unwrap();
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::create_dir_all(checkout.path().join("experiments/definitions")).unwrap();
    fs::copy(own.join("systems.toml"), checkout.path().join("experiments/systems.toml")).unwrap();
    fs::write(checkout.path().join("experiments/definitions/short.toml"), DEFINITION).unwrap();
    let programs = ["dirigent", "function", "loadgen", "analysis"].map(|name| programs::path(name).unwrap());
    let bin = programs[0].parent().unwrap().to_str().unwrap();
    let out = checkout.path().join("out");
    let repro = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_repro"));
        command.args(arguments).arg("--checkout").arg(checkout.path()).output().unwrap()
    };
    let out_text = out.to_str().unwrap();
    let output = repro(&["run", "short", "--runtime", runtime, "--out", out_text, "--programs", bin]);
    let told = said(&output);
    assert!(matches!(output.status.code(), Some(0 | 3)), "{told}");
    let judged = repro(&["verify", out_text, "--format", "json"]);
    let invariants: serde_json::Value = serde_json::from_slice(&judged.stdout).expect("verify prints JSON");
    for one in invariants.as_array().unwrap() {
        let rule = one["invariant"].as_str().unwrap();
        let fine = ["held", "marked"].contains(&one["verdict"].as_str().unwrap()) || TIMING.contains(&rule);
        assert!(fine, "{one:#}\n{told}");
    }
    let run = RunDir(out.clone());
    assert!(matches!(run.read_manifest().unwrap().exit, ExitState::Done | ExitState::Invalid));
    assert!(run.summary().exists() && run.report().join("index.html").exists(), "the analysis leaves its report");
    let point = run.point("dirigent", "replay", 1);
    let rows: Vec<_> = InvocationReader::open(&point.invocations()).unwrap().map(Result::unwrap).collect();
    assert!(!rows.is_empty() && rows.iter().all(|row| row.outcome == Outcome::Ok), "every invocation is answered");
    assert!(rows.iter().any(|row| row.cold == Some(1)), "the first invocation of a function is a cold start");
    let nodes: Vec<NodeUsage> = read_table(&point.nodes()).unwrap();
    assert_eq!(nodes.len(), if runtime == "hollow" { 6 } else { 2 });
    assert_no_process_of(checkout.path());
}

/// No process has the checkout in its command line: daemons are started with files in it.
fn assert_no_process_of(checkout: &Path) {
    let place = checkout.to_str().unwrap();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        assert!(!command.contains(place), "{command:?} is left running");
    }
}

#[test]
fn hollow_sandboxes() {
    run("hollow");
}

#[test]
fn process_sandboxes() {
    run("process");
}
