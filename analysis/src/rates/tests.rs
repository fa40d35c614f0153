//! Points over repetitions built by hand: CPU time per operation, tests, lines.

use record::{ProcessSummary, RowCounts, SustainedRateTest, Validity};

use super::*;

/// A repetition with `operations` responses, the CPU times of some processes, and the result of its sustained-rate
/// test.
fn repetition(number: u32, operations: u64, processes: &[(&str, u64)], sustained: Option<bool>) -> PointSummary {
    let process = |(name, cpu_us): &(&str, u64)| ProcessSummary {
        process: (*name).to_owned(),
        cpu_us: *cpu_us,
        cpu_us_per_invocation: None,
        rss_bytes: 0,
        ctx_switches: 0,
    };
    let reasons = if sustained == Some(true) { Vec::new() } else { vec![format!("reason {number}")] };
    let judgement = RateCheck { holds: sustained, reasons };
    let counts = RowCounts {
        measured: 100,
        outcomes: BTreeMap::from([(Outcome::Ok, 98), (Outcome::Timeout, 2)]),
        ..RowCounts::default()
    };
    PointSummary {
        system: "s".to_owned(),
        point: "p".to_owned(),
        repetition: number,
        counts,
        rates: None,
        latency_ns: None,
        scheduling_ns: None,
        lag_ns: None,
        slowdowns: Vec::new(),
        timeout_ns: 1,
        timeout_from: String::new(),
        cold: record::ColdSummary::default(),
        anatomy: None,
        creations: None,
        processes: processes.iter().map(process).collect(),
        machine: None,
        rate_test: Some(SustainedRateTest {
            operations: Some(operations),
            sustained: judgement.clone(),
            at_objective: judgement,
            ..SustainedRateTest::default()
        }),
        validity: Validity { valid: Some(true), ..Validity::default() },
        notes: Vec::new(),
    }
}

#[test]
fn cpu_time_is_per_response_by_role_and_for_system_and_machine() {
    let processes = [
        ("control-plane", 1_000),
        ("worker-1", 300),
        ("worker-2", 500),
        ("worker-1 sandboxes", 50),
        ("load-generator", 2_000),
        ("runner", 10),
        ("machine", 5_000),
    ];
    let first = repetition(1, 100, &processes, Some(true));
    let second = repetition(2, 200, &processes, Some(true));
    let all = [&first, &second];
    let costs: Vec<(String, f64, f64)> =
        super::processes(&all).into_iter().map(|cost| (cost.process, cost.cpu_us.min, cost.cpu_us.max)).collect();
    let expected = [
        ("control-plane", 5.0, 10.0),
        ("worker", 4.0, 8.0),
        ("worker sandboxes", 0.25, 0.5),
        ("load-generator", 10.0, 20.0),
        ("runner", 0.05, 0.1),
    ];
    let expected = expected.map(|(role, min, max)| (role.to_owned(), min, max));
    assert_eq!(costs, expected);
    assert_eq!(cpu_us(&first, is_of_the_system), Some(18.5));
    assert_eq!(cpu_us(&first, is_machine), Some(50.0));
    assert_eq!(cpu_us(&repetition(1, 0, &processes, None), is_of_the_system), None, "without answers there is no cost");
}

#[test]
fn a_rate_must_be_sustained_in_every_repetition() {
    let evaluate = |checks: &[Option<bool>]| {
        let all: Vec<PointSummary> = (1..).zip(checks).map(|(n, holds)| repetition(n, 1, &[], *holds)).collect();
        in_all(&all.iter().collect::<Vec<_>>(), |rate_test| &rate_test.sustained)
    };
    assert_eq!(evaluate(&[Some(true), Some(true)]), RateCheck { holds: Some(true), reasons: Vec::new() });
    let no = evaluate(&[Some(true), None, Some(false)]);
    assert_eq!((no.holds, no.reasons), (Some(false), vec!["reason 3 (1 of 3 repetitions)".to_owned()]));
    let unknown = evaluate(&[Some(true), None]);
    assert_eq!((unknown.holds, unknown.reasons), (None, vec!["reason 2 (1 of 2 repetitions)".to_owned()]));
    assert_eq!(evaluate(&[]).holds, None);
}

#[test]
fn an_interval_needs_five_repetitions() {
    let four = estimate(&[4.0, 1.0, 3.0, 2.0]).unwrap();
    assert_eq!((four.count, four.median, four.min, four.max, four.interval), (4, 2.5, 1.0, 4.0, None));
    let five = estimate(&[4.0, 1.0, 3.0, 2.0, 5.0]).unwrap();
    assert_eq!((five.median, five.interval), (3.0, Some((1.0, 5.0))));
    assert_eq!(estimate(&[]), None);
}

#[test]
fn points_that_differ_in_their_rate_only_are_one_line() {
    let point = |rate: f64, values: &[(&str, &str)], sustained: Option<bool>| RatePoint {
        system: "s".to_owned(),
        point: format!("p{rate}"),
        values: values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        repetitions: 1,
        valid_repetitions: 1,
        offered_per_s: estimate(&[rate]),
        achieved_per_s: None,
        ok_percent: None,
        failures: BTreeMap::new(),
        latency_p50_ms: None,
        latency_p99_ms: None,
        latency_p999_ms: None,
        cold_percent: None,
        overhead_percent: None,
        lag_p99_ms: None,
        slope_upper_percent_per_min: None,
        block_autocorrelation: None,
        processes: Vec::new(),
        system_cpu_us: None,
        machine_cpu_us: None,
        machine_cores: None,
        sustained: RateCheck { holds: sustained, reasons: Vec::new() },
        at_objective: RateCheck::default(),
    };
    let points = [
        point(2000.0, &[("load.rate", "2000"), ("sandbox.delay", "40ms")], Some(false)),
        point(500.0, &[("load.rate", "500"), ("sandbox.delay", "40ms")], Some(true)),
        point(500.0, &[("load.rate", "500"), ("sandbox.delay", "0s")], Some(false)),
        point(1000.0, &[("load.rate", "1000"), ("sandbox.delay", "40ms")], None),
    ];
    let lines = lines(&points);
    let labels: Vec<&str> = lines.iter().map(|line| line.label.as_str()).collect();
    assert_eq!(labels, ["s, delay 40ms", "s, delay 0s"]);
    let rates: Vec<f64> = lines[0].points.iter().map(|point| offered(point)).collect();
    assert_eq!(rates, [500.0, 1000.0, 2000.0]);
    let kept = |line: &Line<'_>| line.highest_kept_up().map(offered);
    assert_eq!(kept(&lines[0]), Some(1000.0), "what was not judged was not found too high");
    assert_eq!(kept(&lines[1]), Some(500.0), "else the lowest, to say that not even it was kept up");
}

#[test]
fn equal_processes_have_one_role() {
    let roles = ["worker-12", "worker-1 sandboxes", "control-plane", "machine"].map(role);
    assert_eq!(roles, ["worker", "worker sandboxes", "control-plane", "machine"]);
}
