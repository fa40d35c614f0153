//! A toy checkout: a system, a load generator and an analysis made of shell scripts, and what they should leave.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use experiments::machine::proc::Stat;
use record::{ExitState, Invocation, InvocationWriter, Manifest, Outcome, Phase, PointDir, RunDir};
use tempfile::TempDir;

/// Longest time anything here may take.
const DEADLINE: Duration = Duration::from_secs(60);

const SYSTEMS: &str = r#"
[toy]
about = "a toy"
version = ["{bin}/toyd", "--version"]
images = { "builtin:function" = "toy-image" }
register = { command = ["cp", "{functions}", "{dirs.toy-1}/registered"] }
invoke = { target = "toy", address = "{ports.toy-1.http}" }
harvest = { coldstarts = "{dirs.toy-1}/coldstarts.csv", files = ["{dirs.toy-1}/registered"] }
stop = { grace_period = "1s" }
[[toy.start]]
name = "toy"
count = "{sandbox.workers}"
command = ["{bin}/toyd", "{dir}", "{sandbox.mode}"]
files = { "toy.toml" = "number = {number}\nlimits = { nodes = {sandbox.nodes} }\n" }
ports = "ports.json"
ready = [{ file = "{dir}/up" }, { command = ["test", "-e", "{dir}/toy.toml"] }]
timeout = "2s"
"#;

const DEFINITION: &str = r#"
id = "toy"
question = "Does it start and stop?"
systems = ["toy"]
load = { minutes = 1, warmup = "0s", timeout = "1s" }
function = { cpu = 500 }
sandbox = { runtime = "toy", mode = "sleep", workers = 2, nodes = 3, cpu = "1", memory = "1GiB" }
expect = { failed_share_max = 0.0 }
[scales.laptop]
[quick]
repetitions = 2
"#;

/// Two rates and one point of its own, in the same toy system.
const SWEEP: &str = r#"
id = "sweep"
question = "At which rate does it start and stop?"
systems = ["toy"]
load = { kind = "rate", seconds = 2, functions = 1, timeout = "1s" }
function = { cpu = 500 }
sandbox = { runtime = "toy", mode = "sleep", workers = 2, nodes = 3, cpu = "1", memory = "1GiB" }
[vary]
load.rate = [2, 4]
[[points]]
name = "quiet"
load.rate = 1
sandbox.nodes = 5
[scales.laptop]
"#;

/// A daemon with one child. What it does is in the file `behaviour` beside it.
const DAEMON: &str = r#"#!/bin/sh
bin=$(dirname "$0")
if [ "$1" = --version ]; then echo "toyd 1.0"; exit 0; fi
echo $$ >> "$bin/pids"
behaviour=$(cat "$bin/behaviour")
case $behaviour in
    fails) echo "cannot bind: no such luck" >&2; for frame in $(seq 20); do echo "at frame $frame" >&2; done; exit 1 ;;
    never-ready) echo "still thinking"; exec sleep 1000 ;;
esac
sleep 1000 &
child=$!
echo $child >> "$bin/pids"
case $behaviour in
    leaks) trap 'exit 0' TERM ;;
    ignores) trap '' TERM ;;
    spoils) trap 'kill $child; echo "the disk is full" >&2; exit 5' TERM ;;
    *) trap 'kill $child; exit 0' TERM ;;
esac
echo '{"http":"127.0.0.1:1234"}' > "$1/ports.tmp"
mv "$1/ports.tmp" "$1/ports.json"
touch "$1/up"
if [ "$behaviour" = dies ]; then
    while [ ! -e "$bin/loading" ]; do sleep 0.05; done
    kill $child
    exit 7
fi
while :; do wait $child || :; [ -e "/proc/$child" ] || break; done
"#;

/// Writes the prepared schedule with its seed, or "replays" it for a while and leaves the prepared rows; in the folder
/// that the file `fails-at` names, if there is one, it leaves rows and fails. A shell cannot trap what was
/// ignored when it began, as SIGINT is below a test run in the background.
const LOADGEN: &str = r#"#!/usr/bin/env -S --default-signal=INT sh
bin=$(dirname "$0")
verb=$1
# As it registers functions, it does what a test's systems table says.
if [ "$verb" = register ]; then shift; exec "$@"; fi
while [ $# -gt 0 ]; do
    case $1 in
        --out) out=$2 ;;
        --functions-out) functions=$2 ;;
        --address) address=$2 ;;
        --seed) seed=$2 ;;
        --schedule) schedule=$2 ;;
    esac
    shift
done
if [ "$verb" = schedule ]; then
    sed "s/^format,x/format,x\nseed,$seed/" "$bin/schedule.csv" > "$out"
    cp "$bin/functions.ndjson" "$functions"
    exit 0
fi
echo $$ >> "$bin/pids"
if [ -e "$bin/fails-at" ] && [ "$out" = "$(cat "$bin/fails-at")" ]; then
    cp "$bin/invocations.csv.zst" "$out/invocations.csv.zst"
    exit 1
fi
[ "$address" = 127.0.0.1:1234 ] || { echo "wrong address $address" >&2; exit 1; }
started=$(date +%s%N)
finish() {
    cp "$bin/invocations.csv.zst" "$out/invocations.csv.zst"
    sha=$(sha256sum "$schedule" | cut -d' ' -f1)
    sed "s/\"STARTED\"/$started/; s/\"INTERRUPTED\"/$1/; s/SHA/$sha/" "$bin/loadgen.json" > "$out/loadgen.json"
    echo "function,sandbox,node,requested_ns,decide_us,place_us,dispatch_us,create_us,ready_us,publish_us,net_worker_us,net_dataplane_us,outcome,create_steps
f,1-1,n,$((started + 1500000)),1,1,1,3000,1,1,1,1,ready," > "$out/data/toy-1/coldstarts.csv"
}
trap 'kill $sleeper; finish true; exit 1' INT
trap 'kill $sleeper; exit 1' TERM
[ "$(cat "$bin/behaviour")" = long ] && length=1000 || length=2.2
sleep $length &
sleeper=$!
echo $sleeper >> "$bin/pids"
touch "$bin/loading"
wait $sleeper
finish false
"#;

/// Says what it was given, and how the run had ended by then; leaves the prepared claims, if there are any.
const ANALYSIS: &str = r#"#!/bin/sh
[ "$2" != --help ] || exit 0
[ $# = 2 ] || { echo "error: unexpected argument '$3'" >&2; exit 2; }
echo "analysed $(basename "$2")" "$(grep '"exit"' "$2/manifest.json")"
[ ! -e "$(dirname "$0")/claims.json" ] || cp "$(dirname "$0")/claims.json" "$2/claims.json"
echo "analysed after broken: $(grep -A1 '"weight": "validity"' "$2/invariants.json" | grep -c '"not held"')"
[ "$(cat "$(dirname "$0")/behaviour")" != dies ] || exit 3
"#;

const LOAD_SUMMARY: &str = r#"{"schema_version":1,"started_unix_ns":"STARTED","schedule_sha256":"SHA","seed":1,
"scheduled":3,"sent":3,"outcomes":{"ok":3},"cold":1,"span_ns":2000000000,"lag":{"p50_ns":1,"p99_ns":1,"max_ns":1},
"lag_bound_ns":1000000,"latency_p50_ns":1,"latency_p99_ns":1,"cpu_us":1,"wall_us":1,"pacing":"","machine_floor_p99_ns":1,
"valid":true,"notes":[],"interrupted":"INTERRUPTED"}"#;

/// The toy checkout.
pub(crate) struct Toy {
    root: TempDir,
}

/// The rows that a good load generator leaves for the schedule of [`Toy`].
pub(crate) fn rows() -> Vec<Invocation> {
    let row = |index: u64, cold: bool| {
        let scheduled_ns = 1_000_000 + index * 500_000_000;
        let (queue_us, cold_us, exec_us) = if cold { (0, 4000, 1000) } else { (0, 0, 1000) };
        let sent_ns = scheduled_ns + 100_000;
        Invocation {
            function: "f".to_owned(),
            index,
            phase: Phase::Measured,
            scheduled_ns,
            sent_ns: Some(sent_ns),
            first_byte_ns: Some(sent_ns + 1000 * (cold_us + exec_us)),
            done_ns: Some(sent_ns + 1000 * (cold_us + exec_us + 300)),
            requested_us: exec_us,
            memory_mib: 1,
            executed_us: Some(exec_us),
            queue_us: Some(queue_us),
            cold_us: Some(cold_us),
            exec_us: Some(exec_us),
            status: Some(200),
            outcome: Outcome::Ok,
            cold: Some(u8::from(cold)),
            sandbox: Some("1-1".to_owned()),
            attempts: Some(1),
            error: None,
            address: None,
        }
    };
    vec![row(0, true), row(1, false), row(2, false)]
}

impl Toy {
    /// A checkout whose daemon behaves as told: `well`, `fails`, `never-ready`, `leaks`, `ignores`, `spoils`, `dies`,
    /// `long`.
    pub(crate) fn new(behaviour: &str) -> Self {
        let toy = Self { root: tempfile::tempdir().unwrap() };
        fs::create_dir_all(toy.path("experiments/definitions")).unwrap();
        fs::create_dir_all(toy.path("bin")).unwrap();
        toy.write("experiments/systems.toml", SYSTEMS);
        toy.write("experiments/definitions/toy.toml", DEFINITION);
        toy.write("experiments/definitions/sweep.toml", SWEEP);
        toy.write("bin/behaviour", behaviour);
        let schedule = "setting,value\nformat,x\n\ndue_ns,function,run_us,memory_mib,phase\n1000000,f,1000,1,measured\n\
                        501000000,f,1000,1,measured\n1001000000,f,1000,1,measured\n";
        toy.write("bin/schedule.csv", schedule);
        toy.write("bin/functions.ndjson", "{\"name\":\"f\",\"image\":\"builtin:function\"}\n");
        toy.write("bin/loadgen.json", LOAD_SUMMARY);
        toy.set_rows(&rows());
        for (name, script) in [("toyd", DAEMON), ("loadgen", LOADGEN), ("analysis", ANALYSIS)] {
            let path = toy.path("bin").join(name);
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        toy
    }

    /// A place in the checkout.
    pub(crate) fn path(&self, place: &str) -> PathBuf {
        self.root.path().join(place)
    }

    /// Replaces a file of the checkout.
    pub(crate) fn write(&self, place: &str, text: &str) {
        fs::write(self.path(place), text).unwrap();
    }

    /// Replaces text in a file of the checkout.
    pub(crate) fn edit(&self, place: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(place)).unwrap();
        assert!(text.contains(from), "{place} should contain {from:?}");
        self.write(place, &text.replace(from, to));
    }

    /// Sets the rows that the load generator will leave.
    pub(crate) fn set_rows(&self, rows: &[Invocation]) {
        write_rows(&self.path("bin/invocations.csv.zst"), rows);
    }

    /// `repro ARGUMENTS` in this checkout.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_repro"));
        command.args(arguments).arg("--checkout").arg(self.root.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs `repro run toy OPTIONS` to its end, leaving everything in `out`.
    pub(crate) fn run(&self, options: &[&str]) -> Output {
        self.run_experiment("toy", options)
    }

    /// Runs an experiment to its end, leaving everything in `out`.
    pub(crate) fn run_experiment(&self, experiment: &str, options: &[&str]) -> Output {
        let (out, bin) = (self.path("out"), self.path("bin"));
        let fixed = ["run", experiment, "--out", out.to_str().unwrap(), "--programs", bin.to_str().unwrap()];
        self.command(&[&fixed, options].concat()).output().unwrap()
    }

    /// Starts `repro run toy` and waits until load is being sent.
    pub(crate) fn start_and_load(&self) -> Child {
        let (out, bin) = (self.path("out"), self.path("bin"));
        let fixed = ["run", "toy", "--out", out.to_str().unwrap(), "--programs", bin.to_str().unwrap()];
        let child = self.command(&fixed).spawn().unwrap();
        wait_until("load is sent", || self.path("bin/loading").exists());
        child
    }

    /// Goes on with the run in `out`.
    pub(crate) fn resume(&self) -> Output {
        let (out, bin) = (self.path("out"), self.path("bin"));
        self.command(&["run", "--resume", out.to_str().unwrap(), "--programs", bin.to_str().unwrap()]).output().unwrap()
    }

    /// `repro verify` or `repro report` of the run in `out`: its exit code, and what it said.
    pub(crate) fn again(&self, verb: &str) -> (Option<i32>, String) {
        let (out, bin) = (self.path("out"), self.path("bin"));
        let mut arguments = vec![verb, out.to_str().unwrap()];
        if verb == "report" {
            arguments.extend(["--programs", bin.to_str().unwrap()]);
        }
        let output = self.command(&arguments).output().unwrap();
        (output.status.code(), said(&output))
    }

    /// The run's directory.
    pub(crate) fn out(&self) -> RunDir {
        RunDir(self.path("out"))
    }

    /// The run's only repetition.
    pub(crate) fn point(&self) -> PointDir {
        self.out().point("toy", "replay", 1)
    }

    /// The run's manifest.
    pub(crate) fn manifest(&self) -> Manifest {
        self.out().read_manifest().unwrap()
    }

    /// Asserts how the run says that it ended.
    pub(crate) fn assert_exit(&self, expected: ExitState) {
        let manifest = self.manifest();
        assert_eq!(manifest.exit, expected, "notes: {:?}", manifest.notes);
    }

    /// Every process that was started, by the ids they wrote down themselves.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.path("bin/pids")).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// Asserts that of at least `started` processes none is left.
    pub(crate) fn assert_nothing_left(&self, started: usize) {
        let pids = self.pids();
        assert!(pids.len() >= started, "expected at least {started} processes to have been started: {pids:?}");
        let left: Vec<&i32> = pids.iter().filter(|pid| is_alive(**pid)).collect();
        assert!(left.is_empty(), "processes {left:?} of {pids:?} are left");
    }
}

/// Writes rows as the load generator would.
pub(crate) fn write_rows(path: &Path, rows: &[Invocation]) {
    let mut writer = InvocationWriter::create(path).unwrap();
    for row in rows {
        writer.write(row).unwrap();
    }
    writer.flush().unwrap();
}

/// Returns true if a process lives; a zombie does not.
pub(crate) fn is_alive(pid: i32) -> bool {
    Stat::read(pid).is_some_and(|stat| stat.state != 'Z')
}

/// Waits for a state; panics when it does not come.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {} s, expected: {what}", DEADLINE.as_secs());
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Both outputs of a program, for messages.
pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
