//! `repro verify`: each invariant is broken once in a finished run, and found.

use std::fs;

use record::{ColdStart, CreationOutcome, Invocation, Outcome, TableWriter, read_table};

use crate::toy::{Toy, rows, said, write_rows};

pub(crate) fn finished() -> Toy {
    let toy = Toy::new("well");
    let output = toy.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    toy
}

/// The exit code of `repro verify` and the outcome of one invariant.
pub(crate) fn check(toy: &Toy, rule: &str) -> (Option<i32>, String) {
    let output =
        toy.command(&["verify", toy.path("out").to_str().unwrap(), "--all", "--format", "json"]).output().unwrap();
    let found: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let line = found.as_array().unwrap().iter().find(|line| line["invariant"].as_str().unwrap().contains(rule));
    let line = line.unwrap_or_else(|| panic!("no invariant {rule:?} in {found:#}"));
    (output.status.code(), line["outcome"].as_str().unwrap().to_owned())
}

/// Result of an invariant after a change of the rows.
pub(crate) fn check_changed(toy: &Toy, change: impl FnOnce(&mut Vec<Invocation>), rule: &str) -> (Option<i32>, String) {
    let mut changed = rows();
    change(&mut changed);
    write_rows(&toy.point().invocations(), &changed);
    check(toy, rule)
}

/// Sends a row so many nanoseconds later, and takes no less to answer it.
fn late(row: &mut Invocation, by_ns: u64) {
    for at in [&mut row.sent_ns, &mut row.first_byte_ns, &mut row.done_ns] {
        *at = at.map(|ns| ns + by_ns);
    }
}

#[test]
fn every_invariant_holds_in_a_good_run_and_is_reported_when_broken() {
    let toy = finished();
    let broken = (Some(3), "not held".to_owned());
    type Change = fn(&mut Vec<Invocation>);
    let changes: [(Change, &str); 17] = [
        (|rows| drop(rows.pop()), "every scheduled row is there once"),
        (|rows| rows[2].index = 1, "every scheduled row is there once"),
        (|rows| rows[1].scheduled_ns += 1, "every scheduled row is there once"),
        (|rows| rows[1].function = "g".to_owned(), "no unknown function"),
        (|rows| rows[1].outcome = Outcome::Timeout, "outcomes as the load generator counted"),
        (|rows| rows.iter_mut().for_each(|row| late(row, 1_500_000)), "lag p99"),
        (|rows| late(&mut rows[2], 101_000_000), "the load generator did not stop"),
        (|rows| rows[1].done_ns = rows[1].sent_ns.map(|sent| sent - 1), "no row is impossible"),
        (|rows| rows[1].sent_ns = Some(rows[1].scheduled_ns - 1), "no row is impossible"),
        (|rows| rows[1].executed_us = Some(1 << 63), "no row is impossible"),
        (|rows| (rows[1].queue_us, rows[1].exec_us) = (Some(1 << 63), Some(u64::MAX)), "no row is impossible"),
        (|rows| rows.iter_mut().for_each(|row| row.outcome = Outcome::Refused), "an invocation succeeded"),
        (|rows| rows[0].sandbox = Some("1-9".to_owned()), "cold rows have a new sandbox"),
        (|rows| rows[1].cold = Some(1), "cold rows arrived before"),
        (|rows| rows[1].cold = Some(1), "no sandbox had responded before"),
        (|rows| rows[0].cold = Some(0), "warm rows found their sandbox ready"),
        (|rows| rows[1].exec_us = Some(9000), "phases never exceed the latency"),
    ];
    for (change, rule) in changes {
        assert_eq!(check_changed(&toy, |_| {}, rule), (Some(0), "held".to_owned()), "{rule}, unchanged");
        assert_eq!(check_changed(&toy, change, rule), broken, "{rule}, broken");
    }
    let known = "rows with a response are known to be cold or warm";
    assert_eq!(check_changed(&toy, |rows| rows[1].cold = None, known), (Some(0), "marked".to_owned()));
    let waits = "phases of a creation never exceed the wait for it";
    assert_eq!(check_changed(&toy, |rows| rows[0].cold_us = Some(1000), waits), broken);
}

/// A sandbox `1-2` beside `1-1`, requested when the second row is sent; the third row is its.
pub(crate) fn second(requested_ns: i64) -> ColdStart {
    let phase = Some(1);
    ColdStart {
        function: "f".to_owned(),
        sandbox: "1-2".to_owned(),
        node: "n".to_owned(),
        requested_ns,
        decide_us: phase,
        place_us: phase,
        dispatch_us: phase,
        create_us: Some(3000),
        ready_us: phase,
        publish_us: phase,
        net_worker_us: phase,
        net_dataplane_us: phase,
        outcome: CreationOutcome::Ready,
        create_steps: None,
    }
}

/// A change of the second row.
pub(crate) type Change<'a> = &'a dyn Fn(&mut Invocation);
/// A creation, changes of the second row, a rule, and the exit code and outcome that follow.
pub(crate) type Case<'a> = (&'a ColdStart, Vec<Change<'a>>, &'a str, (Option<i32>, &'a str));

/// Judges each case with its creation after those that the run has.
pub(crate) fn check_cases<'a>(toy: &Toy, cases: impl IntoIterator<Item = Case<'a>>) {
    let first: Vec<ColdStart> = read_table(&toy.point().coldstarts()).unwrap();
    for (number, (creation, changes, rule, (code, outcome))) in cases.into_iter().enumerate() {
        let mut creations = TableWriter::create(&toy.point().coldstarts()).unwrap();
        first.iter().chain([creation]).for_each(|row| creations.write(row).unwrap());
        creations.flush().unwrap();
        let change = |rows: &mut Vec<Invocation>| changes.iter().for_each(|change| change(&mut rows[1]));
        let checked = check_changed(toy, change, rule);
        assert_eq!(checked, (code, outcome.to_owned()), "case {number}: {rule}");
    }
}

#[test]
fn a_rule_holds_only_if_every_row_proves_it() {
    let toy = finished();
    let sent_ns = i64::try_from(rows()[1].sent_ns.unwrap()).unwrap();
    let (at_once, ahead) = (second(sent_ns), second(sent_ns - 2_000_000_000));
    let undated = |creation: &ColdStart| ColdStart { net_dataplane_us: None, ..creation.clone() };
    let unready = ColdStart { create_us: None, ..ahead.clone() };
    let cold = |row: &mut Invocation| {
        (row.cold, row.cold_us, row.sandbox) = (Some(1), Some(4000), Some("1-2".to_owned()));
        row.done_ns = row.done_ns.map(|done| done + 4_000_000);
    };
    let warm = |row: &mut Invocation| row.sandbox = Some("1-2".to_owned());
    let unphased = |row: &mut Invocation| (row.queue_us, row.cold_us, row.exec_us) = (None, None, None);
    let (held, silent, broken) = ((Some(0), "held"), (Some(0), "not measured"), (Some(3), "not held"));
    let (before, ready, waits) = ("cold rows arrived before", "warm rows found", "never exceed the wait for it");
    let (first_rule, new, latency) = ("no sandbox had responded", "cold rows have a new", "never exceed the latency");
    let unknown: Change<'_> = &|row| row.cold = None;
    let cases: [Case<'_>; 20] = [
        (&at_once, vec![&cold], before, held),
        (&undated(&at_once), vec![&cold], before, silent),
        // Made two seconds before it was asked for.
        (&ahead, vec![&cold], before, broken),
        (&undated(&ahead), vec![&cold], before, silent),
        (&at_once, vec![&cold], waits, held),
        (&at_once, vec![&cold, &|row| row.cold_us = None], waits, silent),
        (&ColdStart { publish_us: None, ..at_once.clone() }, vec![&cold], waits, silent),
        (&at_once, vec![&cold], latency, held),
        (&at_once, vec![&cold, &|row| row.exec_us = None], latency, silent),
        (&at_once, vec![&cold, &|row| row.queue_us = None], latency, silent),
        (&at_once, vec![&cold], new, held),
        (&at_once, vec![&cold, unknown], new, silent),
        (&at_once, vec![&cold, unknown], before, silent),
        (&at_once, vec![&cold, unknown], first_rule, silent),
        (&at_once, vec![&cold, unknown], waits, silent),
        (&ahead, vec![&warm], ready, held),
        (&unready, vec![&warm], ready, silent),
        (&ahead, vec![&warm, unknown], ready, silent),
        // It had arrived by an instant that its phases do not tell: as soon as it was sent, or as late as it was answered.
        (&ahead, vec![&warm, &unphased], ready, held),
        (&second(sent_ns - 3_006_000 + 1_200_000), vec![&warm, &unphased], ready, silent),
    ];
    check_cases(&toy, cases);
    // What nothing is known of has still answered before the next one, which says that it waited for the same sandbox.
    let answered = |rows: &mut Vec<Invocation>| {
        rows[1].sandbox = Some("1-2".to_owned());
        unknown(&mut rows[1]);
        cold(&mut rows[2]);
    };
    assert_eq!(check_changed(&toy, answered, first_rule).1, "not held");
}

#[test]
fn rows_outside_the_plan_are_reported_and_do_not_replace_planned_rows() {
    let toy = finished();
    let own = toy.point().path;
    for (system, point, number) in [("toy", "elsewhere", 1), ("toy", "replay", 2), ("another", "replay", 1)] {
        let foreign = toy.out().point(system, point, number).path;
        fs::create_dir_all(foreign.parent().unwrap()).unwrap();
        fs::rename(&own, &foreign).unwrap();
        assert_eq!(check(&toy, "every repetition of every system"), (Some(3), "not held".to_owned()), "{foreign:?}");
        assert_eq!(check(&toy, "the repetition was planned"), (Some(3), "not held".to_owned()), "{foreign:?}");
        fs::rename(&foreign, &own).unwrap();
        assert_eq!(check(&toy, "every repetition of every system"), (Some(0), "held".to_owned()));
    }
    let schedules = toy.path("out/schedules");
    fs::rename(&schedules, toy.path("elsewhere")).unwrap();
    assert_eq!(check(&toy, "the schedule is there"), (Some(3), "not held".to_owned()));
    // What counts as checked was judged: a claim that uses it finds the rule that is broken.
    toy.again("report");
    let found = toy.out().read_invariants().unwrap().unwrap();
    let [checked] = found.checked.as_slice() else { panic!("one repetition has rows: {found:?}") };
    let covers = |one: &&record::Invariant| one.scope.covers(&checked.system, &checked.point, checked.repetition);
    assert!(found.invariants.iter().filter(covers).any(record::Invariant::is_broken), "{found:?}");
}

#[test]
fn an_unrecorded_schedule_is_not_assumed_to_be_equal() {
    let toy = finished();
    let rule = "same schedule";
    assert_eq!(check(&toy, rule), (Some(0), "held".to_owned()));
    toy.edit("out/manifest.json", "schedules/replay/1/schedule.csv", "elsewhere");
    assert_eq!(check(&toy, rule), (Some(0), "not measured".to_owned()));
    fs::remove_file(toy.point().loadgen()).unwrap();
    assert_eq!(check(&toy, rule).1, "not measured");
}

#[test]
fn a_load_generator_that_reads_late_is_reported() {
    let toy = finished();
    assert_eq!(check(&toy, "read in time"), (Some(0), "not measured".to_owned()));
    let reading = "\"reading\":{\"p50_ns\":0,\"p99_ns\":1000001,\"max_ns\":1000001},\"lag_bound_ns\"";
    toy.edit("out/toy/replay/1/loadgen.json", "\"lag_bound_ns\"", reading);
    assert_eq!(check(&toy, "read in time"), (Some(3), "not held".to_owned()));
}

#[test]
fn a_changed_schedule_and_a_lost_repetition_are_reported() {
    let toy = finished();
    toy.edit("out/toy/replay/1/loadgen.json", "\"schedule_sha256\":\"", "\"schedule_sha256\":\"0");
    assert_eq!(check(&toy, "same schedule"), (Some(3), "not held".to_owned()));
    fs::remove_dir_all(toy.point().path).unwrap();
    assert_eq!(check(&toy, "every repetition"), (Some(3), "not held".to_owned()));
}

#[test]
fn a_failed_invocation_in_a_valid_run_exceeds_its_threshold() {
    let toy = finished();
    toy.edit("out/toy/replay/1/loadgen.json", "{\"ok\":3}", "{\"ok\":2,\"timeout\":1}");
    let checked = check_changed(&toy, |rows| rows[2].outcome = Outcome::Timeout, "failures as expected");
    assert_eq!(checked, (Some(4), "not held".to_owned()));
}

#[test]
fn an_unexpected_warm_invocation_is_reported_or_marked_if_the_system_is_saturated() {
    let toy = Toy::new("well");
    toy.edit("experiments/definitions/toy.toml", "failed_share_max = 0.0", "cold_share_min = 0.99");
    assert_eq!(toy.run(&[]).status.code(), Some(3), "two of three rows are warm");
    assert_eq!(check(&toy, "cold starts as expected"), (Some(3), "not held".to_owned()));
    toy.edit("out/toy/replay/1/loadgen.json", "{\"ok\":3}", "{\"ok\":2,\"timeout\":1}");
    let failed = |rows: &mut Vec<Invocation>| rows[2].outcome = Outcome::Timeout;
    assert_eq!(check_changed(&toy, failed, "cold starts as expected"), (Some(0), "marked".to_owned()));
}

#[test]
fn unexpected_warm_invocations_are_marked_only_after_a_system_fell_behind() {
    let of_load = |load: &str| {
        let toy = Toy::new("well");
        let definition = "experiments/definitions/toy.toml";
        toy.edit(definition, "failed_share_max = 0.0", "cold_share_min = 0.99");
        toy.edit(definition, "load = { minutes = 1,", load);
        assert_eq!(toy.run(&[]).status.code(), Some(3), "two of three rows are warm");
        toy
    };
    // Two minutes, of which the last ten seconds are warm.
    let checked = |toy: &Toy, latency_ms: fn(u64) -> u64| {
        let change = |rows: &mut Vec<Invocation>| {
            let row = |index: u64| {
                let mut row = Invocation { index, cold: Some(u8::from(index < 220)), ..rows[0].clone() };
                row.scheduled_ns = 1_000_000 + index * 500_000_000;
                row.sent_ns = Some(row.scheduled_ns + 100_000);
                row.done_ns = row.sent_ns.map(|sent| sent + latency_ms(index) * 1_000_000);
                row
            };
            *rows = (0..240).map(row).collect();
        };
        check_changed(toy, change, "cold starts as expected").1
    };
    let steady = |index| 1_000 + index * 7919 % 101;
    let growing = |index| 1_000 + index * 7919 % 101 + 20 * index;
    let rate = of_load("load = { kind = \"rate\", rate = 1, seconds = 3, functions = 1,");
    assert_eq!([checked(&rate, growing), checked(&rate, steady)], ["marked", "not held"]);
    let trace = of_load("load = { minutes = 1,");
    assert_eq!(checked(&trace, growing), "not held", "a trace has no rate that could be too much");
}

#[test]
fn a_refused_invocation_has_a_response_and_a_lost_one_is_reported() {
    let toy = Toy::new("well");
    toy.edit("experiments/definitions/toy.toml", "failed_share_max = 0.0", "unresponded_share_max = 0.0");
    assert_eq!(toy.run(&[]).status.code(), Some(0));
    toy.edit("out/toy/replay/1/loadgen.json", "{\"ok\":3}", "{\"ok\":2,\"refused\":1}");
    let refused = |rows: &mut Vec<Invocation>| (rows[2].outcome, rows[2].status) = (Outcome::Refused, Some(503));
    let rule = "every invocation got a response";
    assert_eq!(check_changed(&toy, refused, rule), (Some(0), "held".to_owned()));
    toy.edit("out/toy/replay/1/loadgen.json", "\"refused\":1", "\"timeout\":1");
    let silent = |rows: &mut Vec<Invocation>| (rows[2].outcome, rows[2].status) = (Outcome::Timeout, None);
    assert_eq!(check_changed(&toy, silent, rule), (Some(4), "not held".to_owned()));
}

#[test]
fn too_few_responses_per_second_are_reported_except_for_traces() {
    let toy = Toy::new("well");
    let definition = "experiments/definitions/toy.toml";
    toy.edit(definition, "failed_share_max = 0.0", "succeeded_per_s_min = 1.0");
    let output = toy.run(&[]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("expect.succeeded_per_s_min"), "{}", said(&output));
    toy.edit(definition, "load = { minutes = 1,", "load = { kind = \"rate\", rate = 1, seconds = 3, functions = 1,");
    let output = toy.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let rule = "as many invocations succeeded per second as expected";
    assert_eq!(check(&toy, rule), (Some(0), "held".to_owned()));
    toy.edit("out/toy/replay/1/loadgen.json", "{\"ok\":3}", "{\"ok\":2,\"timeout\":1}");
    let failed = |rows: &mut Vec<Invocation>| rows[2].outcome = Outcome::Timeout;
    assert_eq!(check_changed(&toy, failed, rule), (Some(4), "not held".to_owned()));
}

#[test]
fn an_unrecorded_value_is_not_measured_rather_than_held() {
    let toy = finished();
    fs::remove_file(toy.point().coldstarts()).unwrap();
    assert_eq!(check(&toy, "cold rows have a new sandbox"), (Some(0), "not measured".to_owned()));
    fs::remove_file(toy.point().processes()).unwrap();
    for rule in ["processes of others", "the hypervisor", "the load generator used"] {
        assert_eq!(check(&toy, rule), (Some(0), "not measured".to_owned()), "{rule}");
    }
}

#[test]
fn findings_are_recorded_before_claims_and_the_page_use_them() {
    let toy = Toy::new("well");
    toy.edit("experiments/definitions/toy.toml", "failed_share_max = 0.0", "cold_share_min = 0.99");
    let output = toy.run(&[]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("analysed after broken: 1"), "{}", said(&output));
    assert!(said(&output).contains(r#""exit": "invalid""#), "the page says how it ended: {}", said(&output));
    let found = toy.out().read_invariants().unwrap().unwrap();
    let broken: Vec<_> = found.invariants.iter().filter(|one| one.is_broken()).collect();
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert_eq!(
        (broken[0].scope.to_string().as_str(), broken[0].rule.as_str()),
        ("toy replay 1", "cold starts as expected")
    );
}

#[test]
fn a_new_report_verifies_again_and_an_outdated_one_is_named() {
    let toy = finished();
    let older = "claims and report were made from other findings and are out of date: repro report";
    fs::create_dir(toy.out().report()).unwrap();
    assert!(!toy.again("verify").1.contains(older));
    let mut changed = rows();
    changed[1].cold = Some(1);
    write_rows(&toy.point().invocations(), &changed);
    let (code, text) = toy.again("verify");
    assert!(code == Some(3) && text.contains(older), "{text}");
    let (_, text) = toy.again("report");
    assert!(text.contains("analysed after broken: 2"), "{text}");
    assert!(!toy.again("verify").1.contains(older));
}

#[test]
fn a_directory_without_a_run_is_a_usage_error_and_a_run_without_rows_has_no_report() {
    let toy = Toy::new("well");
    let repro = |arguments: &[&str]| {
        let output = toy.command(arguments).output().unwrap();
        (output.status.code(), said(&output))
    };
    for folder in [toy.path("bin"), toy.path("nosuch")] {
        let folder = folder.to_str().unwrap();
        for arguments in [["verify", folder].as_slice(), &["report", folder], &["run", "--resume", folder]] {
            let (code, text) = repro(arguments);
            let expected = format!("{folder} holds no run: there is no ");
            assert!(code == Some(2) && text.contains(&expected), "{arguments:?}: expected {expected} in {text}");
        }
    }
    toy.write("bin/behaviour", "fails");
    assert_eq!(toy.run(&[]).status.code(), Some(1));
    let out = toy.path("out");
    let out = out.to_str().unwrap();
    let (code, text) = repro(&["verify", out]);
    assert!(code == Some(3) && text.ends_with("nothing was measured, so there is no claim to evaluate\n"), "{text}");
    let (code, text) = repro(&["report", out]);
    assert!(code == Some(2) && text.contains("nothing was measured, so there is nothing to report"), "{text}");
}
