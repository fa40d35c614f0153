//! The program's door: files that cannot be read, what it prints, and its exit codes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use std::{
    fs,
    path::PathBuf,
    process,
    time::{Duration, Instant},
};

use assert_cmd::Command;
use fixture::{Fixture, load, rows_by_hand};
use record::{DirectoryLock, Holder, Invocation, Summary};

fn analysis() -> Command {
    Command::new(assert_cmd::cargo::cargo_bin!("analysis"))
}

/// Runs `report` on the fixture, expects this exit code and every phrase on standard error.
fn refused(fixture: &Fixture, code: i32, phrases: &[&str]) {
    let assert = analysis().arg("report").arg(fixture.path()).assert().code(code);
    let said = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(programs::is_one_error(&said), "{said}");
    for phrase in phrases {
        assert!(said.contains(phrase), "expected `{phrase}` in: {said}");
    }
}

fn file(fixture: &Fixture, name: &str) -> PathBuf {
    fixture.path().join("dirigent/azure-500/1").join(name)
}

/// Writes rows as text instead of through the writer.
fn write_rows(fixture: &Fixture, csv: &str) {
    fs::write(file(fixture, "invocations.csv.zst"), zstd(csv)).unwrap();
}

fn zstd(text: &str) -> Vec<u8> {
    // A frame of one raw block needs no compressor: magic, no checksum, window descriptor, block header, bytes.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    let header = (u32::try_from(text.len()).unwrap() << 3) | 1;
    frame.extend(&header.to_le_bytes()[..3]);
    frame.extend(text.as_bytes());
    frame
}

const HEADER: &str = "function,index,phase,scheduled_ns,sent_ns,first_byte_ns,done_ns,requested_us,memory_mib,executed_us,queue_us,\
                      cold_us,exec_us,status,outcome,cold,sandbox,attempts,error,address\n";

#[test]
fn a_missing_manifest_is_named() {
    let fixture = Fixture::by_hand();
    fs::remove_file(fixture.path().join("manifest.json")).unwrap();
    refused(&fixture, 2, &["cannot read the run", " holds no run: there is no manifest.json in it"]);
}

#[test]
fn a_malformed_manifest_is_named_with_its_line() {
    let fixture = Fixture::by_hand();
    fs::write(fixture.path().join("manifest.json"), "{\n \"schema_version\": \"one\"}").unwrap();
    refused(&fixture, 2, &["manifest.json", "line 2", "expected u32"]);
}

#[test]
fn a_newer_run_is_refused() {
    let fixture = Fixture::by_hand();
    let path = fixture.path().join("manifest.json");
    let text = fs::read_to_string(&path).unwrap().replace("\"schema_version\": 1", "\"schema_version\": 99");
    fs::write(&path, text).unwrap();
    refused(&fixture, 2, &["schema version 99", "reads up to 1"]);
}

#[test]
fn a_run_without_rows_says_where_they_should_be() {
    refused(&Fixture::new("laptop"), 2, &["no rows found", "<system>/<point>/<repetition>/invocations.csv.zst"]);
}

#[test]
fn rows_that_are_not_compressed_are_refused() {
    let fixture = Fixture::by_hand();
    fs::write(file(&fixture, "invocations.csv.zst"), "function,index\nf,1\n").unwrap();
    refused(&fixture, 2, &["invocations.csv.zst", "expected zstd frames"]);
}

#[test]
fn a_value_that_is_not_a_number_is_named_with_its_row() {
    let fixture = Fixture::by_hand();
    let good = "f,0,measured,0,1,,2,1,1,1,,,,200,ok,0,,1,,\n";
    write_rows(&fixture, &format!("{HEADER}{good}f,1,measured,-5,1,,2,1,1,1,,,,200,ok,0,,1,,\n"));
    refused(&fixture, 2, &["invocations.csv.zst, row 3", "invalid digit"]);
    write_rows(&fixture, &format!("{HEADER}{good}f,1,measured,0,1,,2,1,1,1,,,,200,fine,0,,1,,\n"));
    refused(&fixture, 2, &["row 3", "unknown variant `fine`", "expected one of `ok`, `refused`"]);
    write_rows(&fixture, &format!("{HEADER}{good}f,1,measured,0,1,,2,1,1,1,,,,200,ok,7,,1,,\n"));
    refused(&fixture, 2, &["row 3", "column `cold`", "expected 1, 0 or nothing, found 7"]);
}

#[test]
fn a_missing_column_is_named() {
    let fixture = Fixture::by_hand();
    write_rows(&fixture, "function,index\nf,0\n");
    refused(&fixture, 2, &["invocations.csv.zst, row 2", "missing field `phase`"]);
}

#[test]
fn malformed_tables_beside_the_rows_are_refused() {
    for (name, text, problem) in [
        ("coldstarts.csv", "function,sandbox\nf,s\n", "missing field"),
        ("processes.csv", "process,cpu_user_us,cpu_sys_us,rss_bytes,ctx_switches\np,x,1,1,1\n", "invalid digit"),
        ("loadgen.json", "{", "line 1"),
    ] {
        let fixture = Fixture::by_hand();
        fs::write(file(&fixture, name), text).unwrap();
        refused(&fixture, 2, &[name, problem]);
    }
}

#[test]
fn a_file_that_was_cut_off_keeps_its_rows_and_is_called_incomplete() {
    let fixture = Fixture::by_hand();
    let path = file(&fixture, "invocations.csv.zst");
    let whole = fs::metadata(&path).unwrap().len();
    fs::File::options().write(true).open(&path).unwrap().set_len(whole - 5).unwrap();
    let assert = analysis().args(["report", "--format", "json"]).arg(fixture.path()).assert().code(3);
    let summary: Summary = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    assert_eq!((summary.points[0].counts.recorded, summary.points[0].counts.unaccounted), (5, Some(1)));
}

#[test]
fn a_report_that_cannot_be_written_is_a_failure_and_not_bad_input() {
    let fixture = Fixture::by_hand();
    fs::write(fixture.path().join("report"), "a file where the folder should be").unwrap();
    refused(&fixture, 1, &["cannot write", "report"]);
}

#[test]
fn a_run_that_another_process_writes_into_is_not_reported_and_its_holder_is_named() {
    let fixture = Fixture::by_hand();
    let written = || ["summary.json", "claims.json", "report"].map(|name| fixture.path().join(name).exists());
    let [since, purpose] = ["2026-01-02T03:04:05Z", "repro run toy"].map(str::to_owned);
    let first = DirectoryLock::take(fixture.path(), &Holder { process: 7, since, purpose }).unwrap();
    refused(&fixture, 1, &[" is in use by process 7 (repro run toy) since 2026-01-02T03:04:05Z"]);
    assert_eq!(written(), [false; 3], "nothing was written");
    // Who only reads waits for nobody.
    let claims = analysis().arg("claims").arg(fixture.path()).assert();
    assert!(claims.get_output().stderr.is_empty() && written() == [false; 3], "{claims:?}");
    // Its holder has the report made, and keeps the lock.
    analysis().arg("report").arg(fixture.path()).arg("--under-lock").assert().success();
    assert_eq!(written(), [true; 3]);
    DirectoryLock::check(fixture.path()).unwrap_err();
    drop(first);
    analysis().arg("report").arg(fixture.path()).assert().success();
    DirectoryLock::check(fixture.path()).unwrap();
}

#[test]
fn a_lock_that_none_of_its_callers_holds_is_respected_whatever_is_claimed() {
    let fixture = Fixture::by_hand();
    let lock = fixture.path().join("lock");
    fs::write(&lock, "").unwrap();
    let mut holder =
        process::Command::new("flock").arg(&lock).arg("cat").stdin(process::Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while DirectoryLock::check(fixture.path()).is_ok() {
        assert!(Instant::now() < until, "expected that another process holds the lock");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let assert = analysis().arg("report").arg(fixture.path()).arg("--under-lock").assert().code(1);
    let said = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(
        said.contains("--under-lock: the lock is held, but by none of the processes that started this one"),
        "{said}"
    );
    assert!(said.contains("is in use by") && !fixture.path().join("report").exists(), "{said}");
    drop(holder.stdin.take());
    holder.wait().unwrap();
    analysis().arg("report").arg(fixture.path()).arg("--under-lock").assert().success();
}

#[test]
fn a_report_without_a_holder_is_locked_and_what_is_no_run_gets_no_lock() {
    let fixture = Fixture::by_hand();
    let lock = fixture.path().join("lock");
    for under_lock in [&["--under-lock"][..], &[]] {
        analysis().arg("report").arg(fixture.path()).args(under_lock).assert().success();
        assert_eq!(fs::read_to_string(&lock).unwrap(), "", "it was taken, and given back");
        fs::remove_file(&lock).unwrap();
    }
    let nowhere = fixture.path().join("nowhere");
    analysis().arg("report").arg(&nowhere).assert().code(2);
    assert!(!nowhere.exists());
}

#[test]
fn wrong_usage_is_two() {
    analysis().arg("reprot").assert().code(2);
    analysis().args(["report", "x", "--timeout", "soon"]).assert().code(2);
}

#[test]
fn results_are_on_standard_output_in_each_form() {
    let fixture = Fixture::by_hand();
    let print = |format: &str| {
        let assert = analysis().args(["report", "--format", format]).arg(fixture.path()).assert().success();
        String::from_utf8(assert.get_output().stdout.clone()).unwrap()
    };
    let table = print("table");
    assert!(table.contains("dirigent") && table.contains("33.8") && table.contains("knative: not measured"), "{table}");
    let summary: Summary = serde_json::from_str(&print("json")).unwrap();
    assert_eq!(summary.points.len(), 1);
    let csv = print("csv");
    assert!(csv.starts_with("system,point,repetition,statistic,value,unit\n"), "{csv}");
    assert!(csv.contains("dirigent,azure-500,1,scheduling.p99,30,ms\n"), "{csv}");
}

#[test]
fn the_same_run_gives_the_same_files() {
    let fixture = Fixture::by_hand();
    let made = || {
        analysis().arg("report").arg(fixture.path()).assert().success();
        ["summary.json", "claims.json", "report/index.html", "report/figures/slowdown.svg"]
            .map(|name| fs::read(fixture.path().join(name)).unwrap())
    };
    assert_eq!(made(), made());
}

#[test]
fn exported_rows_are_the_rows_recorded() {
    let fixture = Fixture::by_hand();
    let assert = analysis().args(["export", "--table", "invocations"]).arg(fixture.path()).assert().success();
    let mut csv = csv::Reader::from_reader(assert.get_output().stdout.as_slice());
    let heads = csv.headers().unwrap().clone();
    assert_eq!(heads.iter().take(3).collect::<Vec<_>>(), ["system", "point", "repetition"]);
    assert_eq!(heads.iter().skip(3).collect::<Vec<_>>().join(",") + "\n", HEADER);
    let rows: Vec<Invocation> = csv.deserialize().map(Result::unwrap).collect();
    assert_eq!(rows, rows_by_hand());
}

#[test]
fn exported_functions_hold_each_definition() {
    let fixture = Fixture::by_hand();
    let assert = analysis().args(["export", "--table", "functions"]).arg(fixture.path()).assert().success();
    let text = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    assert!(text.contains("dirigent,azure-500,1,a,seed,penalise,3\n"), "{text}");
    assert!(text.contains("dirigent,azure-500,1,b,mean-kept,drop,1.5\n"), "{text}");
    assert_eq!(text.lines().count(), 1 + 2 * 4 * 2, "two functions, four definitions, two policies");
}

#[test]
fn one_figure_is_written_where_it_is_asked_for() {
    let fixture = Fixture::by_hand();
    let path = fixture.path().join("one.svg");
    analysis().arg("figure").arg(fixture.path()).args(["phases", "--output"]).arg(&path).assert().success();
    assert!(fs::read_to_string(path).unwrap().starts_with("<svg xmlns"));
    let bare = Fixture::new("laptop");
    let rows = rows_by_hand();
    bare.repetition("dirigent", 1, &rows, &load(&rows));
    let assert = analysis().arg("figure").arg(bare.path()).arg("phases").assert().code(2);
    let said = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(said.contains("no system measured the phases"), "{said}");
}

#[test]
fn a_full_disk_is_a_failure_that_leaves_no_cut_file() {
    let fixture = Fixture::by_hand();
    for what in [&["figure", "phases"][..], &["export", "--table", "invocations"]] {
        let mut command = process::Command::new(assert_cmd::cargo::cargo_bin!("analysis"));
        command.args(&what[..1]).arg(fixture.path()).args(&what[1..]);
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = command.stdout(full).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{what:?}: {said}");
        assert!(said.contains("No space left on device"), "{what:?}: {said}");
        assert!(programs::is_one_error(&said), "{what:?}: {said}");
    }
}

#[test]
fn a_file_that_cannot_be_written_to_its_end_leaves_the_one_before() {
    let fixture = Fixture::by_hand();
    let path = fixture.path().join("one.svg");
    // No file may be longer than a block of 512 bytes; without the signal that would end the program.
    let limited = "trap '' XFSZ; ulimit -f 1; exec \"$0\" figure \"$1\" phases --output \"$2\"";
    let figure = || {
        let mut shell = process::Command::new("sh");
        shell.args(["-c", limited]).arg(assert_cmd::cargo::cargo_bin!("analysis")).arg(fixture.path()).arg(&path);
        let output = shell.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("cannot write {}\n  caused by: File too large", path.display())), "{said}");
    };
    let names = || {
        let mut names: Vec<_> = fs::read_dir(fixture.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    figure();
    assert_eq!(names(), before, "nothing is left of it");
    fs::write(&path, "the one before").unwrap();
    let before = names();
    figure();
    assert_eq!((names(), fs::read_to_string(&path).unwrap()), (before, "the one before".to_owned()));
}

#[test]
fn help_has_examples_and_version_has_a_revision() {
    let help = analysis().arg("--help").assert().success();
    assert!(String::from_utf8_lossy(&help.get_output().stdout).contains("Examples:\n  analysis report "));
    for command in ["report", "claims", "compare", "figure", "export", "completions"] {
        let help = analysis().args([command, "--help"]).assert().success();
        let help = String::from_utf8_lossy(&help.get_output().stdout).into_owned();
        assert!(help.contains(&format!("Example: analysis {command} ")), "{help}");
    }
    let version = analysis().arg("--version").assert().success();
    let version = String::from_utf8(version.get_output().stdout.clone()).unwrap();
    assert!(version.starts_with("analysis 0.1.0 (") && version.trim_end().ends_with(')'), "{version}");
    let completions = analysis().args(["completions", "bash"]).assert().success();
    assert!(String::from_utf8_lossy(&completions.get_output().stdout).contains("analysis"));
}

#[test]
fn no_text_of_a_run_commands_a_terminal() {
    let fixture = Fixture::by_hand();
    let name = "a\u{1b}[2J\u{9b}1m\u{202e}\u{7}b";
    fs::rename(fixture.path().join("dirigent"), fixture.path().join(name)).unwrap();
    let run = fixture.path();
    for arguments in [["report", "--format", "table"], ["report", "--format", "csv"], ["report", "--format", "json"]] {
        let mut command = analysis();
        command.arg(arguments[0]).arg(run).args(&arguments[1..]);
        let output = command.output().unwrap();
        let (printed, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        let commands = |text: &str| text.contains(|c: char| c == '\u{202e}' || (c.is_control() && c != '\n'));
        assert!(!commands(&printed) && !commands(&said), "{arguments:?}: {printed:?}\n{said:?}");
        if arguments.contains(&"json") {
            let summary: Summary = serde_json::from_str(&printed).unwrap();
            assert_eq!(summary.points[0].system, name, "a program reads the same value");
        } else {
            assert!(printed.contains(r"a\u{1b}[2J\u{9b}1m\u{202e}\u{7}b"), "{arguments:?}: {printed}");
        }
    }
}
