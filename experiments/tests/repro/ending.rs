//! The end of a run's output, its summary of invariants, and the protection of the disk.

use std::{
    fs::{self, File},
    process::{Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use record::{FailedRepetition, Manifest};

use crate::toy::{Toy, rows, said, wait_until, write_rows};

/// The document of one judged claim.
pub(crate) fn claims(outcome: &str) -> String {
    format!(
        r#"{{"schema_version":1,"claims":[{{"id":"toy-rate","sentence":"It is faster.","source":"s",
        "published":"1250 times","statistic":"rate.sustained","verdict":"{outcome}","reason":"for a reason","found":2.5,
        "unit":"times","interval":[2.0,3.0],"p":0.004,"note":"One was measured again."}}]}}"#
    )
}

#[test]
fn claims_are_printed_last_and_decide_the_exit_code() {
    for (outcome, code) in [("held", 0), ("not measured", 0), ("inconclusive", 4), ("not held", 4), ("invalid", 3)] {
        let toy = Toy::new("well");
        toy.write("bin/claims.json", &claims(outcome));
        let (terminal, out, bin) = (toy.path("terminal"), toy.path("out"), toy.path("bin"));
        let (out, bin) = (out.to_str().unwrap(), bin.to_str().unwrap());
        let run = ["run", "toy", "--out", out, "--programs", bin];
        for arguments in [&run[..], &["report", out, "--programs", bin], &["verify", out]] {
            let both = File::create(&terminal).unwrap();
            let mut command = toy.command(arguments);
            let status = command.stdout(both.try_clone().unwrap()).stderr(both).status().unwrap();
            let text = fs::read_to_string(&terminal).unwrap();
            assert_eq!(status.code(), Some(code), "{arguments:?}, {outcome}: {text}");
            let last = text.lines().last().unwrap();
            assert!(text.contains("toy-rate: One was measured again."), "{arguments:?}: {text}");
            for expected in ["toy-rate", outcome, "2.500 [2.000; 3.000] times", "1250 times", "for a reason"] {
                assert!(last.contains(expected), "{arguments:?}: expected {expected:?} at the end of {text}");
            }
        }
        let output = toy.command(&["verify", out]).output().unwrap();
        let results = String::from_utf8(output.stdout).unwrap();
        assert!(results.contains("toy-rate"), "the outcome is a result, on standard output: {results}");
    }
}

#[test]
fn invariants_that_hold_are_counted_and_listed_only_on_request() {
    let toy = Toy::new("well");
    let output = toy.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let results = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!results.contains("every scheduled row is there once"), "it holds: {results}");
    assert!(said(&output).contains(" invariants, ") && said(&output).contains("--all"), "{}", said(&output));
    let verify = |more: &[&str]| {
        let out = toy.path("out");
        let output = toy.command(&[&["verify", out.to_str().unwrap()], more].concat()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // That a busy machine is marked is nothing that this test can rule out.
    let shown = verify(&["--format", "csv"]);
    assert!(!shown.contains(",held,") && !shown.contains(",not held,"), "nothing is broken: {shown}");
    assert!(verify(&["--all"]).contains("every scheduled row is there once"));
    let mut changed = rows();
    changed.pop();
    write_rows(&toy.point().invocations(), &changed);
    let broken = verify(&["--format", "csv"]);
    assert!(broken.contains("every scheduled row is there once,not held,\"3 scheduled, 1 missing"), "{broken}");
    assert!(!broken.contains(",held,"), "{broken}");
    assert!(verify(&["--all", "--format", "csv"]).contains(",held,"));
}

#[test]
fn a_run_that_does_not_fit_on_its_disk_is_refused_before_it_begins() {
    let toy = Toy::new("well");
    toy.edit("experiments/definitions/sweep.toml", "load.rate = [2, 4]", "load.rate = [2, 2e7]");
    // 40 million invocations in each.
    let output = toy.run_experiment("sweep", &["--repetitions", "1000"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let text = said(&output);
    assert!(
        text.contains("out: ") && text.contains(" MiB are needed: free some, or leave the run elsewhere"),
        "{text}"
    );
    assert!(!toy.path("out").exists() && toy.pids().is_empty(), "nothing is begun");
}

/// What a command says in which `$0` is the folder `small` of a toy, on a disk of its own of such a size, `$1` is the program, and
/// `$2` and `$3` are the toy's programs and checkout; `None` where no disk can be mounted, which is said.
fn on_a_small_disk(test: &str, (toy, size): (&Toy, &str), command: &str) -> Option<Output> {
    let small = toy.path("small");
    fs::create_dir_all(&small).unwrap();
    let output = |command: &str| {
        let mut shell = Command::new("unshare");
        shell.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        shell.arg(format!("mount -t tmpfs -o size={size} small \"$0\" && {command}")).arg(&small);
        shell.args([env!("CARGO_BIN_EXE_repro"), toy.path("bin").to_str().unwrap(), toy.path("").to_str().unwrap()]);
        shell.stdin(Stdio::null()).output().unwrap()
    };
    if !output("true").status.success() {
        programs::say_skipped(test, "a small file system cannot be mounted here");
        return None;
    }
    Some(output(command))
}

/// The disk that counts is that of the run, not that of the checkout.
#[test]
fn the_disk_of_the_run_directory_is_checked() {
    let toy = Toy::new("well");
    let small = |command: &str| on_a_small_disk("the_disk_of_the_run_is_looked_at", (&toy, "1m"), command);
    let Some(output) = small("\"$1\" run toy --out \"$0/run\" --programs \"$2\" --checkout \"$3\"") else { return };
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("small/run: 1 MiB are free on its disk, about 256 MiB"), "{}", said(&output));
    assert!(toy.pids().is_empty(), "nothing is begun");
    let output = small("\"$1\" doctor --out \"$0\" --checkout \"$3\"").unwrap();
    assert!(said(&output).contains("1 MiB free for"), "{}", said(&output));
}

#[test]
fn a_system_that_fills_the_disk_under_load_has_failed_and_leaves_room_for_the_next() {
    // It leaves what it wrote, removes it when it is stopped, or has deleted it before and not closed it.
    for (fill, stop) in [("", ""), ("", "rm \"$1/fill\"; "), ("rm \"$1/fill\"\n", "")] {
        let test = "a_system_that_fills_the_disk_under_load_has_failed_and_leaves_room_for_the_next";
        let Some((failures, text)) = of_full_disk(test, (fill, stop), 2) else { return };
        let has_filled = |one: &FailedRepetition| !one.untried && one.reason.starts_with("it filled the disk with ");
        assert!(failures.len() == 2 && failures.iter().all(has_filled), "{fill}{stop}: {failures:?}: {text}");
    }
}

#[test]
fn a_full_disk_is_attributed_to_the_system_even_if_it_cannot_be_emptied() {
    let mount = "mkdir \"$1/kept\"; mount -t tmpfs -o size=1m none \"$1/kept\" || exit 1\n";
    let test = "a_disk_that_cannot_be_emptied_takes_nothing_from_whose_doing_it_is";
    let Some((failures, text)) = of_full_disk(test, (mount, ""), 1) else { return };
    let [failure] = failures.try_into().unwrap_or_else(|_| panic!("{text}"));
    let reason = &failure.reason;
    assert!(!failure.untried && reason.contains("it filled the disk with "), "{failure:?}: {text}");
    assert!(reason.starts_with("there is no room (removing "), "{failure:?}: {text}");
}

/// The failures of so many repetitions of a toy that fills a small disk under load, and what was said. Its daemons do the one thing
/// when they have a file open for it, and the other when they are stopped.
fn of_full_disk(test: &str, (fill, stop): (&str, &str), repetitions: u32) -> Option<(Vec<FailedRepetition>, String)> {
    let toy = Toy::new("well");
    let wait = "while :; do wait $child || :;";
    let fill = format!(
        "while [ ! -e \"$bin/loading\" ]; do sleep 0.05; done\nexec 3> \"$1/fill\"\n{fill}\
         dd if=/dev/zero bs=1M >&3 2>/dev/null\ntouch \"$1/full\"\n"
    );
    toy.edit("bin/toyd", wait, &format!("{fill}{wait}"));
    toy.edit("bin/toyd", "*) trap 'kill $child; exit 0' TERM", &format!("*) trap 'kill $child; {stop}exit 0' TERM"));
    let full = "until [ -e \"$out/data/toy-1/full\" ] && [ -e \"$out/data/toy-2/full\" ]; do sleep 0.05; done";
    toy.edit("bin/loadgen", "wait $sleeper\n", &format!("wait $sleeper\n{full}\n"));
    let run = format!(
        "\"$1\" run toy --repetitions {repetitions} --out \"$0/run\" --programs \"$2\" --checkout \"$3\"; echo MANIFEST; \
               cat \"$0/run/manifest.json\""
    );
    let output = on_a_small_disk(test, (&toy, "300m"), &run)?;
    let failures = failures_in(&output);
    Some((failures, said(&output)))
}

/// The failures in a manifest that was shown at the end of what was said.
fn failures_in(output: &Output) -> Vec<FailedRepetition> {
    let text = String::from_utf8_lossy(&output.stdout);
    let manifest = text.split_once("MANIFEST").and_then(|(_, json)| serde_json::from_str::<Manifest>(json).ok());
    manifest.unwrap_or_else(|| panic!("{}", said(output))).failures
}

#[test]
fn a_system_that_holds_most_of_the_memory_when_its_load_generator_is_killed_has_failed() {
    let test = "a_system_that_holds_most_of_the_memory_when_its_load_generator_is_killed_has_failed";
    let in_load = ("bin/loadgen", "wait $sleeper\n", "wait $sleeper\nkill -9 $$\n");
    let register = "[\"cp\", \"{functions}\", \"{dirs.toy-1}/registered\"]";
    let killed = "[\"{bin}/loadgen\", \"register\", \"sh\", \"-c\", \"kill -9 $$\"]";
    let as_it_registers = ("experiments/systems.toml", register, killed);
    let of_memory = |available: &str, (place, from, to): (&str, &str, &str)| {
        let toy = Toy::new("well");
        toy.edit(place, from, to);
        let run = format!(
            "sed 's/^MemAvailable:.*/MemAvailable: {available} kB/' /proc/meminfo > \"$0/meminfo\" && mount --bind \"$0/meminfo\" \
             /proc/meminfo && {{ \"$1\" run toy --out \"$0/run\" --programs \"$2\" --checkout \"$3\"; echo MANIFEST; cat \
             \"$0/run/manifest.json\"; }}"
        );
        on_a_small_disk(test, (&toy, "300m"), &run).map(|output| (failures_in(&output), said(&output)))
    };
    // The two daemons are shells of a few MiB.
    for (available, edit, untried, why) in [
        ("2048", in_load, false, " of 2 MiB of memory: the load generator was ended by signal 9"),
        ("999999999", in_load, true, "the load generator was ended by signal 9"),
        (
            "2048",
            as_it_registers,
            false,
            " of 2 MiB of memory: registering the functions: loadgen was ended by signal 9",
        ),
        ("999999999", as_it_registers, true, "registering the functions: loadgen was ended by signal 9"),
    ] {
        let Some((failures, text)) = of_memory(available, edit) else { return };
        let [failure] = failures.try_into().unwrap_or_else(|_| panic!("{text}"));
        assert!(failure.untried == untried && failure.reason.contains(why), "{failure:?}: {text}");
    }
}

#[test]
fn claims_judged_by_outdated_findings_are_neither_shown_nor_counted() {
    let toy = Toy::new("well");
    toy.write("bin/claims.json", &claims("held"));
    assert_eq!(toy.run(&[]).status.code(), Some(0));
    let verify = || said(&toy.command(&["verify", toy.path("out").to_str().unwrap()]).output().unwrap());
    assert!(verify().contains("toy-rate"), "{}", verify());
    let mut changed = rows();
    changed.pop();
    write_rows(&toy.point().invocations(), &changed);
    let text = verify();
    assert!(!text.contains("toy-rate") && text.contains("are out of date"), "{text}");
    fs::remove_file(toy.out().invariants()).unwrap();
    assert!(!verify().contains("toy-rate"), "nothing says what they were judged by");
}

#[test]
fn a_resumed_and_stopped_run_keeps_no_outdated_claims() {
    for behaviour in ["fails", "long"] {
        let toy = Toy::new("well");
        toy.write("bin/claims.json", &claims("held"));
        assert_eq!(toy.run(&["--repetitions", "2"]).status.code(), Some(0));
        let run = toy.out();
        fs::create_dir(run.report()).unwrap();
        toy.write("out/report/index.html", "measurement valid");
        toy.write("out/summary.json", "{}");
        let checked = [run.invariants(), run.claims(), run.summary(), run.report()];
        assert!(checked.iter().all(|place| place.exists()), "{checked:?}");
        toy.write("bin/behaviour", behaviour);
        // What fails below ends with a report of the rest; what would not end is stopped.
        fs::remove_dir_all(toy.point().path).unwrap();
        fs::remove_file(toy.path("bin/loading")).unwrap();
        let (out, bin) = (toy.path("out"), toy.path("bin"));
        let arguments = ["run", "--resume", out.to_str().unwrap(), "--programs", bin.to_str().unwrap()];
        let child = toy.command(&arguments).spawn().unwrap();
        if behaviour == "long" {
            wait_until("load is sent", || toy.path("bin/loading").exists());
            let left: Vec<_> = checked.iter().filter(|place| place.exists()).collect();
            assert!(left.is_empty(), "while it is measured, {left:?} are left");
            kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let [out, bin, root] = [&out, &bin, &toy.path("")].map(|place| place.canonicalize().unwrap());
        let again = format!("repro run --resume {} --programs {}", out.display(), bin.display());
        let again = format!("{again} --checkout {}", root.display());
        assert!(said(&output).contains(&again), "expected {again} in {}", said(&output));
        let left: Vec<_> = checked[2..].iter().filter(|place| place.exists()).collect();
        assert!(left.is_empty(), "{behaviour}: {left:?} are left");
        if behaviour == "long" {
            assert!(!run.claims().exists() && !run.invariants().exists());
        }
    }
}
