//! The page: its structure, that it needs nothing but itself, and that nothing is green that was not run.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use std::fs;

use assert_cmd::Command;
use fixture::Fixture;

fn page() -> (Fixture, String) {
    let fixture = Fixture::by_hand();
    let page = report(&fixture);
    (fixture, page)
}

/// The page of a run as it is now.
fn report(fixture: &Fixture) -> String {
    Command::new(assert_cmd::cargo::cargo_bin!("analysis")).arg("report").arg(fixture.path()).assert().success();
    fs::read_to_string(fixture.path().join("report/index.html")).unwrap()
}

/// Each text between `from` and `to`.
fn between<'a>(text: &'a str, from: &'a str, to: &'a str) -> Vec<&'a str> {
    text.split(from).skip(1).map(|rest| rest.split(to).next().unwrap()).collect()
}

#[test]
fn sections_and_figures_stand_in_their_order() {
    let (_, page) = page();
    let sections = [
        "claims",
        "slowdown",
        "scheduling",
        "phases",
        "published",
        "validity",
        "method",
        "differences",
        "facts",
        "files",
    ];
    assert_eq!(between(&page, "<section id=\"", "\""), sections);
    let figures = ["slowdown", "slowdown-artifact", "scheduling", "phases", "phases-manager"];
    assert_eq!(between(&page, "<figure id=\"figure-", "\""), figures);
    assert_eq!(page.matches("<svg").count(), figures.len());
    assert_eq!(page.matches("role=\"img\"><title>").count(), figures.len(), "each figure says what it is");
}

#[test]
fn nothing_is_fetched_and_nothing_is_run() {
    let (fixture, page) = page();
    for outside in ["http:", "https:", "//", "src=", "@import", "<link", "<script", "<iframe", "onload"] {
        assert!(!page.contains(outside), "the page has `{outside}`");
    }
    assert!(between(&page, "url(", ")").iter().all(|target| target.starts_with('#')), "a figure refers only to itself");
    for target in between(&page, "href=\"", "\"") {
        let path = fixture.path().join("report").join(target);
        assert!(path.exists(), "{target} is linked and does not exist");
    }
}

#[test]
fn answers_are_made_from_the_numbers() {
    let (_, page) = page();
    for sentence in [
        "half of the 2 functions are slowed down at most 3.00 times, 99 % of them at most 33.8 times with failed invocations \
         penalised, 3.00 times with them dropped.",
        "of 3 ok invocations half spend at most 10.0 ms beyond their own execution, nine in ten at most 30.0 ms",
        "the longest phase is <code>create</code>",
    ] {
        assert!(page.contains(sentence), "the page lacks: {sentence}");
    }
}

#[test]
fn what_was_not_run_is_not_measured_and_never_green() {
    let (_, page) = page();
    let claims = between(&page, "<section id=\"claims\">", "</section>")[0];
    assert_eq!(claims.matches(">not measured</span>").count(), 2, "both claims need a second system");
    assert!(!claims.contains("mark good"));
    assert!(claims.contains("this run has no rows of <code>dirigent-kpa</code>"));
    assert!(claims.contains("227  Dirigent (Go)"), "published values stand beside ours");
}

#[test]
fn the_page_says_what_the_run_was_of() {
    let (fixture, page) = page();
    let header = between(&page, "<header>", "</header>")[0];
    for text in ["Load: the synthetic trace <code>azure-sample</code>", "Sandboxes: runtime <code>hollow</code>"] {
        assert!(header.contains(text), "the header lacks {text}: {header}");
    }
    let captions = between(&page, "<figcaption>", "</figcaption>");
    assert!(
        captions.iter().all(|text| text.contains(" Sandboxes are hollow. The trace is synthetic.")),
        "{captions:?}"
    );
    let differences = between(&page, "<section id=\"differences\">", "</section>")[0];
    assert!(differences.contains("Sandboxes are hollow: ") && differences.contains("The trace is synthetic ("));
    // A real trace, and sandboxes of their own kind, in a checkout whose path says otherwise.
    let run = record::RunDir(fixture.path().to_owned());
    let mut manifest = run.read_manifest().unwrap();
    let real = manifest.definition.replace("[sandbox]", "trace = \"/hollow/synthetic\"\n[sandbox]");
    manifest.definition = real.replace("\"hollow\"", "\"containerd\"");
    manifest.points = record::points_of_definition(&manifest.definition).unwrap();
    record::write_json(&run.manifest(), &manifest).unwrap();
    let page = report(&fixture);
    assert!(page.contains("Load: the trace in <code>/hollow/synthetic</code>"));
    for untrue in ["Sandboxes are hollow", "trace is synthetic", "the synthetic trace"] {
        assert!(!page.contains(untrue), "the page says: {untrue}");
    }
}

#[test]
fn how_failures_count_stands_beside_each_statistic() {
    let (_, page) = page();
    for (statistic, counts) in [
        ("Slowdown <code>seed</code>, p99 over functions", "penalised"),
        ("Slowdown <code>mean-kept</code>, p99 over functions", "penalised, time-outs dropped"),
        ("Slowdown <code>seed</code>, p99, failures dropped", "dropped"),
        ("End-to-end latency, p99", "ok rows only"),
    ] {
        let row = format!("<tr><td>{statistic}</td><td class=\"quiet\">{counts}</td>");
        assert!(page.contains(&row), "the page lacks: {row}");
    }
}

#[test]
fn what_failed_and_what_was_left_out_is_shown() {
    let (fixture, page) = page();
    let out = |page: &str| between(page, "<h3>What was left out</h3>", "<h3>")[0].to_owned();
    assert!(
        out(&page).contains("<code>knative</code>: <span class=\"quiet\">not measured: it has no rows in this run")
    );
    assert!(out(&page).contains("Rows of the warm-up, 1 in each repetition."));
    assert!(!page.contains("repetition failed"));
    let run = record::RunDir(fixture.path().to_owned());
    let mut manifest = run.read_manifest().unwrap();
    manifest.failures.push(record::FailedRepetition {
        system: "knative".to_owned(),
        point: "azure-500".to_owned(),
        repetition: 1,
        reason: "it did not start:\n<etcd> was not there".to_owned(),
        untried: false,
    });
    manifest.discarded.push(record::DiscardedTry {
        system: "dirigent".to_owned(),
        point: "azure-500".to_owned(),
        repetition: 1,
        at: "2025-03-01T12:30:00Z".to_owned(),
        reason: "it was stopped".to_owned(),
    });
    manifest.quick = true;
    record::write_json(&run.manifest(), &manifest).unwrap();
    let page = report(&fixture);
    let header = between(&page, "<header>", "</header>")[0];
    assert!(header.contains("mark bad\">1 repetition failed") && header.contains("quick run: no evidence"), "{header}");
    let row =
        "<td>knative · azure-500 · 1</td><td><div>it did not start:</div><div>&lt;etcd&gt; was not there</div></td>";
    assert!(out(&page).contains(row), "{}", out(&page));
    let row = "<td>dirigent · azure-500 · 1</td><td>2025-03-01T12:30:00Z</td><td>it was stopped</td>";
    assert!(out(&page).contains(row), "{}", out(&page));
    let nothing = "<div class=\"quiet\">This says nothing about the system.</div></td>";
    assert!(!out(&page).contains(nothing), "{}", out(&page));
    manifest.failures[0].untried = true;
    record::write_json(&run.manifest(), &manifest).unwrap();
    let untried = format!("&lt;etcd&gt; was not there</div>{nothing}");
    assert!(out(&report(&fixture)).contains(&untried), "{}", out(&report(&fixture)));
}

#[test]
fn a_repetition_whose_system_ended_early_is_named_as_what_it_counts_as() {
    let (fixture, _) = page();
    let died = fixture::rule(("dirigent", "azure-500", 1), record::Weight::Validity, record::Finding::NotHeld);
    let shown = |rule: &str| {
        fixture.verified_but(vec![record::Invariant { rule: rule.to_owned(), ..died.clone() }]);
        Command::new(assert_cmd::cargo::cargo_bin!("analysis")).arg("report").arg(fixture.path()).assert().code(3);
        let page = fs::read_to_string(fixture.path().join("report/index.html")).unwrap();
        ["ended before it was stopped: dirigent · azure-500 · 1.", "but in no claim: dirigent · azure-500 · 1."]
            .map(|text| page.contains(text))
    };
    assert_eq!(shown(record::Invariant::LIVED), [true, false]);
    assert_eq!(shown("a rule"), [false, true]);
}

#[test]
fn other_use_of_the_machine_is_shown_with_its_marks() {
    let (fixture, page) = page();
    let machine = |page: &str| between(page, "<h3 id=\"machine\">", "<h3>")[0].to_owned();
    assert!(machine(&page).contains("not measured: nobody sampled the machine"), "{}", machine(&page));
    assert!(
        machine(&page).contains("not measured: what else used the machine is not known of: dirigent · azure-500 · 1"),
        "{}",
        machine(&page)
    );
    // Five seconds of two cores, of which the data plane used 0.5 ms.
    let window = r#"{"from_unix_ns":1000000000,"to_unix_ns":6000000000,"machine":{"user_us":2000000,"sys_us":500000,
        "irq_us":100000,"idle_us":6900000,"steal_us":500000},"disks":{"read_bytes":1048576,"written_bytes":5242880,
        "busiest_us":1250000}}"#;
    let facts = fixture.path().join("dirigent/azure-500/1/repetition.json");
    fs::write(facts, format!("{{\"schema_version\":1,\"window\":{window}}}")).unwrap();
    let place = ("dirigent", "azure-500", 1);
    let noisy = fixture::rule(place, record::Weight::Mark, record::Finding::NotHeld);
    let quiet = fixture::rule(place, record::Weight::Mark, record::Finding::Held);
    fixture.verified_but(vec![noisy, quiet]);
    let page = report(&fixture);
    let cells = ["0.0", "0.0", "0.0", "25.0", "1.0", "5.0", "69.0", "1.00", "5.00", "25.0"];
    let row: String = cells.iter().map(|cell| format!("<td class=\"n\">{cell}</td>")).collect();
    assert!(machine(&page).contains(&row), "{}", machine(&page));
    let mark = "marked</span> a rule <span class=\"quiet\">(dirigent azure-500 1: 3 of 4)";
    assert!(machine(&page).contains(mark), "{}", machine(&page));
    assert!(between(&page, "<header>", "</header>")[0].contains("href=\"#machine\">1 mark</a>"));
    fixture.verified();
    assert!(machine(&report(&fixture)).contains("No repetition is marked as noisy."));
    for rule_is_there in [true, false] {
        let unmeasured = vec![fixture::noise(place, record::Finding::NotMeasured)];
        if rule_is_there {
            fixture.verified_but(unmeasured)
        } else {
            fixture.found(Vec::new())
        }
        let reported = machine(&report(&fixture)).to_owned();
        assert!(reported.contains("is not known of: dirigent · azure-500 · 1"), "{reported}");
        assert!(!reported.contains("No repetition is marked"), "{reported}");
    }
}

#[test]
fn text_from_the_run_is_escaped() {
    let (_, page) = page();
    assert!(page.contains("A &lt;CPU&gt; &amp; more"));
}

#[test]
fn figures_for_a_paper_stand_alone() {
    let (fixture, _) = page();
    for name in ["slowdown", "slowdown-artifact", "scheduling", "phases", "phases-manager"] {
        let svg = fs::read_to_string(fixture.path().join(format!("report/figures/{name}.svg"))).unwrap();
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" width="), "{name} can be opened alone");
        assert!(!svg.contains("var(--") && !svg.contains("hollow"), "{name} holds its own colours");
    }
}
