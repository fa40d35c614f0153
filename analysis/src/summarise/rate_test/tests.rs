//! The rule of a sustained rate on rows made by hand: each of its conditions broken once.

use std::collections::BTreeMap;

use record::MachineTime;

use super::*;

const S: u64 = 1_000_000_000;
const TIMEOUT_NS: u64 = 10 * S;

/// `per_s` rows per second for `seconds`, answered after what `latency_ns` says of the second they are due in.
fn rows(seconds: u64, per_s: u64, latency_ns: impl Fn(u64) -> u64) -> Rows {
    let row = |index: u64| {
        let scheduled_ns = index * S / per_s;
        Row {
            index,
            function: 0,
            scheduled_ns,
            sent_ns: Some(scheduled_ns),
            done_ns: Some(scheduled_ns + latency_ns(scheduled_ns / S)),
            requested_ns: 0,
            executed_ns: Some(0),
            outcome: Outcome::Ok,
            cold: Some(true),
        }
    };
    Rows { measured: (0..seconds * per_s).map(row).collect(), ..Rows::default() }
}

/// The test of rows of which `achieved_per_s` were answered in time.
fn evaluate(rows: &Rows, seconds: u64, achieved_per_s: f64, valid: bool) -> SustainedRateTest {
    let mut outcomes: BTreeMap<Outcome, u64> = BTreeMap::new();
    for row in &rows.measured {
        *outcomes.entry(row.outcome).or_default() += 1;
    }
    let count = rows.measured.len() as u64;
    let counts = RowCounts { measured: count, outcomes, ..RowCounts::default() };
    let window_s = seconds as f64;
    let rates = Some(Rates { window_s, offered_per_s: count as f64 / window_s, achieved_per_s });
    let reasons = if valid { Vec::new() } else { vec!["lag p99 is 9.00 ms".to_owned()] };
    let validity = Validity { valid: Some(valid), reasons, ..Validity::default() };
    rate_test(
        rows,
        &Measured {
            counts: &counts,
            rates,
            validity: &validity,
            timeout_ns: TIMEOUT_NS,
            in_bursts: false,
            sampled: None,
        },
        Done::default(),
    )
}

/// A little noise around 50 ms that repeats, so that there is a spread and no growth.
fn steady(second: u64) -> u64 {
    50_000_000 + (second % 7) * 100_000
}

#[test]
fn a_steady_minute_is_sustained() {
    let rate_test = evaluate(&rows(60, 10, steady), 60, 10.0, true);
    assert_eq!(rate_test.sustained, RateCheck { holds: Some(true), reasons: Vec::new() });
    assert_eq!(rate_test.at_objective.holds, Some(true));
    let (slope, upper) = (rate_test.slope_percent_per_min.unwrap(), rate_test.slope_upper_percent_per_min.unwrap());
    assert!(slope.abs() < 1.0 && slope < upper && upper < 5.0, "{slope} {upper}");
}

#[test]
fn latency_that_grows_is_not_sustained() {
    // 6 % of the median in a minute: 51 ms at the median, 3 ms more at the end than at the beginning.
    let rate_test = evaluate(&rows(60, 10, |second| 49_500_000 + second * 3_000_000 / 60), 60, 10.0, true);
    assert_eq!(rate_test.sustained.holds, Some(false));
    assert!(
        rate_test.sustained.reasons[0].starts_with("latency may grow by 5.9 % of its median per minute"),
        "{rate_test:?}"
    );
}

/// A queue that is long stays long for a while: latency wanders and comes back. Were its blocks independent, the bound would stay below 5 % a minute.
#[test]
fn latency_that_wanders_is_not_known_to_be_steady() {
    let mut backlog_ns = 0_i64;
    let wandering: Vec<u64> = (0..100)
        .map(|place| {
            backlog_ns = backlog_ns * 9 / 10 + (place * 7919 % 41 - 20) * 35_000;
            50_000_000_u64.saturating_add_signed(backlog_ns)
        })
        .collect();
    let rows = rows(60, 10, |second| wandering[usize::try_from(second).unwrap()]);
    let rate_test = evaluate(&rows, 60, 10.0, true);
    let phi = rate_test.block_autocorrelation.unwrap();
    assert!(phi > 0.7, "{phi}");
    assert_eq!(rate_test.sustained.holds, Some(false), "{rate_test:?}");
    let seconds = (0..60_u32).zip(&wandering).map(|(second, ns)| (f64::from(second) / 60.0, *ns as f64));
    let independent = stats::theil_sen(&seconds.collect::<Vec<_>>()).unwrap().upper / 50e6 * 100.0;
    assert!(independent < 5.0, "{independent}");
}

#[test]
fn a_pause_of_the_machine_is_no_growth_wherever_it_is() {
    for paused in [1, 30, 58] {
        let latency = |second: u64| if second == paused { 700_000_000 } else { steady(second) };
        let rate_test = evaluate(&rows(60, 10, latency), 60, 10.0, true);
        assert_eq!(rate_test.sustained.holds, Some(true), "in second {paused}: {rate_test:?}");
    }
}

#[test]
fn a_share_not_achieved_or_failed_is_not_sustained_however_short_the_window() {
    let slow = evaluate(&rows(10, 10, steady), 10, 9.4, true);
    assert_eq!(slow.sustained.holds, Some(false));
    assert_eq!(slow.sustained.reasons, ["94.0 % of the offered rate was achieved, below 95 %"]);
    let mut failing = rows(10, 10, steady);
    failing.measured[7].outcome = Outcome::Timeout;
    let failing = evaluate(&failing, 10, 10.0, true);
    assert_eq!(failing.sustained.reasons, ["1.00 % of the invocations failed, not below 1 %"]);
}

#[test]
fn a_short_window_and_a_late_generator_are_not_judged() {
    let short = evaluate(&rows(59, 10, steady), 59, 10.0, true).sustained;
    assert_eq!(short.holds, None);
    assert_eq!(short.reasons, ["a window of 59 s and 590 rows is too short: needs 60 s and 100"]);
    let few = evaluate(&rows(60, 1, steady), 60, 1.0, true).sustained;
    assert_eq!(few.holds, None, "60 rows are too few: {few:?}");
    let late = evaluate(&rows(60, 10, steady), 60, 10.0, false);
    assert_eq!(late.sustained.holds, None);
    assert_eq!(late.sustained.reasons, ["the repetition is not known to be valid", "lag p99 is 9.00 ms"]);
}

#[test]
fn the_objective_counts_failures_with_the_timeout() {
    let mut some = rows(60, 10, steady);
    for row in some.measured.iter_mut().take(5) {
        row.outcome = Outcome::Refused;
        row.done_ns = Some(row.scheduled_ns + 1);
    }
    let rate_test = evaluate(&some, 60, 9.95, true);
    assert_eq!((rate_test.sustained.holds, rate_test.at_objective.holds), (Some(true), Some(true)), "{rate_test:?}");
    let slow = evaluate(&rows(60, 10, |second| steady(second) + 960_000_000), 60, 10.0, true);
    assert_eq!((slow.sustained.holds, slow.at_objective.holds), (Some(true), Some(false)), "{slow:?}");
    assert_eq!(slow.at_objective.reasons, ["latency p99 is 1.01 s with failures penalised, above 1 s"]);
    for row in some.measured.iter_mut().take(7) {
        row.outcome = Outcome::Refused;
    }
    assert_eq!(evaluate(&some, 60, 10.0, true).latency_p99_penalised_ns, Some(TIMEOUT_NS));
}

#[test]
fn what_cpu_time_is_divided_by_was_done_between_the_two_samples() {
    let mut some = rows(10, 10, |_| 0);
    some.warmup_done_ns = vec![S / 2, 3 * S];
    some.measured[30].outcome = Outcome::Timeout;
    let load: LoadSummary = serde_json::from_str(
        r#"{"schema_version":1,"started_unix_ns":100000000000,"schedule_sha256":"","seed":1,"scheduled":1,"sent":1,
        "outcomes":{},"cold":0,"span_ns":1,"lag":{"p50_ns":0,"p99_ns":0,"max_ns":0},"lag_bound_ns":1,"latency_p50_ns":1,
        "latency_p99_ns":1,"cpu_us":1,"wall_us":1,"pacing":"","machine_floor_p99_ns":1,"valid":true,"notes":[],
        "interrupted":false}"#,
    )
    .unwrap();
    let window = SampledWindow {
        from_unix_ns: 102_000_000_000,
        to_unix_ns: 104_950_000_000,
        machine: MachineTime::default(),
        disks: None,
    };
    // From 2 s to 4.95 s: 30 rows, one of which failed, and one of the warm-up.
    let done = Done::of(&some, Some(&load), None, Some(window));
    assert_eq!((done.operations, done.creations), (Some(30), None));
    assert_eq!(Done::of(&some, Some(&load), None, None).operations, None);
    // Each is ready half a second after it was asked for: the second and third within.
    let creation = |requested_ms: i64, outcome: CreationOutcome| ColdStart {
        function: String::new(),
        sandbox: String::new(),
        node: String::new(),
        requested_ns: requested_ms * 1_000_000,
        decide_us: Some(100_000),
        place_us: Some(100_000),
        dispatch_us: None,
        create_us: Some(200_000),
        ready_us: Some(100_000),
        publish_us: Some(900_000),
        net_worker_us: None,
        net_dataplane_us: None,
        outcome,
        create_steps: None,
    };
    let mut creations = vec![
        creation(1_400, CreationOutcome::Ready),
        creation(1_600, CreationOutcome::Ready),
        creation(4_400, CreationOutcome::Ready),
        creation(4_500, CreationOutcome::Ready),
    ];
    creations.push(ColdStart { create_us: None, ..creation(3_000, CreationOutcome::Failed) });
    let ready = |creations: &[ColdStart]| Done::of(&some, Some(&load), Some(creations), Some(window)).creations;
    assert_eq!(ready(&creations), Some(2));
    creations[0].create_us = None;
    assert_eq!(ready(&creations), None, "when one was ready is not known");
}
