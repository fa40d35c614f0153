//! Azure 2021 files: exact replay, its legal oddities, and refusals.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{fs, time::Duration};

use trace::{Due, ExactTrace, Phase, Schedule, ScheduleOptions, TraceError, azure2021};

fn read(text: &str) -> Result<ExactTrace, TraceError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("calls.csv");
    fs::write(&path, text).unwrap();
    azure2021::read(&path)
}

const A: &str = "aaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbb";

#[test]
fn calls_are_replayed_at_their_starts_for_their_durations() {
    let exact = read(&format!("app,func,end_timestamp,duration\nx,{B},61.5,0.25\nx,{A},2,1.5\nx,{B},2.5,2\n")).unwrap();
    assert_eq!(exact.functions, ["f-bbbbbbbbbbbbbbbb", "f-aaaaaaaaaaaaaaaa"]);
    assert_eq!(exact.span_ns, 120_000_000_000);
    let options = ScheduleOptions { warmup: Duration::from_secs(1), ..ScheduleOptions::default() };
    let schedule = Schedule::from_exact(&exact, &options).unwrap();
    let names: Vec<&str> = schedule.functions.iter().map(|function| function.name.as_str()).collect();
    assert_eq!(names, ["f-aaaaaaaaaaaaaaaa", "f-bbbbbbbbbbbbbbbb"]);
    let due = |due_ns, function, run_us, phase| Due { due_ns, function, run_us, memory_mib: 170, phase };
    let expected = [
        // Two calls that start together.
        due(500_000_000, 0, 1_500_000, Phase::Warmup),
        due(500_000_000, 1, 2_000_000, Phase::Warmup),
        due(61_250_000_000, 1, 250_000, Phase::Measured),
    ];
    assert_eq!(schedule.invocations, expected);
    assert_eq!(schedule.settings["arrivals"], "exact");
}

#[test]
fn values_clamped_to_bounds_are_counted() {
    let exact =
        read(&format!("app,func,end_timestamp,duration\nx,{A},5,0\nx,{A},6,1\nx,{B},9,3\nx,{B},9,9\n")).unwrap();
    let options = ScheduleOptions { max_run: Some(Duration::from_secs(2)), ..ScheduleOptions::default() };
    let notes = Schedule::from_exact(&exact, &options).unwrap().notes;
    let [raised, lowered] = &notes[..] else { panic!("expected two notes, found {notes:?}") };
    assert!(raised.starts_with("1 of 4") && raised.contains("--min-run"), "{raised}");
    assert!(lowered.starts_with("2 of 4") && lowered.contains("--max-run"), "{lowered}");
    let free = ScheduleOptions { min_run: Duration::ZERO, ..ScheduleOptions::default() };
    assert_eq!(Schedule::from_exact(&exact, &free).unwrap().notes, Vec::<String>::new());
}

#[test]
fn calls_of_one_instant_keep_the_order_of_their_rows() {
    let rows = [B, A, B, A, A, B].map(|function| format!("x,{function},5,1\n")).concat();
    let exact = read(&format!("app,func,end_timestamp,duration\n{rows}")).unwrap();
    let schedule = Schedule::from_exact(&exact, &ScheduleOptions::default()).unwrap();
    assert_eq!(schedule.invocations.iter().map(|due| due.function).collect::<Vec<_>>(), [1, 0, 1, 0, 0, 1]);
    // 0.2 s each, and as differences of binary numbers three different ones.
    let rows = "x,f1,0.5,0.3\nx,f2,0.3,0.1\nx,f3,1.2,1.0\n";
    let exact = read(&format!("app,func,end_timestamp,duration\n{rows}")).unwrap();
    let starts: Vec<(u32, u64)> = exact.calls.iter().map(|call| (call.function, call.start_ns)).collect();
    assert_eq!(starts, [(0, 200_000_000), (1, 200_000_000), (2, 200_000_000)]);
}

#[test]
fn a_negative_first_start_an_end_at_zero_and_a_run_of_nothing_are_legal() {
    let exact = read(&format!("app,func,end_timestamp,duration\nx,{A},0,0\nx,{A},1,3\nx,{B},2,0\n")).unwrap();
    let starts: Vec<u64> = exact.calls.iter().map(|call| call.start_ns).collect();
    assert_eq!(starts, [0, 2_000_000_000, 4_000_000_000], "the earliest start, -2 s, is the zero");
    let schedule = Schedule::from_exact(&exact, &ScheduleOptions::default()).unwrap();
    assert_eq!(schedule.invocations[1].run_us, 1000, "held within the least run time");
}

#[test]
fn a_cut_keeps_calls_that_start_inside_even_if_they_end_outside() {
    let mut exact = read(&format!("app,func,end_timestamp,duration\nx,{A},50,1\nx,{B},200,80\nx,{A},190,1\n")).unwrap();
    exact.cut(1, 2).unwrap();
    assert_eq!(exact.functions, ["f-bbbbbbbbbbbbbbbb"]);
    assert_eq!((exact.calls.len(), exact.calls[0].start_ns, exact.calls[0].run_us), (1, 60_000_000_000, 80_000_000));
    let refusal = |start, minutes| exact.clone().cut(start, minutes).unwrap_err().to_string();
    assert_eq!(refusal(2, 1), "--start-minute: expected 0 to 1 of a trace of 2 minutes, found 2");
    assert_eq!(refusal(1, 2), "--minutes: expected 1 to 1, which the trace has from minute 1 on, found 2");
    assert_eq!(refusal(0, 0), "--minutes: expected 1 to 2, which the trace has, found 0");
}

#[test]
fn bad_rows_are_refused_with_row_and_column() {
    for (row, expected) in [
        ("x,f,1,-1", "row 3, column duration: expected a number of seconds from 0"),
        ("x,f,NaN,1", "row 3, column end_timestamp: expected a finite number"),
        ("x,f,1e300,1", "row 3, column end_timestamp: expected a number of seconds from 0"),
        ("x,f,soon,1", "row 3, column end_timestamp: expected a finite number"),
        ("x,,1,1", "row 3, column func: expected a name"),
        ("x,f,1", "row 3: expected 4 columns"),
    ] {
        let error = read(&format!("app,func,end_timestamp,duration\nx,f,1,1\n{row}\n")).unwrap_err().to_string();
        assert!(error.contains(expected), "{row}: expected {expected}, found {error}");
    }
    assert!(read("app,func,end,duration\n").unwrap_err().to_string().contains("column end_timestamp"));
    assert!(read("app,func,end_timestamp,duration\n").unwrap_err().to_string().contains("at least one call"));
}
