//! The real baseline, from building it to nothing left of it. It takes minutes and a Go toolchain, so it has to be asked
//! for: `TEST_BASELINE=1 cargo test --workspace --test repro knative`.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use record::{ColdStart, InvocationReader, Outcome, Setting, read_table};

use crate::end_to_end::run_and_check;

/// Two functions in turn, each called again 25 s later: by then it has scaled to zero.
const DEFINITION: &str = r#"
id = "short"
question = "Does the baseline start, scale from zero and to zero, and end?"
systems = ["knative"]
[load]
kind = "rate"
rate = 0.08
seconds = 60
warmup = "1s"
cooldown = "25s"
timeout = "30s"
[function]
image = "builtin:function"
scale = { max = 1 }
timeout = "30s"
[sandbox]
runtime = "hollow"
mode = "sleep"
delay = "40ms"
workers = 1
cpu = "64"
memory = "256GiB"
[parameters]
windows = "6s,1s,1s"
[expect]
failed_share_max = 0.0
cold_share_min = 1.0
[scales.laptop]
"#;

/// Traces that the baseline could leave on a machine.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    /// Network devices that this process sees.
    devices: BTreeSet<String>,
    /// Mounts that this process sees.
    mounts: BTreeSet<String>,
    /// Network namespaces of all processes.
    namespaces: BTreeSet<PathBuf>,
    /// Command lines of processes that were started from the cache of built programs.
    parts: Vec<String>,
}

impl Traces {
    fn now() -> Self {
        let devices = fs::read_dir("/sys/class/net").unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let place = |line: &str| line.split(' ').nth(4).unwrap_or_default().to_owned();
        let processes: Vec<PathBuf> = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).collect();
        let command = |process: &PathBuf| {
            let command = fs::read(process.join("cmdline")).ok()?;
            Some(String::from_utf8_lossy(&command).replace('\0', " "))
        };
        Self {
            devices: devices.map(|one| one.unwrap().file_name().into_string().unwrap()).collect(),
            mounts: mounts.lines().map(place).collect(),
            namespaces: processes.iter().filter_map(|process| fs::read_link(process.join("ns/net")).ok()).collect(),
            parts: processes.iter().filter_map(command).filter(|command| command.contains(CACHE)).collect(),
        }
    }
}

/// Folder of built programs, within the user's caches.
const CACHE: &str = "/dirigent-baseline/";

#[test]
fn installs_scales_to_zero_and_removes_everything_knative() {
    if env::var_os("TEST_BASELINE").is_none() {
        let why = "it builds Kubernetes and Knative; set TEST_BASELINE=1 to run it";
        programs::say_skipped("installs_scales_to_zero_and_removes_everything_knative", why);
        return;
    }
    let before = Traces::now();
    let knative = programs::path("knative").unwrap();
    let built = Command::new(&knative).arg("build").stdin(Stdio::null()).status().unwrap();
    assert!(built.success(), "building the baseline: {built}");
    let (checkout, run) = run_and_check(DEFINITION, &[], &["knative"]);
    let point = run.point("knative", "replay", 1);
    let rows: Vec<_> = InvocationReader::open(&point.invocations()).unwrap().map(Result::unwrap).collect();
    let mut sandboxes: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in &rows {
        assert_eq!((row.outcome, row.cold), (Outcome::Ok, Some(1)), "{row:?}");
        sandboxes.entry(&row.function).or_default().insert(row.sandbox.as_deref().unwrap());
    }
    assert_eq!(sandboxes.len(), 2, "two functions: {sandboxes:?}");
    assert!(sandboxes.values().all(|of_one| of_one.len() >= 2), "each began from zero again: {sandboxes:?}");
    assert_eq!(sandboxes.values().map(BTreeSet::len).sum::<usize>(), rows.len(), "a sandbox for each invocation");
    let creations: Vec<ColdStart> = read_table(&point.coldstarts()).unwrap();
    assert_eq!(creations.len(), rows.len(), "every creation is recorded, and no other was made: {creations:?}");
    let settings: Vec<Setting> = record::read_json(&point.settings()).unwrap();
    let parts: BTreeSet<&str> = settings.iter().map(|one| one.part.as_str()).collect();
    assert!(parts.contains("config-autoscaler") && !parts.contains("controller"), "the released form: {settings:?}");
    assert_eq!(Traces::now(), before, "no device, mount, namespace or process is left");
    drop(checkout);
}
