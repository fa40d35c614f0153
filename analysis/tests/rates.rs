//! The report of a constant rate: what is judged, told and drawn.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use std::fs;

use assert_cmd::Command;
use fixture::Fixture;
use record::{Manifest, Outcome, PointSummary, RunDir, Summary, read_json, write_json};

/// A reported sweep: its directory, its table, its page and its summary.
fn reported() -> (Fixture, String, String, Summary) {
    let fixture = Fixture::sweep();
    fixture.verified();
    reported_of(fixture)
}

/// The same of a sweep as it is.
fn reported_of(fixture: Fixture) -> (Fixture, String, String, Summary) {
    let assert = Command::new(assert_cmd::cargo::cargo_bin!("analysis")).arg("report").arg(fixture.path()).assert();
    let table = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    let page = fs::read_to_string(fixture.path().join("report/index.html")).unwrap();
    let summary = read_json(&RunDir(fixture.path().to_owned()).summary()).unwrap();
    (fixture, table, page, summary)
}

#[test]
fn a_run_without_points_in_its_manifest_is_reported_by_its_definition_and_else_by_its_points() {
    let with = |change: &dyn Fn(&mut Manifest)| {
        let fixture = Fixture::sweep();
        fixture.verified();
        let run = RunDir(fixture.path().to_owned());
        let mut manifest = run.read_manifest().unwrap();
        change(&mut manifest);
        write_json(&run.manifest(), &manifest).unwrap();
        reported_of(fixture).3
    };
    let recorded = with(&|_| ());
    assert_eq!(recorded.rates.len(), 4);
    assert_eq!(with(&|manifest| manifest.points.clear()), recorded, "as earlier versions wrote it");
    assert_eq!(with(&|manifest| manifest.definition = "no = definition = at all".to_owned()), recorded);
    let unknown = with(&|manifest| (manifest.points.clear(), manifest.definition.insert(0, '[')).1);
    assert_eq!((unknown.rates.len(), unknown.points.len()), (0, recorded.points.len()), "its rows are still shown");
}

#[test]
fn points_are_judged_in_the_order_of_the_definition() {
    let (_, table, _, summary) = reported();
    let found: Vec<_> = summary
        .rates
        .iter()
        .map(|point| (point.system.as_str(), point.point.as_str(), point.sustained.holds))
        .collect();
    let expected = [
        ("dirigent", "rate-2", Some(true)),
        ("floor", "rate-2", Some(true)),
        ("dirigent", "rate-10", Some(false)),
        ("floor", "rate-10", Some(false)),
    ];
    assert_eq!(found, expected);
    let (low, high) = (&summary.rates[0], &summary.rates[2]);
    assert_eq!(low.at_objective.holds, Some(true));
    assert_eq!(high.failures[&Outcome::Timeout], 300);
    assert!(
        high.sustained.reasons.iter().any(|reason| reason.starts_with("50.00 % of the invocations failed")),
        "{high:?}"
    );
    let cpu = low.system_cpu_us.unwrap().median;
    assert!((cpu - 6_000.0 / 120.0).abs() < 1e-9, "two workers over 120 responses: {cpu}");
    assert!((low.machine_cpu_us.unwrap().median - 100.0).abs() < 1e-9);
    assert!((low.machine_cores.unwrap().median - 0.012 / 61.0).abs() < 1e-9, "12 ms within 61 s");
    let lines: Vec<&str> = table.lines().filter(|line| line.contains(" rate-")).collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(lines[0].contains("yes") && lines[2].contains("no"), "{table}");
}

#[test]
fn failures_count_with_the_timeout_of_their_own_point() {
    let definition = "[load]\nkind = \"rate\"\ncooldown = \"5s\"\n[[points]]\nname = \"hasty\"\n\
                      load = { rate = 10, timeout = \"1s\" }\n[[points]]\nname = \"patient\"\n\
                      load = { rate = 10, timeout = \"9s\" }\n";
    let fixture = Fixture::of_rates("sweep", definition, &["dirigent"]);
    for point in ["hasty", "patient"] {
        fixture.minute(("dirigent", point, 1), 10, false);
    }
    Command::new(assert_cmd::cargo::cargo_bin!("analysis")).arg("report").arg(fixture.path()).assert().success();
    let summary: Summary = read_json(&RunDir(fixture.path().to_owned()).summary()).unwrap();
    let p99_ms = |point: &PointSummary| point.rate_test.as_ref().unwrap().latency_p99_penalised_ns.unwrap() / 1_000_000;
    assert_eq!(summary.points.iter().map(p99_ms).collect::<Vec<_>>(), [1_000, 9_000]);
    let page = fs::read_to_string(fixture.path().join("report/index.html")).unwrap();
    assert!(page.contains(" or, by the point, "), "both time-outs are told");
}

#[test]
fn the_page_answers_from_the_numbers_and_draws_what_a_rate_is_about() {
    let (fixture, _, page, _) = reported();
    let between = |from: &str| page.split(from).skip(1).map(|rest| rest.split('"').next().unwrap()).collect::<Vec<_>>();
    assert_eq!(
        between("<section id=\""),
        ["rates", "cpu", "phases", "validity", "method", "differences", "facts", "files"]
    );
    assert_eq!(between("<figure id=\"figure-"), ["latency", "cpu"]);
    for sentence in [
        "dirigent: of the rates tried, 2 cold starts per second is the highest that is sustained; there half of them take at \
         most 21.0 ms and 99 % at most 22.0 ms. At 10 per second it does not keep up: 50.0 % of the offered rate was achieved",
        "floor: at 2 cold starts per second each costs 50.0 CPU-µs in the system's own processes (worker 50.0) and 100 on the \
         whole machine.",
        "dirigent compared with floor at point rate-2: 21.0 and 21.0 ms in the median, 50.0 and 50.0 CPU-µs",
    ] {
        assert!(page.contains(sentence), "the page lacks: {sentence}");
    }
    assert!(page.contains("300 timeout") && page.contains("1 of 1 valid"));
    assert!(!page.contains("Slowdown of each function"), "functions that run nothing have no slowdown");
    for name in ["latency", "cpu"] {
        let svg = fs::read_to_string(fixture.path().join(format!("report/figures/{name}.svg"))).unwrap();
        assert!(svg.starts_with("<svg xmlns") && !svg.contains("var(--") && !svg.contains("NaN"), "{name}");
    }
    assert!(!fixture.path().join("report/figures/slowdown.svg").exists());
}

#[test]
fn the_page_says_how_much_blocks_of_rows_depend_on_each_other() {
    let definition = "[load]\nkind = \"rate\"\ncooldown = \"5s\"\n[[points]]\nname = \"wave\"\nload.rate = 40\n\
                      [[points]]\nname = \"short\"\nload.rate = 0.5\n";
    let fixture = Fixture::of_rates("sweep", definition, &["dirigent"]);
    fixture.waving_minute(("dirigent", "wave", 1), 40);
    fixture.minute(("dirigent", "short", 1), 0.5, true);
    fixture.verified();
    let (_fixture, _, page, summary) = reported_of(fixture);
    let [wave, short] = [0, 1].map(|at| summary.rates[at].block_autocorrelation.as_ref().map(|phi| phi.median));
    assert!(wave.is_some_and(|phi| phi > 0.5 && phi < 1.0) && short.is_none(), "{wave:?}, {short:?}");
    let shown = format!("φ {:.2}", wave.unwrap());
    assert!(shown.starts_with("φ 0.") && page.contains(&shown), "the page lacks {shown}");
    assert_eq!(page.matches("φ 0.").count(), 1, "where it cannot be known, none is shown");
    assert!(page.contains("blocks that depend on each other by their autocorrelation φ."), "and what it is");
}

#[test]
fn the_page_says_where_failures_are_penalised_at_a_rate_and_in_a_trace() {
    let at_rate = "<li>A failure is any outcome but ok. Latencies and their slope are those of ok invocations: failures are not \
                   penalised in them, and count against ok, achieved and sustained. They are penalised in one place, the 99th \
                   percentile that the objective is judged by: there each counts with the time-out.</li>";
    let in_trace = "<li>A failure is any outcome but ok. Penalised, it counts with the time-out as its latency over the \
                    requested time; dropped, it does not count.";
    let (_, _, sweep, _) = reported();
    assert!(sweep.contains(at_rate) && !sweep.contains(in_trace), "{sweep}");
    let (_, _, trace, _) = reported_of(Fixture::by_hand());
    assert!(trace.contains(in_trace) && !trace.contains(at_rate), "{trace}");
}

#[test]
fn every_number_of_a_point_can_be_exported() {
    let fixture = Fixture::sweep();
    let mut export = Command::new(assert_cmd::cargo::cargo_bin!("analysis"));
    let assert = export.args(["export", "--table", "rates"]).arg(fixture.path()).assert().success();
    let csv = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    assert!(csv.starts_with("system,point,statistic,repetitions,median,min,max,lower,upper\n"), "{csv}");
    assert!(csv.contains("dirigent,rate-2,latency_p50_ms,1,21.0,21.0,21.0,,\n"), "{csv}");
    assert!(csv.contains("floor,rate-10,cpu_us worker,1,20.0,20.0,20.0,,\n"), "{csv}");
}

#[test]
fn a_run_without_a_constant_rate_has_no_table_of_rates() {
    let fixture = Fixture::by_hand();
    let output = fixture.path().join("rates.csv");
    for to in [&[][..], &["--output", output.to_str().unwrap()]] {
        let mut export = Command::new(assert_cmd::cargo::cargo_bin!("analysis"));
        let assert = export.args(["export", "--table", "rates"]).arg(fixture.path()).args(to).assert().code(2);
        let said = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
        assert!(assert.get_output().stdout.is_empty() && said.contains("no table of rates"), "{said}");
    }
    assert!(!output.exists(), "no empty file is left");
}

#[test]
fn one_figure_of_a_rate_is_drawn_alone_and_a_trace_has_none() {
    let figure = |fixture: &Fixture, name: &str| {
        Command::new(assert_cmd::cargo::cargo_bin!("analysis")).arg("figure").arg(fixture.path()).arg(name).assert()
    };
    figure(&Fixture::sweep(), "latency").success();
    figure(&Fixture::sweep(), "cpu").success();
    let refused = figure(&Fixture::by_hand(), "latency").code(2);
    let said = String::from_utf8(refused.get_output().stderr.clone()).unwrap();
    assert!(said.contains("latency: no figure for it"), "{said}");
}

#[test]
fn every_figure_says_that_sandboxes_are_hollow_where_they_are() {
    let hollow = "[load]\nkind = \"rate\"\nrate = 2\ncooldown = \"1s\"\n[sandbox]\nruntime = \"hollow\"\n";
    for (definition, is_hollow) in [(hollow.to_owned(), true), (hollow.replace("hollow", "process"), false)] {
        let fixture = Fixture::of_rates("sweep", &definition, &["dirigent"]);
        fixture.minute(("dirigent", "replay", 1), 2, true);
        Command::new(assert_cmd::cargo::cargo_bin!("analysis")).arg("report").arg(fixture.path()).assert().success();
        let page = fs::read_to_string(fixture.path().join("report/index.html")).unwrap();
        let (figures, labels) = (page.matches("<figure ").count(), page.matches("Sandboxes are hollow.").count());
        assert!(figures > 0);
        assert_eq!(labels, if is_hollow { figures } else { 0 });
    }
}

#[test]
fn the_actions_of_a_cold_start_are_listed_and_drawn_where_they_were_recorded() {
    let definition = "[load]\nkind = \"rate\"\nrate = 2\ncooldown = \"1s\"\ntimeout = \"1s\"\n";
    let fixture = Fixture::of_rates("anatomy", definition, &["dirigent", "knative"]);
    fixture.minute(("dirigent", "replay", 1), 2, true);
    fixture.minute(("knative", "replay", 1), 2, true);
    // One call every 500 ms: each has a request and a change before its answer after some 20 ms, and one of each later.
    let mut actions = Vec::new();
    for call in 0..120 {
        let at = call * 500;
        actions.extend([
            ("scaler", "patch", "deployments", at + 5),
            ("store", "put", "deployments", at + 7),
            ("manager", "update", "deployments/status", at + 30),
            ("store", "put", "deployments", at + 33),
        ]);
    }
    fixture.actions(("knative", "replay", 1), &actions);
    Command::new(assert_cmd::cargo::cargo_bin!("analysis")).arg("report").arg(fixture.path()).assert().success();
    let page = fs::read_to_string(fixture.path().join("report/index.html")).unwrap();
    for sentence in [
        "What do the components of knative do for a cold start?",
        "Until the response of a cold start, the components send 1.00 requests to the API server and change objects in the store 1.00 times.",
        "these are 2.00 requests, 2.00 of which write and 0 are refused because somebody else had changed the object, and 2.00 \
         changes of 4.00 KB in all.",
    ] {
        assert!(page.contains(sentence), "the page lacks: {sentence}");
    }
    let svg = fs::read_to_string(fixture.path().join("report/figures/anatomy.svg")).unwrap();
    assert!(svg.contains("scaler: patch deployments") && svg.contains("manager: update deployments/status"));
    let (sweep, ..) = reported();
    assert!(!sweep.path().join("report/figures/anatomy.svg").exists(), "nobody recorded it there");
}

#[test]
fn repetitions_with_broken_invariants_are_called_neither_valid_nor_sustained() {
    let fixture = Fixture::sweep();
    let cold = |finding| record::Invariant {
        rule: "cold starts as expected".to_owned(),
        ..fixture::rule(("dirigent", "rate-2", 1), record::Weight::Validity, finding)
    };
    fixture.verified_but(vec![cold(record::Finding::Held)]);
    let (fixture, table, page, _) = reported_of(fixture);
    let line =
        |table: &str| table.lines().find(|line| line.contains("dirigent  rate-2 ")).unwrap().trim_end().to_owned();
    assert!(line(&table).ends_with("yes        yes        yes"), "{table}");
    let header = |page: &str| page.split("</header>").next().unwrap().to_owned();
    assert!(header(&page).contains("measurement valid") && page.contains("is the highest that is sustained"));
    fixture.verified_but(vec![cold(record::Finding::NotHeld)]);
    let (fixture, table, page, summary) = reported_of(fixture);
    assert!(line(&table).ends_with("NO  not judged  not judged"), "{table}");
    let header = header(&page);
    assert!(header.contains("1 of 4 repetitions invalid") && !header.contains("measurement valid"), "{header}");
    assert!(!page.contains("dirigent: of the rates tried"), "{page}");
    assert!(page.contains("in no claim: dirigent · rate-2 · 1."), "what was left out names it");
    let low = &summary.rates[0];
    assert_eq!((low.valid_repetitions, low.sustained.holds, low.at_objective.holds), (0, None, None));
    let why = "\"cold starts as expected\" is not held (3 of 4)";
    assert!(low.sustained.reasons.iter().any(|reason| reason == why), "{low:?}");
    assert_eq!(summary.rates[1].sustained.holds, Some(true), "that of another system is as it was");
    fixture.verified_but(vec![record::Invariant { weight: record::Weight::Mark, ..cold(record::Finding::NotHeld) }]);
    let (fixture, _, _, summary) = reported_of(fixture);
    let low = &summary.rates[0];
    assert_eq!((low.valid_repetitions, low.sustained.holds, low.at_objective.holds), (1, Some(false), Some(false)));
    assert!(low.sustained.reasons[0].contains("its rate was surely too much"), "{low:?}");
    fs::remove_file(RunDir(fixture.path().to_owned()).invariants()).unwrap();
    let (_, _, page, summary) = reported_of(fixture);
    assert!(page.contains("validity unknown for 4 of 4 repetitions"), "what nobody checked");
    assert!(summary.rates.iter().all(|point| point.sustained.holds.is_none()));
}
