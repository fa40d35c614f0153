//! The real baseline, from building it to nothing left of it. It takes minutes and a Go toolchain, so it has to be asked
//! for: `TEST_BASELINE=1 cargo test --workspace --test repro knative`.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    process::{Command, Stdio},
};

use record::{ColdStart, InvocationReader, Outcome, read_table};

use crate::end_to_end::run_and_judge;

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

/// Network devices and mounts that this process sees.
fn devices_and_mounts() -> (BTreeSet<String>, BTreeSet<String>) {
    let devices = fs::read_dir("/sys/class/net").unwrap().map(|one| one.unwrap().file_name().into_string().unwrap());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let place = |line: &str| line.split(' ').nth(4).unwrap_or_default().to_owned();
    (devices.collect(), mounts.lines().map(place).collect())
}

#[test]
fn from_nothing_to_zero_and_to_nothing_knative() {
    if env::var_os("TEST_BASELINE").is_none() {
        let why = "it builds Kubernetes and Knative; set TEST_BASELINE=1 to run it";
        eprintln!("skipped from_nothing_to_zero_and_to_nothing_knative: {why}");
        return;
    }
    let before = devices_and_mounts();
    let knative = programs::path("knative").unwrap();
    let built = Command::new(&knative).arg("build").stdin(Stdio::null()).status().unwrap();
    assert!(built.success(), "building the baseline: {built}");
    let (checkout, run) = run_and_judge(DEFINITION, &[], &["knative"]);
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
    let after = devices_and_mounts();
    assert_eq!(after, before, "no device and no mount is left");
    drop(checkout);
}
