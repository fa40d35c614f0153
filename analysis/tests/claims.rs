//! Claims about constant rates and bursts: what is compared, and what keeps it from being held.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use std::fs;

use assert_cmd::Command;
use fixture::{Fixture, rule};
use record::{ClaimOutcome, Claims, EvaluatedClaim, Finding, Invariant, RunDir, Summary, Weight, read_json};

const SWEEP: &str = "[load]\nkind = \"rate\"\ncooldown = \"5s\"\ntimeout = \"1s\"\n[sandbox]\nruntime = \"hollow\"\n\
    [[points]]\nname = \"lowest\"\nload.rate = 0.2\nsandbox.delay = \"40ms\"\n\
    [[points]]\nname = \"low\"\nload.rate = 2\nsandbox.delay = \"40ms\"\n\
    [[points]]\nname = \"high\"\nload.rate = 4\nsandbox.delay = \"40ms\"\n\
    [[points]]\nname = \"fast\"\nload.rate = 250\nsandbox.delay = \"40ms\"\n\
    [[points]]\nname = \"other\"\nload.rate = 9000\nsandbox.delay = \"0ms\"\n";

/// A run of five repetitions in which ours sustains 250 per second and the baseline surely not 0.2.
fn held() -> Fixture {
    let fixture = Fixture::of_rates("cold-start-sweep", SWEEP, &["dirigent-kpa", "knative"]);
    for repetition in 1..=5 {
        fixture.minute(("dirigent-kpa", "fast", repetition), 250, true);
        fixture.minute(("knative", "lowest", repetition), 0.2, false);
    }
    fixture
}

fn reported(fixture: &Fixture) -> Vec<EvaluatedClaim> {
    fixture.verified();
    evaluated(fixture)
}

fn evaluated(fixture: &Fixture) -> Vec<EvaluatedClaim> {
    Command::new(assert_cmd::cargo::cargo_bin!("analysis")).arg("report").arg(fixture.path()).assert().success();
    claims_of(fixture)
}

fn claims_of(fixture: &Fixture) -> Vec<EvaluatedClaim> {
    let claims: Claims = read_json(&RunDir(fixture.path().to_owned()).claims()).unwrap();
    claims.claims
}

fn page_of(fixture: &Fixture) -> String {
    fs::read_to_string(fixture.path().join("report/index.html")).unwrap()
}

#[test]
fn a_rate_is_compared_by_the_highest_sustained_and_the_lowest_that_surely_failed() {
    let fixture = Fixture::of_rates("cold-start-sweep", SWEEP, &["dirigent-kpa", "knative", "knative-tuned"]);
    for repetition in 1..=5 {
        fixture.minute(("dirigent-kpa", "fast", repetition), 250, true);
        fixture.minute(("knative", "low", repetition), 2, true);
        fixture.minute(("knative", "high", repetition), 4, false);
        fixture.growing_minute(("knative-tuned", "low", repetition), 2);
    }
    let claims = reported(&fixture);
    let claim = &claims[0];
    assert_eq!((claim.found, claim.interval, claim.unit.as_str()), (Some(62.5), Some((62.5, 62.5)), "times"));
    assert_eq!(claim.outcome, ClaimOutcome::NotHeld);
    assert_eq!(claim.reason, "highest sustained rate: the ratio is 62.5 [62.5; 62.5], below 1,250");
    let limit = "4 per second in the median of repetitions, of which it achieved 2. Of the rates tried it sustained, by \
                 repetition: 2, 2, 2, 2, 2.";
    assert!(claim.note.ends_with(limit), "{}", claim.note);
    let secondary = &claim.secondary[0];
    assert_eq!(
        (secondary.against.as_str(), secondary.ratio),
        ("knative-tuned", Some(125.0)),
        "its latency surely grew"
    );
    let missing = (ClaimOutcome::NotMeasured, "this run has no rows of `dirigent`");
    assert_eq!((claims[1].outcome, claims[1].reason.as_str()), missing, "each policy of ours has a claim of its own");
}

#[test]
fn what_is_not_found_sustained_did_not_surely_fail_and_two_repetitions_are_too_few() {
    let fixture = Fixture::of_rates("cold-start-sweep", SWEEP, &["dirigent-kpa", "knative"]);
    for repetition in 1..=2 {
        fixture.minute(("dirigent-kpa", "fast", repetition), 250, true);
        fixture.minute(("knative", "low", repetition), 2, true);
        fixture.restless_minute(("knative", "high", repetition), 4);
    }
    let claim = reported(&fixture).remove(0);
    let few = "`dirigent-kpa` has 2 repetitions, and needs 5";
    assert_eq!((claim.outcome, claim.reason.as_str(), claim.found), (ClaimOutcome::NotMeasured, few, None));
    fixture.minute(("knative", "high", 1), 4, false);
    fixture.minute(("knative", "high", 2), 4, false);
    let claim = reported(&fixture).remove(0);
    assert_eq!((claim.outcome, claim.reason.as_str(), claim.found), (ClaimOutcome::NotMeasured, few, Some(62.5)));
}

#[test]
fn the_page_says_what_followed_what_in_this_run_and_nothing_of_what_it_had_one_of() {
    let turns = |fixture: &Fixture| {
        reported(fixture);
        let page = page_of(fixture);
        let said =
            ["A repetition goes through all points", "Systems take turns", "With each repetition another system"];
        assert!(page.contains("Each measurement begins afresh"));
        said.map(|text| page.contains(text))
    };
    let fixture = Fixture::of_rates("cold-start-sweep", SWEEP, &["dirigent-kpa", "knative"]);
    let minute = |system: &str, repetition: u32, second: u64| {
        fixture.minute((system, "low", repetition), 2, true);
        let loadgen = fixture.path().join(format!("{system}/low/{repetition}/loadgen.json"));
        let text = fs::read_to_string(&loadgen).unwrap();
        let at = format!("\"started_unix_ns\": {second}000000000");
        fs::write(&loadgen, text.replace("\"started_unix_ns\": 0", &at)).unwrap();
    };
    minute("dirigent-kpa", 1, 10);
    assert_eq!(turns(&fixture), [false, false, false]);
    minute("knative", 1, 20);
    assert_eq!(turns(&fixture), [false, true, false]);
    for (repetition, ours, theirs) in [(2, 40, 30), (3, 50, 60)] {
        minute("dirigent-kpa", repetition, ours);
        minute("knative", repetition, theirs);
        assert_eq!(turns(&fixture), [true, true, true]);
    }
    // As runs were before systems took turns at being first.
    minute("dirigent-kpa", 2, 25);
    assert_eq!(turns(&fixture), [true, true, false]);
    minute("dirigent-kpa", 2, 40);
    // One that failed was measured again after all others.
    minute("knative", 1, 70);
    assert_eq!(turns(&fixture), [false, false, true]);
}

#[test]
fn a_run_that_was_not_checked_is_never_held_and_the_page_says_so() {
    let fixture = held();
    let claim = evaluated(&fixture).remove(0);
    assert_eq!(claim.outcome, ClaimOutcome::NotMeasured, "{claim:?}");
    assert!(claim.reason.contains("invariants were not checked"), "{}", claim.reason);
    let unchecked = "mark warn\">invariants not checked for 10 repetitions";
    assert!(page_of(&fixture).contains(unchecked), "the header says so");
    let claim = reported(&fixture).remove(0);
    assert_eq!((claim.outcome, claim.found), (ClaimOutcome::Held, Some(1250.0)), "{claim:?}");
    assert!(page_of(&fixture).contains("mark good\">every invariant held"));
    let criterion = "Judged here: the lower end of the 95 % interval of the ratio is at least 1,250";
    assert!(page_of(&fixture).contains(criterion));
    let loadgen = fixture.path().join("dirigent-kpa/fast/3/loadgen.json");
    let text = fs::read_to_string(&loadgen).unwrap();
    fs::write(&loadgen, text.replace("\"started_unix_ns\": 0", "\"started_unix_ns\": 1")).unwrap();
    let claim = evaluated(&fixture).remove(0);
    assert_eq!(claim.outcome, ClaimOutcome::NotMeasured, "one was measured again since: {claim:?}");
}

#[test]
fn a_broken_invariant_makes_the_claim_invalid_and_the_header_red() {
    let fixture = held();
    fixture.minute(("dirigent-kpa", "other", 1), 100, true);
    for (place, weight, finding, outcome) in [
        (("dirigent-kpa", "fast", 4), Weight::Validity, Finding::NotHeld, ClaimOutcome::Invalid),
        (("dirigent-kpa", "fast", 4), Weight::Lateness, Finding::NotHeld, ClaimOutcome::Invalid),
        (("dirigent-kpa", "fast", 4), Weight::Validity, Finding::NotMeasured, ClaimOutcome::NotMeasured),
        (("dirigent-kpa", "fast", 4), Weight::Mark, Finding::NotHeld, ClaimOutcome::Held),
        (("dirigent-kpa", "fast", 4), Weight::Threshold, Finding::NotHeld, ClaimOutcome::Held),
        (("knative", "lowest", 4), Weight::Validity, Finding::NotMeasured, ClaimOutcome::Held),
        (("dirigent-kpa", "other", 1), Weight::Validity, Finding::NotHeld, ClaimOutcome::Held),
    ] {
        let what = format!("{place:?} {weight:?} {finding:?}");
        fixture.verified_but(vec![rule(place, weight, finding)]);
        let mut analysis = Command::new(assert_cmd::cargo::cargo_bin!("analysis"));
        let code = analysis.arg("report").arg(fixture.path()).assert().get_output().status.code();
        let claim = claims_of(&fixture).remove(0);
        assert_eq!(claim.outcome, outcome, "{what}: {claim:?}");
        let is_broken = finding == Finding::NotHeld && matches!(weight, Weight::Validity | Weight::Lateness);
        assert_eq!(page_of(&fixture).contains("mark bad\">1 invariant broken"), is_broken, "{what}");
        let missed = weight == Weight::Threshold;
        assert_eq!(page_of(&fixture).contains("mark bad\">1 threshold not met"), missed, "{what}");
        let is_green = page_of(&fixture).contains("mark good\">every invariant held");
        assert_eq!(is_green, !is_broken && !missed, "{what}");
        let reported = format!("{} {} {}</span> &quot;a rule&quot; is not held (3 of 4)", place.0, place.1, place.2);
        assert_eq!(page_of(&fixture).contains(&reported), is_broken || missed, "{what}");
        assert_eq!(code, Some(if is_broken { 3 } else { 0 }), "{what}");
        if outcome == ClaimOutcome::Invalid {
            assert!(claim.reason.contains("repetition 4: \"a rule\" is not held (3 of 4)"), "{}", claim.reason);
        }
    }
}

#[test]
fn a_system_that_ended_early_under_load_is_found_in_the_invariants_and_not_held() {
    let fixture = held();
    for (system, place, outcome) in
        [("dirigent-kpa", "fast", ClaimOutcome::NotHeld), ("knative", "lowest", ClaimOutcome::Invalid)]
    {
        let died = |number| Invariant {
            rule: Invariant::LIVED.to_owned(),
            detail: "control-plane ended with exit code 7".to_owned(),
            ..rule((system, place, number), Weight::Validity, Finding::NotHeld)
        };
        fixture.verified_but((2..=4).map(died).collect());
        Command::new(assert_cmd::cargo::cargo_bin!("analysis")).arg("report").arg(fixture.path()).assert().code(3);
        let claim = claims_of(&fixture).remove(0);
        assert_eq!(claim.outcome, outcome, "{claim:?}");
        assert!(claim.reason.contains("control-plane ended with exit code 7"), "{}", claim.reason);
    }
    let rule = "It is not held by repetitions in one of which the system said to be better failed.";
    assert!(page_of(&fixture).contains(rule), "the page lacks: {rule}");
}

#[test]
fn a_rate_at_which_nothing_succeeds_is_invalid_and_no_higher_one_stands_in() {
    let fixture = held();
    for repetition in 1..=5 {
        fixture.dead_minute(("dirigent-kpa", "high", repetition), 4);
    }
    fixture.verified();
    Command::new(assert_cmd::cargo::cargo_bin!("analysis")).arg("report").arg(fixture.path()).assert().code(3);
    let claim = claims_of(&fixture).remove(0);
    assert_eq!(claim.outcome, ClaimOutcome::Invalid, "{claim:?}");
    assert!(claim.reason.contains("high, repetition 1 is not known to be valid: no"), "{}", claim.reason);
}

#[test]
fn cpu_time_is_claimed_against_both_forms_of_the_baseline_in_words_that_say_which() {
    let fixture = held();
    let claims = reported(&fixture);
    for (id, form) in [
        ("cold-start-cpu-knative", "Knative as released"),
        ("cold-start-cpu-knative-tuned", "Knative with its limits lifted"),
    ] {
        let claim = claims.iter().find(|claim| claim.id == id).unwrap();
        let words = format!(
            "The cluster manager uses less CPU time per cold start, deletion included, than {form}, with the same autoscaling policy."
        );
        assert_eq!((claim.sentence.as_str(), claim.published.as_str()), (words.as_str(), "not published"));
        assert_eq!((claim.source.as_str(), claim.statistic.as_str()), ("this project", "cpu.per-cold-start"));
        assert!(page_of(&fixture).contains(&words), "the page lacks: {words}");
    }
}

const BURSTS: &str = "[load]\nkind = \"rate\"\nevery = \"60s\"\ncooldown = \"60s\"\ntimeout = \"9s\"\n\
    [sandbox]\nruntime = \"hollow\"\n\
    [[points]]\nname = \"burst-10-delay-500ms\"\nload.burst = 10\nsandbox.delay = \"500ms\"\n\
    [[points]]\nname = \"burst-100-delay-500ms\"\nload.burst = 100\nsandbox.delay = \"500ms\"\n";

#[test]
fn a_share_is_what_latency_has_beyond_the_modelled_delay() {
    let fixture = Fixture::of_rates("overhead", BURSTS, &["dirigent", "knative"]);
    for repetition in 1..=5 {
        for (system, latencies_ms) in [("dirigent", [501, 505]), ("knative", [1_000, 4_000])] {
            fixture.burst((system, "burst-10-delay-500ms", repetition), 10, latencies_ms[0]);
            fixture.burst((system, "burst-100-delay-500ms", repetition), 100, latencies_ms[1]);
        }
    }
    let claim = reported(&fixture).remove(0);
    assert_eq!((claim.outcome, claim.reason.as_str()), (ClaimOutcome::Held, ""), "{claim:?}");
    assert_eq!((claim.found, claim.unit.as_str(), claim.p), (Some(87.5), "%", None), "1 − 500 / 4,000");
    assert_eq!(claim.published, "up to 65 % of end-to-end", "a most that was published is no typical value");
    let words = "Of 100 Knative cold starts at once, the cluster manager's share of the latency is at least 65 %, the most that was \
                 published.";
    assert_eq!((claim.sentence.as_str(), claim.id.as_str()), (words, "overhead-share-knative"));
    assert!(page_of(&fixture).contains("up to 65 % of end-to-end"), "and on the page");
    let summary: Summary = read_json(&RunDir(fixture.path().to_owned()).summary()).unwrap();
    let not_evaluated = summary.rates.iter().all(|point| point.sustained.holds.is_none());
    assert!(not_evaluated, "a burst has no rate to keep up");
    let page = fs::read_to_string(fixture.path().join("report/index.html")).unwrap();
    let sentence = "knative, delay 500ms: the cluster manager's share is 50.0 % of 10 at once, 87.5 % of 100 at once.";
    assert!(page.contains(sentence), "the page lacks: {sentence}");
    assert!(page.contains("<figure id=\"figure-overhead\">") && !page.contains("<section id=\"rates\">"));
    let svg = fs::read_to_string(fixture.path().join("report/figures/overhead.svg")).unwrap();
    assert!(svg.contains("simultaneous cold starts") && !svg.contains("NaN"));
}
