//! The page: its structure, that it needs nothing but itself, and that nothing is green that was not run.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use std::fs;

use assert_cmd::Command;
use fixture::Fixture;

fn page() -> (Fixture, String) {
    let fixture = Fixture::by_hand();
    Command::new(assert_cmd::cargo::cargo_bin!("analysis")).arg("report").arg(fixture.path()).assert().success();
    let page = fs::read_to_string(fixture.path().join("report/index.html")).unwrap();
    (fixture, page)
}

/// What stands between `from` and `to`, every time.
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
    assert!(
        page.contains("Sandboxes are hollow"),
        "what differs from the published set-up is told from the definition"
    );
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
