//! The program on small runs whose numbers are worked out by hand.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use std::{fs, time::Duration};

use assert_cmd::Command;
use fixture::{Fixture, MS, load, row, rows_by_hand};
use record::{ClaimOutcome, Claims, PointSummary, RunDir, Spread, Summary, read_json, write_json};

fn analysis() -> Command {
    Command::new(assert_cmd::cargo::cargo_bin!("analysis"))
}

fn summary(fixture: &Fixture) -> Summary {
    read_json(&RunDir(fixture.path().to_owned()).summary()).unwrap()
}

fn reported(fixture: &Fixture) -> PointSummary {
    analysis().arg("report").arg(fixture.path()).assert().success();
    summary(fixture).points.remove(0)
}

fn close(what: &str, found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9 * expected.abs(), "{what} is {found}, expected {expected}");
}

#[test]
fn rows_are_counted_and_rates_taken_over_the_measured_window() {
    let point = reported(&Fixture::by_hand());
    let counts = &point.counts;
    assert_eq!((counts.scheduled, counts.recorded, counts.unaccounted), (Some(6), 6, Some(0)));
    assert_eq!((counts.warmup, counts.measured, counts.sent, counts.functions), (1, 5, 5, 2));
    let outcomes: Vec<_> = counts.outcomes.iter().map(|(outcome, rows)| (outcome.name(), *rows)).collect();
    assert_eq!(outcomes, [("ok", 3), ("refused", 1), ("timeout", 1)]);
    let rates = point.rates.unwrap();
    close("window", rates.window_s, 5.0);
    close("offered", rates.offered_per_s, 1.0);
    close("achieved, with the warm-up row that ends within the window", rates.achieved_per_s, 0.8);
}

#[test]
fn latencies_are_exact() {
    let fixture = Fixture::by_hand();
    fixture.verified();
    let point = reported(&fixture);
    let of = |spread: Option<Spread>| spread.map(|s| (s.count, s.p50, s.p90, s.p99, s.max)).unwrap();
    let ms = i64::try_from(MS).unwrap();
    assert_eq!(of(point.latency_ns), (3, 30 * ms, 40 * ms, 40 * ms, 40 * ms));
    assert_eq!(of(point.scheduling_ns), (3, 10 * ms, 30 * ms, 30 * ms, 30 * ms));
    assert_eq!(of(point.lag_ns), (5, ms / 10, ms / 10, ms / 10, ms / 10));
    assert_eq!(point.validity.lag_bound_ns, MS, "2 % of the 30 ms median is below the floor of 1 ms");
    assert_eq!(point.validity.valid, Some(true));
}

/// a: ratios 2 and 4. b: 1.5, then a time-out and a refusal that count 1,000 ms / 20 ms = 50 when penalised.
#[test]
fn each_slowdown_is_that_worked_out_by_hand() {
    let point = reported(&Fixture::by_hand());
    let expected = [
        ("seed", "penalise", 3.0, 101.5 / 3.0),
        ("seed", "drop", 1.5, 3.0),
        ("artifact", "penalise", 8_f64.sqrt(), 3_750_f64.cbrt()),
        ("artifact", "drop", 8_f64.sqrt(), 75_f64.sqrt()),
        ("mean-kept", "penalise", 3.0, 25.75),
        ("mean-kept", "drop", 1.5, 3.0),
        ("tail", "penalise", 4.0, 50.0),
        ("tail", "drop", 1.5, 4.0),
    ];
    assert_eq!(point.slowdowns.len(), expected.len());
    for (found, (definition, failures, p50, p99)) in point.slowdowns.iter().zip(expected) {
        assert_eq!((found.definition.name(), found.failures.name()), (definition, failures));
        assert_eq!(found.functions, 2);
        close(&format!("{definition}, {failures}: p50"), found.p50, p50);
        close(&format!("{definition}, {failures}: p99"), found.p99, p99);
    }
    close("tail", point.slowdowns[6].geometric_mean.unwrap(), 200_f64.sqrt());
    assert_eq!(
        (point.timeout_ns, point.timeout_from.as_str()),
        (1_000 * MS, "`load.timeout` of the experiment's definition")
    );
}

#[test]
fn a_timeout_on_the_command_line_goes_first() {
    let fixture = Fixture::by_hand();
    analysis().arg("report").arg(fixture.path()).args(["--timeout", "2s"]).assert().success();
    let point = summary(&fixture).points.remove(0);
    close("seed p99", point.slowdowns[0].p99, 201.5 / 3.0);
}

#[test]
fn the_cluster_managers_share_is_of_rows_that_waited_for_a_whole_creation() {
    let fixture = Fixture::by_hand();
    let run = RunDir(fixture.path().to_owned());
    let mut manifest = run.read_manifest().unwrap();
    manifest.points[0].sandbox.delay = Some(Duration::from_millis(6));
    write_json(&run.manifest(), &manifest).unwrap();
    let share = reported(&fixture).cold.overhead_permille.unwrap();
    assert_eq!((share.count, share.p50), (1, 400), "of s1: 1 − 6 / (20 − 10); s2 was begun before its row was sent");
}

#[test]
fn what_a_system_has_set_otherwise_than_released_is_listed() {
    let fixture = Fixture::by_hand();
    let point = RunDir(fixture.path().to_owned()).points().unwrap().remove(0);
    let settings = r#"[{"part":"config-map","key":"a-window","value":"6s","why":"the published experiment sets it"}]"#;
    fs::write(point.settings(), settings).unwrap();
    let without = Fixture::by_hand();
    for (fixture, is_listed) in [(&fixture, true), (&without, false)] {
        reported(fixture);
        let page = fs::read_to_string(fixture.path().join("report/index.html")).unwrap();
        let row = "<tr><td>config-map</td><td><code>a-window</code></td><td><code>6s</code></td>";
        assert_eq!(page.contains(row), is_listed);
        assert_eq!(page.contains("Set otherwise than released"), is_listed);
    }
}

#[test]
fn cold_rows_are_joined_to_their_creations() {
    let point = reported(&Fixture::by_hand());
    assert_eq!((point.cold.known, point.cold.cold), (3, 2));
    let join = point.cold.join.unwrap();
    assert_eq!((join.joined, join.unjoined, join.repeated, join.begun_earlier), (2, 0, 0, 1));
    let residual = join.residual_us.unwrap();
    assert_eq!((residual.min, residual.p50, residual.p99), (-900, -900, 500));
    assert_eq!(join.residual_own_us.unwrap().min, 500);
    assert_eq!(join.manager_share_permille.unwrap().p50, 163, "1 − 6,700 / 8,000");

    let creations = point.creations.unwrap();
    let outcomes: Vec<_> = creations.outcomes.iter().map(|(outcome, rows)| (outcome.name(), *rows)).collect();
    assert_eq!(outcomes, [("failed", 1), ("ready", 2)], "the creation of the warm-up is left out");
    let phases: Vec<_> = creations.phases.iter().map(|one| (one.phase.name(), one.duration_us.p99)).collect();
    let expected = [
        ("decide", 100),
        ("place", 50),
        ("dispatch", 150),
        ("net_worker", 300),
        ("create", 6_000),
        ("ready", 700),
        ("publish", 200),
        ("net_dataplane", 100),
    ];
    assert_eq!(phases, expected);
    close("CPU per invocation", point.processes[0].cpu_us_per_invocation.unwrap(), 100.0);
}

#[test]
fn a_late_generator_makes_the_run_invalid_and_the_report_is_still_written() {
    let fixture = Fixture::new("laptop");
    let mut rows = rows_by_hand();
    for row in &mut rows {
        row.sent_ns = Some(row.scheduled_ns + 3 * MS);
    }
    fixture.repetition("dirigent", 1, &rows, &load(&rows));
    let assert = analysis().arg("report").arg(fixture.path()).assert().code(3);
    let said = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(said.contains("lag p99 is 3.00 ms, above its bound of 1.00 ms"), "{said}");
    let page = fs::read_to_string(fixture.path().join("report/index.html")).unwrap();
    assert!(page.contains("1 of 1 repetitions invalid") && !page.contains("measurement valid"));
}

#[test]
fn rows_that_are_missing_make_the_run_invalid() {
    let fixture = Fixture::new("laptop");
    let rows = rows_by_hand();
    fixture.repetition("dirigent", 1, &rows[..4], &load(&rows));
    analysis().arg("report").arg(fixture.path()).assert().code(3);
    let point = summary(&fixture).points.remove(0);
    assert_eq!(point.counts.unaccounted, Some(2));
    assert_eq!(point.validity.reasons, ["2 scheduled rows are not on record"]);
}

#[test]
fn a_row_recorded_twice_makes_the_run_invalid() {
    let fixture = Fixture::new("laptop");
    let mut rows = rows_by_hand();
    rows.push(rows[3].clone());
    fixture.repetition("dirigent", 1, &rows, &load(&rows[..6]));
    analysis().arg("report").arg(fixture.path()).assert().code(3);
    assert_eq!(summary(&fixture).points[0].counts.duplicated, 1);
}

#[test]
fn rows_that_cannot_be_true_make_the_run_invalid_and_are_in_no_figure() {
    type Change = fn(&mut record::Invocation);
    let cases: [(Change, &str); 5] = [
        (
            |row| row.done_ns = row.sent_ns.map(|sent| sent - 1),
            "1 done before they were sent or, with success, in no time",
        ),
        (
            |row| (row.executed_us, row.done_ns) = (Some(0), row.sent_ns),
            "1 done before they were sent or, with success, in no time",
        ),
        (|row| row.done_ns = Some(row.scheduled_ns - MS), "1 done before they were sent or, with success, in no time"),
        (|row| row.executed_us = Some(1 << 63), "1 with an execution time longer than the invocation took"),
        (|row| row.executed_us = Some(41_000), "1 with an execution time longer than the invocation took"),
    ];
    for (change, expected) in cases {
        let (fixture, mut rows) = (Fixture::new("laptop"), rows_by_hand());
        change(&mut rows[2]);
        fixture.repetition("dirigent", 1, &rows, &load(&rows));
        analysis().arg("report").arg(fixture.path()).assert().code(3);
        let point = summary(&fixture).points.remove(0);
        assert_eq!((point.validity.valid, point.counts.impossible), (Some(false), 1));
        assert_eq!(point.validity.reasons, [format!("impossible rows: {expected} (the first is that of index 2)")]);
        let (latency, scheduling) = (point.latency_ns.unwrap(), point.scheduling_ns.unwrap());
        assert_eq!((latency.count, scheduling.count), (2, 2), "of two possible rows that succeeded");
        assert_eq!(scheduling.min, 10 * i64::try_from(MS).unwrap());
        assert!(point.slowdowns.iter().all(|slowdown| slowdown.p50 > 1.0), "{:?}", point.slowdowns);
        let page = fs::read_to_string(fixture.path().join("report/index.html")).unwrap();
        assert!(page.contains(expected) && page.contains("1 of 1 repetitions invalid"));
    }
}

#[test]
fn a_stop_of_the_load_generator_and_late_reading_make_the_run_invalid() {
    let late = |index, by_ms| {
        let row = row(index, "a", 10 * index, 20 + by_ms, 10);
        record::Invocation { sent_ns: row.sent_ns.map(|sent| sent + by_ms * MS), ..row }
    };
    let rows: Vec<_> = (0..1_000).map(|index| late(index, if index < 5 { 30 } else { 0 })).collect();
    let reading = record::LagSummary { p50_ns: 0, p99_ns: 2 * MS, max_ns: 3 * MS };
    let fixture = Fixture::new("laptop");
    fixture.repetition("dirigent", 1, &rows, &record::LoadSummary { reading: Some(reading), ..load(&rows) });
    analysis().arg("report").arg(fixture.path()).assert().code(3);
    let stop = "5 of 1000 rows were sent more than 10.00 ms late, ten times the bound, more than 0.1 %";
    let read = "the p99 by which reading threads woke late is 2.00 ms, above its bound of 1.00 ms";
    assert_eq!(summary(&fixture).points[0].validity.reasons, [stop, read], "a p99 of 0.1 ms says nothing of either");
}

#[test]
fn a_run_without_any_success_is_invalid() {
    let (fixture, rows) = (Fixture::new("laptop"), [fixture::failed(row(0, "a", 0, 1, 1), record::Outcome::Refused)]);
    fixture.repetition("dirigent", 1, &rows, &load(&rows));
    analysis().arg("report").arg(fixture.path()).assert().code(3);
    assert_eq!(summary(&fixture).points[0].validity.reasons, ["no measured invocation succeeded"]);
}

#[test]
fn calls_of_one_instant_keep_the_order_of_the_schedule_whichever_ended_first() {
    let rows: Vec<_> = (0..40).map(|index| row(index, "a", 1_000 * (index / 8), 8 + index * 37 % 91, 7)).collect();
    let reported = |rows: &[record::Invocation]| {
        let fixture = Fixture::new("laptop");
        fixture.repetition("dirigent", 1, rows, &load(rows));
        self::reported(&fixture)
    };
    let backwards: Vec<_> = rows.iter().rev().cloned().collect();
    assert_eq!(reported(&rows), reported(&backwards), "each sum is the same to its last digit");
}

#[test]
fn without_loadgen_json_validity_is_unknown() {
    let fixture = Fixture::by_hand();
    fs::remove_file(fixture.path().join("dirigent/azure-500/1/loadgen.json")).unwrap();
    let point = reported(&fixture);
    assert_eq!(point.validity.valid, None);
    assert_eq!(point.counts.unaccounted, None);
}

#[test]
fn a_run_in_which_nothing_answered_is_reported_as_not_measured() {
    let fixture = Fixture::new("laptop");
    let unsent = |index| {
        let row = fixture::failed(row(index, "a", index * 10, 1, 1), record::Outcome::Unsent);
        record::Invocation { sent_ns: None, done_ns: None, ..row }
    };
    let rows = [unsent(0), unsent(1)];
    fixture.repetition("dirigent", 1, &rows, &load(&rows));
    analysis().arg("report").arg(fixture.path()).assert().code(3);
    let page = fs::read_to_string(fixture.path().join("report/index.html")).unwrap();
    assert!(page.contains("not measured: no ok invocation reports its execution time"));
    assert!(page.contains("No figure <code>scheduling</code>"));
    assert!(!fixture.path().join("report/figures/scheduling.svg").exists());
}

#[test]
fn a_repetition_that_was_stopped_is_left_out_where_there_are_others() {
    let fixture = Fixture::new("cluster-100");
    let rows = [row(0, "a", 0, 20, 10), row(1, "b", 10, 20, 10)];
    let slower = [row(0, "a", 0, 60, 10), row(1, "b", 10, 60, 10)];
    let stopped = record::LoadSummary { interrupted: true, valid: false, ..load(&slower) };
    fixture.repetition("dirigent-kpa", 1, &rows, &load(&rows));
    fixture.repetition("dirigent-kpa", 2, &slower, &stopped);
    fixture.repetition("knative", 1, &slower, &stopped);
    fixture.verified();
    analysis().arg("report").arg(fixture.path()).assert().code(3);
    let claim = read_json::<Claims>(&RunDir(fixture.path().to_owned()).claims()).unwrap().claims.remove(0);
    assert_eq!(
        (claim.outcome, claim.found),
        (ClaimOutcome::Invalid, None),
        "all there is of knative was stopped: {claim:?}"
    );
    assert!(claim.reason.contains("the load was stopped before its end"), "{}", claim.reason);
    let page = fs::read_to_string(fixture.path().join("report/index.html")).unwrap();
    let row = page.split("<tr>").find(|row| row.contains("End-to-end latency, p50")).unwrap();
    assert!(row.contains("20.0 ms") && row.contains("60.0 ms"), "not 40 ms, of both repetitions: {row}");
    assert_eq!(summary(&fixture).points.len(), 3, "it is listed with the others");
}

/// Five repetitions of each; a function of `knative` is `times` slower than one of `dirigent`.
fn compared(repetitions: u32, times: u64, failures: bool) -> Claims {
    let fixture = Fixture::new("cluster-100");
    for repetition in 1..=repetitions {
        for (system, latency_ms) in [("dirigent-kpa", 20 + u64::from(repetition)), ("knative", 20 * times)] {
            let mut rows = vec![row(0, "a", 0, latency_ms, 10), row(1, "b", 10, latency_ms, 10)];
            if failures && system == "knative" {
                // Without its failures knative is as fast as the other.
                rows = vec![row(0, "a", 0, 22, 10), fixture::failed(row(1, "a", 0, 1, 1), record::Outcome::Error)];
                rows[1].requested_us = 1;
            }
            fixture.repetition(system, repetition, &rows, &load(&rows));
        }
    }
    fixture.verified();
    analysis().arg("report").arg(fixture.path()).assert().success();
    read_json(&RunDir(fixture.path().to_owned()).claims()).unwrap()
}

#[test]
fn a_replay_of_two_rows_is_no_evidence_and_what_it_found_is_shown() {
    for (times, ratio) in [(1_500, 30_000.0 / 23.0), (500, 10_000.0 / 23.0)] {
        let claim = compared(5, times, false).claims.remove(0);
        assert_eq!(claim.outcome, ClaimOutcome::NotMeasured, "{claim:?}");
        let smaller = "`dirigent-kpa`, azure-500, repetition 1 has 2 of 2 in 6 s: smaller is no evidence";
        assert!(claim.reason.ends_with(smaller), "{}", claim.reason);
        close("ratio of medians", claim.found.unwrap(), ratio);
        assert!(claim.p.unwrap() < 0.01 && claim.interval.unwrap().0 > ratio * 0.8);
    }
    let penalised = compared(5, 1, true).claims.remove(0);
    assert!(penalised.found.unwrap() > 1_000.0, "failures count with their time-out: {penalised:?}");
}

#[test]
fn a_claim_whose_interval_contains_its_bound_is_inconclusive_and_never_green() {
    let definition = "[load]\nkind = \"rate\"\nevery = \"60s\"\ncooldown = \"60s\"\ntimeout = \"9s\"\n\
        [sandbox]\nruntime = \"hollow\"\n\
        [[points]]\nname = \"burst-100-delay-500ms\"\nload.burst = 100\nsandbox.delay = \"500ms\"\n";
    let fixture = Fixture::of_rates("overhead", definition, &["knative"]);
    for (repetition, latency_ms) in (1..).zip([1_000, 4_000, 4_000, 4_000, 4_000]) {
        fixture.burst(("knative", "burst-100-delay-500ms", repetition), 100, latency_ms);
    }
    fixture.verified();
    analysis().arg("report").arg(fixture.path()).assert().success();
    let claim = read_json::<Claims>(&RunDir(fixture.path().to_owned()).claims()).unwrap().claims.remove(0);
    assert_eq!(claim.outcome, ClaimOutcome::Inconclusive, "its median is above: {claim:?}");
    close("median", claim.found.unwrap(), 87.5);
    assert!(claim.reason.contains("[50.0; 87.5], contains 65"), "{}", claim.reason);
    let page = fs::read_to_string(fixture.path().join("report/index.html")).unwrap();
    let claims = page.split("<section id=\"claims\">").nth(1).unwrap().split("</table>").next().unwrap();
    assert!(claims.contains("mark warn\">inconclusive") && !claims.contains("mark good"), "{claims}");
}

#[test]
fn a_claim_with_too_few_repetitions_or_no_second_system_is_not_measured() {
    let claims = compared(4, 1_500, false).claims;
    assert_eq!(claims[0].outcome, ClaimOutcome::NotMeasured);
    assert_eq!(claims[0].reason, "`dirigent-kpa` has 4 repetitions, and needs 5");
    assert_eq!(
        (claims[1].outcome, claims[1].reason.as_str()),
        (ClaimOutcome::NotMeasured, "this run has no rows of `dirigent`")
    );
}

#[test]
fn a_report_that_cannot_be_finished_leaves_the_one_that_there_is() {
    let fixture = Fixture::by_hand();
    let run = RunDir(fixture.path().to_owned());
    reported(&fixture);
    let page = run.report().join("index.html");
    let read = || [run.summary(), run.claims(), page.clone()].map(|path| fs::read_to_string(path).unwrap());
    let before = read();
    // A figure that this version does not draw goes with the old report.
    fs::write(run.report().join("figures/older.svg"), "").unwrap();
    fixture.verified();
    // As a full disk would, in the middle of the page, which is the longest file.
    let blocks = page.metadata().unwrap().len() * 3 / 4 / 512;
    let limited = format!("ulimit -f {blocks}; exec \"$0\" report \"$1\"");
    let program = assert_cmd::cargo::cargo_bin!("analysis");
    let output =
        std::process::Command::new("sh").args(["-c", &limited]).arg(program).arg(fixture.path()).output().unwrap();
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(run.unfinished_report().exists(), "it had begun");
    assert!(read() == before && run.report().join("figures/older.svg").exists(), "what was there has changed");
    reported(&fixture);
    let after = read();
    assert!(before.iter().zip(&after).all(|(before, after)| before != after), "all are of the new report");
    assert!(!run.report().join("figures/older.svg").exists() && !run.unfinished_report().exists());
}
