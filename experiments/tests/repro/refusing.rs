//! Wrong values are refused in the words of what was typed, before anything is built or a directory is made.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use record::ExitState;
use tempfile::TempDir;

use crate::toy::{Toy, said};

const COUNTS: &str = "HashOwner,HashApp,HashFunction,Trigger,1,2,3,4,5\no,a,f,http,3,0,2,0,1\no,a,g,timer,1,1,1,0,1\n";
const RUN_TIMES: &str = "HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum,percentile_Average_0,\
    percentile_Average_1,percentile_Average_25,percentile_Average_50,percentile_Average_75,percentile_Average_99,\
    percentile_Average_100\no,a,f,40,6,2,90,3,3,20,40,60,80,85\no,a,g,10,5,9,12,9,9,10,10,11,12,12\n";
const MEMORY: &str = "HashOwner,HashApp,SampleCount,AverageAllocatedMb,AverageAllocatedMb_pct1,AverageAllocatedMb_pct5,\
    AverageAllocatedMb_pct25,AverageAllocatedMb_pct50,AverageAllocatedMb_pct75,AverageAllocatedMb_pct95,\
    AverageAllocatedMb_pct99,AverageAllocatedMb_pct100\no,a,9,130,130,130,130,130,130,130,130,130\n";

/// The committed experiments and systems, beside a `cargo` that says when it is called, and traces.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        let cargo = desk.path("cargo");
        fs::write(&cargo, "#!/bin/sh\ntouch \"$(dirname \"$0\")/built\"\nexit 1\n").unwrap();
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
        for (folder, run_times) in [("trace", RUN_TIMES), ("lacking", RUN_TIMES.rsplit_once("o,a,g").unwrap().0)] {
            fs::create_dir(desk.path(folder)).unwrap();
            let files = [("invocations.csv", COUNTS), ("durations.csv", run_times), ("memory.csv", MEMORY)];
            files.iter().for_each(|(name, text)| fs::write(desk.path(folder).join(name), text).unwrap());
        }
        fs::create_dir(desk.path("empty")).unwrap();
        desk
    }

    fn path(&self, place: &str) -> std::path::PathBuf {
        self.0.path().join(place)
    }

    fn repro(&self, arguments: &[&str]) -> Output {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_repro"));
        command.args(arguments).arg("--checkout").arg(root).env("CARGO", self.path("cargo"));
        command.current_dir(self.0.path()).stdin(Stdio::null()).output().unwrap()
    }

    /// Both `plan` and `run` refuse it, and nothing is made. Between two parts of `expected` that `…` parts, anything may stand.
    fn refuse(&self, typed: &str, expected: &str) {
        let options: Vec<&str> = typed.split(' ').collect();
        let out = self.path("out");
        for output in [
            self.repro(&[&["plan"], &options[..]].concat()),
            self.repro(&[&["run"], &options[..], &["--out", out.to_str().unwrap()]].concat()),
        ] {
            let text = said(&output);
            assert_eq!(output.status.code(), Some(2), "{typed}: {text}");
            let mut rest = &text[..];
            for part in expected.split('…') {
                let found = rest.find(part).unwrap_or_else(|| panic!("{typed}: expected {expected:?} in {text}"));
                rest = &rest[found + part.len()..];
            }
            assert!(!text.contains("--resume") && !text.contains("measure "), "{typed}: {text}");
        }
        assert!(!out.exists() && !self.path("built").exists(), "{typed}: something was made");
    }
}

#[test]
fn invalid_values_are_refused_by_plan_and_run_before_any_build() {
    let desk = Desk::new();
    for (typed, expected) in [
        ("azure-500 --runtime foo", "--runtime foo: dirigent has no such runtime, but hollow or process"),
        ("warm-sweep --runtime foo --systems floor", "--runtime foo: floor has no such runtime"),
        ("azure-500 --trace cargo", "cargo: expected a folder in Azure 2019 form, found a file"),
        ("azure-500 --trace empty", "empty: expected invocations.csv, durations.csv, memory.csv"),
        ("azure-500 --trace lacking --minutes 5", "expected a function that durations.csv has too, found o/a/g"),
        ("azure-500 --trace lacking --minutes 5", "(`loadgen synth --trace "),
        ("azure-500 --trace trace", "--minutes: expected 1 to 5, which the trace has, found 30"),
        ("azure-500 --trace trace --minutes 1 --start-minute 5", "--start-minute: expected 0 to 4"),
        ("azure-500 --trace trace --minutes 1 --start-minute 3", "--start-minute and --minutes: nothing is invoked"),
        (
            "azure-500 --trace trace --minutes 5 --functions 3",
            "--functions: no sample of 3 functions fits: 2 functions",
        ),
        ("azure-500 --start-minute 100000", "--start-minute: expected 0 to 20130 for 30 minutes"),
        ("azure-500 --quick --start-minute 100000", "--start-minute: expected 0 to 20157 for 3 minutes"),
        ("azure-500 --minutes 30000", "--minutes: expected 1 to 20160"),
        ("azure-500 --functions 4000000000", "--functions: expected at most"),
        ("azure-500 --functions 20 --max-cores 0.0000001", "--functions: no sample of 20 functions fits"),
        (
            "azure-500 --functions 20 --max-cores 0",
            "--max-cores: …/definitions/azure-500.toml: load.max_cores: must be above 0",
        ),
        (
            "azure-500 --max-cores 1",
            "--max-cores: …/definitions/azure-500.toml: load.max_cores: needs load.functions (--functions)",
        ),
        ("azure-500 --seed 18446744073709551615", "--seed: …/definitions/azure-500.toml: seed: must be at most"),
        ("azure-500 --repetitions 1001", "--repetitions: …/definitions/azure-500.toml: repetitions: must be 1 to 1000"),
        (
            "azure-500 --systems external",
            "external: its parameter version has no value: type --parameter version=VALUE",
        ),
        ("azure-500 --systems dirigent-go", "dirigent-go: its parameter version has no value"),
        (
            "azure-500 --systems knative,dirigent-go --parameter version=1",
            "dirigent-go was started by somebody else, and a run with knative takes place in a private network",
        ),
        ("azure-500 --systems dirigent,dirigent", "--systems: names dirigent twice"),
        ("warm-sweep --rates 1000000000 --points rate-1000000000", "point rate-1000000000: 1000000000 per second for"),
    ] {
        desk.refuse(typed, expected);
    }
    let planned = desk.repro(&["plan", "azure-500", "--trace", "trace", "--minutes", "5", "--functions", "2"]);
    assert_eq!(planned.status.code(), Some(0), "{}", said(&planned));
}

#[test]
fn invalid_directories_are_refused_before_any_is_created() {
    let toy = Toy::new("well");
    let (bin, out) = (toy.path("bin"), toy.path("out"));
    let (bin, out) = (bin.to_str().unwrap(), out.to_str().unwrap());
    let refuse = |out: &str, bin: &str, expected: &str| {
        let output = toy.command(&["run", "toy", "--out", out, "--programs", bin]).output().unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(expected) && !text.contains("--resume"), "expected {expected:?} in {text}");
    };
    refuse(out, "/nosuch", "--programs /nosuch: No such file or directory");
    refuse(out, "/etc", "--programs /etc: expected built programs, found no loadgen");
    let file = format!("{bin}/loadgen");
    refuse(out, &file, "loadgen: expected built programs, found no loadgen");
    refuse(&file, bin, "expected a folder, found the file ");
    refuse(&format!("{file}/below/it"), bin, "expected a folder, found the file ");
    fs::rename(toy.path("bin/toyd"), toy.path("elsewhere")).unwrap();
    refuse(out, bin, "found no toyd");
    assert!(!toy.path("out").exists() && toy.pids().is_empty());
}

#[test]
fn a_run_refused_by_the_load_generator_does_not_suggest_resuming() {
    let toy = Toy::new("well");
    toy.edit(
        "bin/loadgen",
        "if [ \"$verb\" = schedule ]; then",
        "if [ \"$verb\" = schedule ]; then\n\
        echo 'loadgen: --minutes: found too many' >&2; exit 2",
    );
    let output = toy.run(&[]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("--minutes: found too many") && text.contains("begin another one"), "{text}");
    assert!(!text.contains("--resume"), "{text}");
    toy.assert_exit(ExitState::Failed);
}
