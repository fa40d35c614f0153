//! The real system, load generator and analysis: a few seconds of a synthetic trace from start to report.

use std::{fs, path::Path};

use record::{ExitState, Invariant, InvocationReader, NodeUsage, Outcome, RunDir, read_table};

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

/// Cold starts at a constant rate, and the same load through the copying proxy, which knows no cold starts.
const SWEEP: &str = r#"
id = "short"
question = "Is every invocation at a constant rate a cold start?"
systems = ["dirigent", "floor"]
[load]
kind = "rate"
seconds = 5
warmup = "1s"
cooldown = "5s"
connections = 2
timeout = "10s"
[vary]
load.rate = [10, 20]
[function]
image = "builtin:function"
scale = { max = 1, keep_alive = "1s", stable_window = "1s" }
[sandbox]
runtime = "hollow"
mode = "sleep"
delay = "20ms"
workers = 1
cpu = "16"
memory = "64GiB"
[expect]
failed_share_max = 0.0
[scales.laptop]
"#;

/// Rules that depend on timing, which a machine that runs other tests at the same time cannot keep.
const TIMING: [&str; 4] = [
    "lag p99 within max(1 ms, 2 % of median latency)",
    "at least 99.5 % were sent",
    "the load generator did not stop",
    "responses were read in time",
];

/// Systems with a rule that cannot be judged for them, by the beginning of its name: the floor has no cold starts, and
/// rows of the baseline have no phases, and nothing says since when its activator could use a pod.
const UNJUDGED: [(&str, &str); 3] = [("floor", ""), ("knative", "phases "), ("knative", "cold rows arrived before")];

/// The systems of this checkout.
fn systems() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("systems.toml")).unwrap()
}

/// Runs a definition from start to report, and judges the run: nothing may be wrong that does not depend on timing.
pub(crate) fn run_and_check(definition: &str, options: &[&str], of_systems: &[&str]) -> (tempfile::TempDir, RunDir) {
    run_and_check_with(&systems(), definition, options, of_systems)
}

fn run_and_check_with(
    systems: &str,
    definition: &str,
    options: &[&str],
    of_systems: &[&str],
) -> (tempfile::TempDir, RunDir) {
    let checkout = tempfile::tempdir().unwrap();
    fs::create_dir_all(checkout.path().join("experiments/definitions")).unwrap();
    fs::write(checkout.path().join("experiments/systems.toml"), systems).unwrap();
    fs::write(checkout.path().join("experiments/definitions/short.toml"), definition).unwrap();
    let programs = of_systems.iter().chain(&["loadgen", "analysis"]).map(|name| programs::path(name).unwrap());
    let programs: Vec<_> = programs.collect();
    let bin = programs[0].parent().unwrap().to_str().unwrap();
    let out = checkout.path().join("out");
    let repro = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_repro"));
        command.args(arguments).arg("--checkout").arg(checkout.path()).output().unwrap()
    };
    let out_text = out.to_str().unwrap();
    let output = repro(&[&["run", "short", "--out", out_text, "--programs", bin], options].concat());
    let printed = said(&output);
    assert!(matches!(output.status.code(), Some(0 | 3)), "{printed}");
    let checked = repro(&["verify", out_text, "--all", "--format", "json"]);
    let invariants: serde_json::Value = serde_json::from_slice(&checked.stdout).expect("verify prints JSON");
    for one in invariants.as_array().unwrap() {
        let rule = one["invariant"].as_str().unwrap();
        let of = one["where"].as_str().unwrap();
        let unjudged = UNJUDGED.iter().any(|(system, rules)| of.starts_with(system) && rule.starts_with(rules));
        // Who else uses the machine is its own affair: on which side of a bound a share lies may stay open, never the share.
        let share_is_known = Invariant::NOISE.contains(&rule) && one["found"].as_str().unwrap().contains('%');
        let fine = match one["outcome"].as_str().unwrap() {
            "held" | "marked" => true,
            "not measured" => unjudged || share_is_known,
            _ => TIMING.contains(&rule),
        };
        assert!(fine, "{one:#}\n{printed}");
    }
    let run = RunDir(out.clone());
    assert!(matches!(run.read_manifest().unwrap().exit, ExitState::Done | ExitState::Invalid));
    assert!(run.summary().exists() && run.report().join("index.html").exists(), "the analysis leaves its report");
    assert_no_process_of(checkout.path());
    (checkout, run)
}

fn run(runtime: &str) {
    let (_checkout, run) = run_and_check(DEFINITION, &["--runtime", runtime], &["dirigent", "trace-function"]);
    let point = run.point("dirigent", "replay", 1);
    let rows: Vec<_> = InvocationReader::open(&point.invocations()).unwrap().map(Result::unwrap).collect();
    assert!(!rows.is_empty() && rows.iter().all(|row| row.outcome == Outcome::Ok), "every invocation is answered");
    assert!(rows.iter().any(|row| row.cold == Some(1)), "the first invocation of a function is a cold start");
    let nodes: Vec<NodeUsage> = read_table(&point.nodes()).unwrap();
    assert_eq!(nodes.len(), if runtime == "hollow" { 6 } else { 2 });
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
fn a_sweep_with_two_systems() {
    let (_checkout, run) = run_and_check(SWEEP, &[], &["dirigent", "trace-function"]);
    let summary: record::Summary = record::read_json(&run.summary()).unwrap();
    let places: Vec<_> = summary.rates.iter().map(|rate| (rate.system.as_str(), rate.point.as_str())).collect();
    let expected = [("dirigent", "rate-10"), ("floor", "rate-10"), ("dirigent", "rate-20"), ("floor", "rate-20")];
    assert_eq!(places, expected);
    for rate in &summary.rates {
        let cold = rate.cold_percent.map(|cold| cold.median);
        let of_dirigent = rate.system == "dirigent";
        // A machine that is busy with other tests may delay the end of a sandbox, never its beginning.
        assert!(cold.is_some() == of_dirigent && cold.is_none_or(|cold| cold > 50.0), "{rate:?}");
        assert!(rate.system_cpu_us.is_some() && rate.machine_cpu_us.is_some(), "{rate:?}");
    }
    let row = InvocationReader::open(&run.point("dirigent", "rate-20", 1).invocations()).unwrap().next();
    assert_eq!(row.unwrap().unwrap().outcome, Outcome::Ok);
}

#[test]
fn hollow_sandboxes() {
    run("hollow");
}

#[test]
fn process_sandboxes() {
    run("process");
}

/// Registers while the data plane stands still. A registration that ends before the data plane goes on has not waited for it.
const REGISTER_UNHEARD: &str = r#"
pid=$(cat "$0/pid")
kill -STOP "$pid"
"$@" 2>"$0/said" & register=$!
until grep -qs 'waiting until every data plane' "$0/said" || ! kill -0 $register 2>/dev/null; do sleep 0.02; done
# Longer than the control plane itself waits before it answers a registration.
sleep 1.5
kill -0 $register 2>/dev/null && echo "it still waits" >> "$0/said"
kill -CONT "$pid"
wait $register; code=$?
cat "$0/said" >&2
exit $code
"#;

#[test]
fn load_starts_only_when_the_data_plane_knows_its_functions() {
    let register = r#""{bin}/loadgen", "register","#;
    let starts = r#"["{bin}/dirigent", "data-plane", "--config", "{dir}/data-plane.toml"]"#;
    let unheard = format!(r#""sh", "-c", '''{REGISTER_UNHEARD}''', "{{dirs.data-plane}}", {register}"#);
    let with_pid = r#"["sh", "-c", 'echo $$ > "$0/pid"; exec "$@"', "{dir}", "#.to_owned() + &starts[1..];
    let systems = systems();
    assert!(systems.contains(register) && systems.contains(starts), "the places to change");
    let systems = systems.replacen(register, &unheard, 1).replacen(starts, &with_pid, 1);
    let (_checkout, run) = run_and_check_with(&systems, DEFINITION, &[], &["dirigent", "trace-function"]);
    let point = run.point("dirigent", "replay", 1);
    let said = fs::read_to_string(point.logs().join("register.log")).unwrap();
    assert!(said.contains("it still waits"), "{said}");
    let rows: Vec<_> = InvocationReader::open(&point.invocations()).unwrap().map(Result::unwrap).collect();
    assert!(!rows.is_empty() && rows.iter().all(|row| row.outcome == Outcome::Ok), "{rows:?}");
}
