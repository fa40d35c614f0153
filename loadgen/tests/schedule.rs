//! The subcommands that send nothing to a system: schedules, traces, inspection, habits of the program.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod mock;
mod program;

use std::{fs, io};

use mock::Mock;
use program::{Scratch, ended, loadgen, run};

const INVOCATIONS: &str = "HashOwner,HashApp,HashFunction,Trigger,1,2\no,a,f1,http,3,0\no,a,f2,timer,1,1\n";
const DURATIONS: &str = "HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum,percentile_Average_0,\
percentile_Average_1,percentile_Average_25,percentile_Average_50,percentile_Average_75,percentile_Average_99,\
percentile_Average_100\no,a,f1,5,3,1,9,1,1,4,5,6,9,9\no,a,f2,5,3,1,9,1,1,4,5,6,9,9\n";
const MEMORY: &str = "HashOwner,HashApp,HashFunction,SampleCount,AverageAllocatedMb,AverageAllocatedMb_pct1,\
AverageAllocatedMb_pct5,AverageAllocatedMb_pct25,AverageAllocatedMb_pct50,AverageAllocatedMb_pct75,\
AverageAllocatedMb_pct95,AverageAllocatedMb_pct99,AverageAllocatedMb_pct100\n\
o,a,f1,3,20,10,11,15,20,25,30,31,32.5\no,a,f2,3,20,10,11,15,20,25,30,31,32\n";

/// A scratch directory with a trace in it, its counts as given.
fn trace(invocations: &str) -> (Scratch, String) {
    let scratch = Scratch::new();
    let directory = scratch.path("trace");
    fs::create_dir(&directory).unwrap();
    for (name, text) in [("invocations", invocations), ("durations", DURATIONS), ("memory", MEMORY)] {
        fs::write(format!("{directory}/{name}.csv"), text).unwrap();
    }
    (scratch, directory)
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let (scratch, directory) = trace(INVOCATIONS);
    let schedule = |name: &str, seed: &str| {
        let (out, functions) = (scratch.path(name), scratch.path("functions.ndjson"));
        let arguments =
            ["schedule", "--trace", &directory, "--seed", seed, "--out", &out, "--functions-out", &functions];
        let (code, _, errors) = run(&arguments);
        assert_eq!(code, 0, "{errors}");
        fs::read(out).unwrap()
    };
    let (first, again, other) = (schedule("a", "1"), schedule("b", "1"), schedule("c", "2"));
    assert_eq!(first, again);
    assert_ne!(first, other);
    let functions = fs::read_to_string(scratch.path("functions.ndjson")).unwrap();
    let lines: Vec<serde_json::Value> = functions.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    let mut memory: Vec<u64> = lines.iter().map(|line| line["memory"].as_u64().unwrap()).collect();
    memory.sort_unstable();
    assert_eq!(memory, [32, 33], "memory is rounded up");
    assert!(lines.iter().all(|line| line["image"] == "builtin:function"), "{functions}");
}

#[test]
fn a_schedule_that_was_written_is_read_back() {
    let (scratch, directory) = trace(INVOCATIONS);
    let (first, second) = (scratch.path("first.csv"), scratch.path("second.csv"));
    assert_eq!(run(&["schedule", "--trace", &directory, "--out", &first]).0, 0);
    assert_eq!(run(&["schedule", "--schedule", &first, "--out", &second]).0, 0);
    assert_eq!(fs::read(first).unwrap(), fs::read(second).unwrap());
}

#[test]
fn what_was_changed_when_a_schedule_was_made_is_said_where_it_is_replayed() {
    let (scratch, directory) = trace("HashOwner,HashApp,HashFunction,Trigger,1\no,a,f1,http,3\n");
    let (mock, path, out) = (Mock::data_plane(), scratch.path("schedule.csv"), scratch.path("out"));
    let notes = |arguments: &[&str], of: &str| {
        let (code, printed, errors) = run(&[arguments, &["--format", "json"]].concat());
        assert!(code == 0 || code == 3, "{arguments:?}: {errors}");
        serde_json::from_str::<serde_json::Value>(&printed).unwrap()[of].clone()
    };
    let bounds = ["--max-run", "1ms", "--minute", "100ms"];
    let said = notes(&[&["schedule", "--trace", &directory, "--out", &path][..], &bounds].concat(), "notes");
    let expected = [
        "1 rows of durations.csv match no function in invocations.csv",
        "1 rows of memory.csv match no function in invocations.csv",
        "3 of 3 run times were longer than the bound and were lowered to it (--max-run)",
    ];
    assert_eq!(said, serde_json::Value::from(expected.to_vec()));
    assert_eq!(notes(&["inspect", "--schedule", &path], "problems"), said);
    let address = mock.address.to_string();
    let replayed = notes(&["run", "--schedule", &path, "--address", &address, "--out", &out], "notes");
    assert!(expected.iter().all(|note| replayed.as_array().unwrap().contains(&(*note).into())), "{replayed}");
}

#[test]
fn a_schedule_that_was_cut_off_is_said_to_be_one() {
    let (scratch, directory) = trace(INVOCATIONS);
    let path = scratch.path("schedule.csv");
    assert_eq!(run(&["schedule", "--trace", &directory, "--out", &path]).0, 0);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    let rows = whole.iter().filter(|&&byte| byte == b'\n').count();
    let (code, _, errors) = run(&["inspect", "--schedule", &path]);
    let expected = format!("schedule.csv, row {rows}: expected a line break, found the end of the file");
    assert!(code == 2 && errors.contains(&expected), "{code}: expected {expected:?} in {errors}");
    fs::write(&path, [b"setting,value\n", vec![b'x'; 70_000].as_slice()].concat()).unwrap();
    let (code, _, errors) = run(&["inspect", "--schedule", &path]);
    assert!(code == 2 && errors.contains("row 2: expected a line break within 65536 bytes, found none"), "{errors}");
}

#[test]
fn bad_input_is_named_and_ends_with_2() {
    for (invocations, expected) in [
        (INVOCATIONS.replace("http,3", "http,-3"), ["invocations.csv", "row 2", "column 1"]),
        (INVOCATIONS.replace("timer,1,1", "timer,1,x"), ["invocations.csv", "row 3", "column 2"]),
        (INVOCATIONS.replace("f2,timer", "f3,timer"), ["durations.csv", "f3", ""]),
        (INVOCATIONS.replace("HashApp", "App"), ["invocations.csv", "HashApp", ""]),
    ] {
        let (scratch, directory) = trace(&invocations);
        let (code, printed, errors) = run(&["schedule", "--trace", &directory, "--out", &scratch.path("schedule.csv")]);
        assert_eq!((code, printed.as_str()), (2, ""), "{errors}");
        assert!(expected.iter().all(|part| errors.contains(part)), "expected {expected:?} in {errors}");
        assert!(programs::is_one_error(&errors), "{errors}");
    }
}

#[test]
fn what_was_typed_wrong_ends_with_2() {
    let (scratch, directory) = trace(INVOCATIONS);
    let out = scratch.path("out");
    let broken = scratch.path("functions.ndjson");
    fs::write(&broken, "{}\n").unwrap();
    for arguments in [
        vec!["run", "--out", &out],
        vec!["run", "--address", "127.0.0.1", "--out", &out],
        vec!["run", "--address", "127.0.0.1:1", "--timeout", "0s", "--out", &out],
        vec!["run", "--address", "127.0.0.1:1", "--trace", &directory, "--rate", "5", "--out", &out],
        vec!["schedule", "--rate", "10", "--out", &out],
        vec!["schedule", "--rate", "10", "--duration", "1s", "--cold", "--out", &out],
        vec!["schedule", "--rate", "10", "--duration", "1s", "--arrivals", "bursty", "--out", &out],
        vec!["schedule", "--synthetic", "nonsense", "--out", &out],
        vec!["schedule", "--trace", &directory, "--minutes", "3", "--out", &out],
        vec!["register", "--from", &broken],
        vec!["register", "--from", &broken, "--form", "--token-file", &broken],
        vec!["synth", "--rate", "10", "--duration", "1s", "--out", &out],
        vec!["schedule", "--trace", &directory, "--duration", "1s", "--out", &out],
        vec!["schedule", "--image", "i", "--trace", &directory, "--out", &out],
        vec!["run", "--address", "127.0.0.1:1", "--image", "i", "--out", &out],
        vec!["run", "--address", "127.0.0.1:1", "--schedule", &broken, "--minutes", "1", "--out", &out],
        vec!["sample", "--trace", &directory, "--out", &out],
        vec!["nonsense"],
    ] {
        let (code, printed, errors) = run(&arguments);
        assert_eq!((code, printed.as_str()), (2, ""), "{arguments:?}: {errors}");
        assert!(!errors.is_empty());
    }
}

#[test]
fn warm_up_of_a_schedule_and_a_start_minute_of_exact_calls_are_as_typed() {
    let (scratch, directory) = trace(INVOCATIONS);
    let (first, second) = (scratch.path("first.csv"), scratch.path("second.csv"));
    assert_eq!(run(&["schedule", "--trace", &directory, "--warmup", "10s", "--out", &first]).0, 0);
    let (code, _, errors) = run(&["schedule", "--schedule", &first, "--warmup", "60s", "--out", &second]);
    assert_eq!(code, 0, "{errors}");
    let text = fs::read_to_string(&second).unwrap();
    assert_eq!((text.matches(",warmup\n").count(), text.matches(",measured\n").count()), (4, 1), "{text}");
    assert!(text.contains("\nwarmup_ns,60000000000\n"), "{text}");

    let exact = scratch.path("calls.csv");
    fs::write(&exact, "app,func,end_timestamp,duration\na,f,10,1\na,f,70,1\na,f,130,1\n").unwrap();
    let (code, printed, errors) = run(&["inspect", "--trace", &exact, "--start-minute", "1", "--format", "json"]);
    assert_eq!(code, 0, "{errors}");
    let found: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((found["invocations"].as_u64(), found["span_s"].as_u64()), (Some(2), Some(120)), "{printed}");
    let (code, _, errors) = run(&["inspect", "--trace", &exact, "--start-minute", "3"]);
    assert!(
        code == 2 && errors.contains("--start-minute: expected 0 to 2 of a trace of 3 minutes, found 3"),
        "{code}: {errors}"
    );
}

#[test]
fn a_run_of_which_nothing_would_be_measured_is_refused_before_anything_is_sent() {
    let (mock, scratch) = (Mock::data_plane(), Scratch::new());
    let (out, all, address) = (scratch.path("out"), scratch.path("all.csv"), mock.address.to_string());
    let made = run(&["schedule", "--rate", "5", "--duration", "1s", "--warmup", "1s", "--out", &all]);
    assert!(made.0 == 0 && made.1.contains("\nall 5 invocations are warm-up"), "{}{}", made.1, made.2);
    let rate = ["--rate", "5", "--duration", "1s", "--warmup", "1h"];
    for source in [&rate[..], &["--schedule", &all]] {
        let (code, _, errors) = run(&[&["run", "--address", &address, "--out", &out], source].concat());
        assert!(
            code == 2 && errors.contains("all 5 invocations are warm-up") && errors.contains("--warmup"),
            "{errors}"
        );
    }
    assert!(mock.total() == 0 && !fs::exists(&out).unwrap(), "nothing was sent or written");
    let measured = ["run", "--address", &address, "--out", &out, "--schedule", &all, "--warmup", "0s"];
    let (code, _, errors) = run(&measured);
    assert!(code == 0 || code == 3, "{code}: {errors}");
    assert_eq!(mock.total(), 5);
}

#[test]
fn an_inspection_says_what_will_be_sent() {
    let (_scratch, directory) = trace(INVOCATIONS);
    let (code, printed, errors) = run(&["inspect", "--trace", &directory, "--format", "json"]);
    assert_eq!(code, 0, "{errors}");
    let found: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((found["functions"].as_u64(), found["invocations"].as_u64()), (Some(2), Some(5)));
    assert_eq!(found["per_minute"], serde_json::json!([1, 1, 4]));
    assert_eq!(found["top"][0]["invocations"], 3);
    let (code, table, _) = run(&["inspect", "--trace", &directory]);
    assert!(code == 0 && table.contains("per minute") && table.contains("triggers"), "{table}");
}

#[test]
fn a_cold_rate_has_as_many_functions_as_its_cooldown_needs() {
    let scratch = Scratch::new();
    let out = scratch.path("schedule.csv");
    let arguments = [
        "schedule",
        "--rate",
        "2.5",
        "--duration",
        "10s",
        "--cold",
        "--cooldown",
        "3s",
        "--out",
        &out,
        "--format",
        "json",
    ];
    let (code, printed, errors) = run(&arguments);
    assert_eq!(code, 0, "{errors}");
    let found: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((found["functions"].as_u64(), found["invocations"].as_u64()), (Some(8), Some(25)));
}

#[test]
fn a_synthetic_trace_is_written_as_a_directory_that_can_be_read() {
    let scratch = Scratch::new();
    let (out, again, small) = (scratch.path("trace"), scratch.path("again"), scratch.path("small"));
    let synth = |out: &str| run(&["synth", "--functions", "40", "--minutes", "3", "--seed", "5", "--out", out]);
    assert_eq!((synth(&out).0, synth(&again).0), (0, 0));
    for name in ["invocations.csv", "durations.csv", "memory.csv"] {
        assert_eq!(fs::read(format!("{out}/{name}")).unwrap(), fs::read(format!("{again}/{name}")).unwrap(), "{name}");
    }
    let (code, _, errors) = run(&["sample", "--trace", &out, "--functions", "10", "--out", &small]);
    assert_eq!(code, 0, "{errors}");
    let (code, printed, errors) = run(&["inspect", "--trace", &small, "--format", "json"]);
    assert_eq!(code, 0, "{errors}");
    let found: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(found["active"].as_u64(), Some(10));
}

#[test]
fn the_selftest_says_how_late_sleeps_and_sends_are() {
    for protocol in ["http1", "h2c"] {
        let arguments =
            ["selftest", "--rate", "200", "--duration", "300ms", "--protocol", protocol, "--format", "json"];
        let (code, printed, errors) = run(&arguments);
        assert!(code == 0 || code == 3, "{code}: {errors}");
        let found: serde_json::Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(found["answered"].as_u64(), Some(60), "{printed}");
        assert!(found["sleep"]["max_ns"].as_u64().unwrap() > 0 && found["send"]["max_ns"].as_u64().unwrap() > 0);
        assert!(found["pacing"].as_str().unwrap().contains("SCHED_"), "{printed}");
    }
}

#[test]
fn a_message_names_the_option_what_was_expected_and_what_helps() {
    let (scratch, directory) = trace(INVOCATIONS);
    let [file, nothing, made] = ["file", "nothing", "made"].map(|name| scratch.path(name));
    fs::write(&file, "").unwrap();
    let rate = ["--rate", "1", "--duration", "1s"];
    let to = |more: &[&str]| [&["run", "--address", "127.0.0.1:1"], &rate[..], more].concat().join(" ");
    for (typed, code, expected) in [
        (format!("inspect --trace {nothing}"), 2, "--trace: "),
        (format!("inspect --schedule {nothing}"), 2, "--schedule: "),
        (format!("inspect --trace {directory} --missing guess"), 2, "[possible values: refuse, drop, default]"),
        (format!("inspect --trace {directory} --duplicates both"), 2, "[possible values: refuse, first, merge]"),
        ("inspect --arrivals poisson".to_owned(), 2, "[possible values: exponential, uniform"),
        ("inspect --synthetic nonsense".to_owned(), 2, "[possible values: azure, azure-sample"),
        (format!("inspect --trace {directory} --start-minute 2"), 2, "--start-minute: expected 0 to 1 of a trace of 2"),
        (format!("inspect --trace {directory} --functions 9"), 2, "--functions: no sample of 9 functions fits"),
        ("inspect --synthetic azure --minutes 0".to_owned(), 2, "--minutes: expected 1 to 20160"),
        ("inspect --synthetic azure --functions 0".to_owned(), 2, "--functions: expected at least 1"),
        ("inspect --rate -1 --duration 1s".to_owned(), 2, "--rate: expected a rate above 0"),
        ("run --address host --rate 1 --duration 1s --out o".to_owned(), 2, "--address: expected HOST:PORT"),
        (to(&["--out", &file]), 2, "expected a directory, found a file"),
        (to(&["--out", &nothing, "--timeout", "0s"]), 2, "--timeout: expected more than 0"),
        (to(&["--out", &nothing, "--register", "https://host:1"]), 2, "--register: expected http://HOST:PORT"),
        (to(&["--out", &nothing, "--register", "host"]), 2, "--register: expected http://HOST:PORT"),
        (to(&["--out", &made, "--register", "127.0.0.1:1"]), 1, "at http://127.0.0.1:1, the first of them, rate-00000"),
        (
            to(&["--out", &nothing, "--address", "http://h:1"]),
            2,
            "such as 127.0.0.1:8080, without http://, found \"http:",
        ),
        (
            "mock --listen http://h:1".to_owned(),
            2,
            "--listen: expected HOST:PORT, such as 127.0.0.1:8080, without http:",
        ),
        ("proxy --to https://h:1".to_owned(), 2, "--to: expected HOST:PORT, such as 127.0.0.1:8080, without https:"),
        ("mock --listen nonsense".to_owned(), 2, "--listen: expected HOST:PORT"),
        ("proxy --to nonsense".to_owned(), 2, "--to: expected HOST:PORT"),
        (format!("schedule --rate 1 --duration 1s --out {nothing}/no/x"), 1, "--out: "),
        (format!("register --from {nothing}"), 2, "--from "),
    ] {
        let (found, printed, errors) = run(&typed.split(' ').collect::<Vec<_>>());
        assert_eq!((found, printed.as_str()), (code, ""), "{typed}: {errors}");
        assert!(errors.contains(expected), "{typed}: expected {expected:?} in {errors}");
    }
}

#[test]
fn an_existing_trace_is_not_overwritten_without_the_option() {
    let (scratch, directory) = trace(INVOCATIONS);
    let path = format!("{directory}/invocations.csv");
    let sample = ["sample", "--trace", &directory, "--functions", "1", "--out", &directory];
    let (code, _, errors) = run(&sample);
    assert!(code == 2 && errors.contains("invocations.csv is there already; --overwrite"), "{code}: {errors}");
    assert_eq!(fs::read_to_string(&path).unwrap(), INVOCATIONS);
    assert_eq!(run(&[&sample[..], &["--overwrite"]].concat()).0, 0);
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2, "one function is left");
    drop(scratch);
}

/// The end to write to of a pipe that nobody reads from.
fn unread() -> io::PipeWriter {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer
}

#[test]
fn a_reader_of_the_output_that_has_gone_is_no_failure() {
    let (mock, control_plane, scratch) = (Mock::data_plane(), Mock::control_plane(), Scratch::new());
    let (out, from) = (scratch.path("out"), scratch.path("functions.ndjson"));
    let (address, url) = (mock.address.to_string(), format!("http://{}", control_plane.address));
    fs::write(&from, "{\"name\":\"new-1\",\"image\":\"i\"}\n").unwrap();
    for arguments in [
        &["inspect", "--minutes", "1"][..],
        &["completions", "bash"],
        &["--help"],
        &["--version"],
        &["run", "--address", &address, "--out", &out, "--print-config"],
        &["register", "--from", &from, "--control-plane", &url],
    ] {
        let (code, _, errors) = ended(loadgen(arguments).stdout(unread()).output().unwrap());
        assert!(code == 0 && !errors.contains("panicked") && !errors.contains("loadgen:"), "{arguments:?}: {errors}");
    }
    // Nobody reads what is said either; the run goes on to its end all the same.
    let rate = ["--rate", "20", "--duration", "200ms", "--register", &url, "--realtime", "off"];
    let arguments = [&["run", "--address", &address, "--out", &out], &rate[..]].concat();
    let status = loadgen(&arguments).stdout(unread()).stderr(unread()).status().unwrap();
    assert!(matches!(status.code(), Some(0 | 3)), "{status}");
    assert!(scratch.rows().len() == 4 && !scratch.summary().interrupted, "{:?}", scratch.summary());
    assert_eq!(control_plane.count("DELETE rate-00000"), 1);
    let status = loadgen(&["nonsense"]).stdout(unread()).stderr(unread()).status().unwrap();
    assert_eq!(status.code(), Some(2));
}

#[test]
fn the_program_has_the_habits_of_all() {
    let (code, version, _) = run(&["--version"]);
    assert!(code == 0 && version.starts_with("loadgen 0.1.0 ("), "{version}");
    for command in ["run", "schedule", "inspect", "synth", "sample", "register", "selftest", "completions"] {
        let (code, help, _) = run(&[command, "--help"]);
        assert!(
            code == 0 && help.contains("Example") && help.contains(&format!("loadgen {command}")),
            "{command}: {help}"
        );
    }
    let (code, script, _) = run(&["completions", "bash"]);
    assert!(code == 0 && script.contains("_loadgen"));
    let (code, printed, _) =
        run(&["run", "--address", "127.0.0.1:1", "--out", "x", "--timeout", "250ms", "--print-config"]);
    assert_eq!(code, 0);
    let config: toml::Table = printed.parse().unwrap();
    assert_eq!(config["target"]["timeout"].as_str(), Some("250ms"), "{printed}");
    let refused = run(&["run", "--address", "127.0.0.1:1", "--out", "x", "--target", "lambda", "--print-config"]);
    assert!(refused.0 == 2 && refused.1.is_empty() && refused.2.contains("--target: no target"), "{refused:?}");
}

#[test]
fn the_format_of_a_trace_is_detected_or_as_the_option_names_it() {
    let scratch = Scratch::new();
    let (calls, out) = (scratch.path("calls.csv"), scratch.path("schedule.csv"));
    fs::write(&calls, "app,func,end_timestamp,duration\na,f,2,1\n").unwrap();
    let schedule = |format: &str| run(&["schedule", "--trace", &calls, "--trace-format", format, "--out", &out]);
    for format in ["auto", "azure-2021"] {
        let (code, _, errors) = schedule(format);
        assert_eq!(code, 0, "{format}: {errors}");
    }
    let (code, _, errors) = schedule("azure-2019");
    let expected = format!("{calls}: not of the format azure-2019, which --trace-format says: expected a directory");
    assert!(code == 2 && errors.contains(&expected), "{code}: {errors}");
    let (code, _, errors) = schedule("huawei");
    assert!(code == 2 && errors.contains("[possible values: auto, azure-2019, azure-2021]"), "{code}: {errors}");
    fs::write(&calls, "time,name\n1,f\n").unwrap();
    let (code, _, errors) = schedule("auto");
    let expected =
        format!("{calls}: not of a known format (azure-2019: expected a directory, found a file; azure-2021: ");
    assert!(code == 2 && errors.contains(&expected), "{code}: {errors}");
}
