//! Claims about constant rates and bursts: what is compared, and what keeps it from being held.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use std::fs;

use assert_cmd::Command;
use fixture::{Fixture, rule};
use record::{Claims, Finding, JudgedClaim, RunDir, Summary, Verdict, Weight, read_json};

const SWEEP: &str = "[load]\nkind = \"rate\"\ncooldown = \"5s\"\ntimeout = \"1s\"\n[sandbox]\nruntime = \"hollow\"\n\
    [[points]]\nname = \"low\"\nload.rate = 2\nsandbox.delay = \"40ms\"\n\
    [[points]]\nname = \"high\"\nload.rate = 4\nsandbox.delay = \"40ms\"\n\
    [[points]]\nname = \"fast\"\nload.rate = 2500\nsandbox.delay = \"40ms\"\n\
    [[points]]\nname = \"other\"\nload.rate = 9000\nsandbox.delay = \"0ms\"\n";

/// The claim about sustained rates of a run whose baseline sustains `low` and, if so told, `high`, and our system `ours`.
fn sustained(repetitions: u32, ours: (&str, u64), high: Option<bool>) -> JudgedClaim {
    let fixture = Fixture::of_rates("cold-start-sweep", SWEEP, &["dirigent-kpa", "knative", "knative-tuned"]);
    for repetition in 1..=repetitions {
        fixture.minute(("dirigent-kpa", ours.0, repetition), ours.1, true);
        fixture.minute(("knative", "low", repetition), 2, true);
        if let Some(high) = high {
            fixture.minute(("knative", "high", repetition), 4, high);
        }
        fixture.minute(("knative-tuned", "low", repetition), 2, false);
    }
    let mut claims = reported(&fixture);
    let own = &claims[1];
    let missing = (Verdict::NotMeasured, "this run has no rows of `dirigent`");
    assert_eq!((own.verdict, own.reason.as_str()), missing, "each policy of ours has a claim of its own");
    assert_eq!(claims.len(), 2);
    claims.remove(0)
}

/// The claim about sustained rates of one repetition in which ours sustains 2,500 and the baseline does as `rows` says.
fn once(rows: fn(&Fixture)) -> JudgedClaim {
    let fixture = Fixture::of_rates("cold-start-sweep", SWEEP, &["dirigent-kpa", "knative"]);
    fixture.minute(("dirigent-kpa", "fast", 1), 2500, true);
    rows(&fixture);
    reported(&fixture).remove(0)
}

fn reported(fixture: &Fixture) -> Vec<JudgedClaim> {
    fixture.verified();
    judged(fixture)
}

fn judged(fixture: &Fixture) -> Vec<JudgedClaim> {
    Command::new(assert_cmd::cargo::cargo_bin!("analysis")).arg("report").arg(fixture.path()).assert().success();
    let claims: Claims = read_json(&RunDir(fixture.path().to_owned()).claims()).unwrap();
    claims.claims
}

#[test]
fn a_rate_is_compared_by_the_highest_that_each_repetition_sustained() {
    let claim = sustained(5, ("fast", 2500), Some(false));
    assert_eq!((claim.verdict, claim.reason.as_str()), (Verdict::Held, ""), "{claim:?}");
    assert_eq!((claim.found, claim.interval, claim.unit.as_str()), (Some(1250.0), Some((1250.0, 1250.0)), "times"));
    let beside = &claim.beside[0];
    assert_eq!(claim.note, "", "its limit was found");
    let ratio = beside.ratio.unwrap();
    assert!(
        beside.against == "knative-tuned" && (ratio - 2500.0).abs() < 50.0,
        "it achieved 1 of 2 per second: {ratio}"
    );
}

#[test]
fn a_ratio_below_the_bound_is_not_held() {
    let fixture = Fixture::of_rates("cold-start-sweep", SWEEP, &["dirigent-kpa", "knative"]);
    for repetition in 1..=5 {
        fixture.minute(("dirigent-kpa", "high", repetition), 4, true);
        fixture.minute(("knative", "low", repetition), 2, true);
        fixture.minute(("knative", "high", repetition), 4, false);
    }
    let claim = reported(&fixture).remove(0);
    assert_eq!((claim.verdict, claim.found), (Verdict::NotHeld, Some(2.0)));
    assert_eq!(claim.reason, "highest sustained rate: the ratio is 2.00, below 1,250");
}

#[test]
fn a_limit_that_was_not_found_makes_no_ratio() {
    let claim = sustained(5, ("high", 4), None);
    assert_eq!((claim.verdict, claim.found), (Verdict::NotMeasured, None));
    let limit = "`knative` sustained 2 per second, and at no rate tried it surely failed: its limit is not known";
    assert_eq!(claim.reason, limit);
    let perhaps = once(|knative| {
        knative.minute(("knative", "low", 1), 2, true);
        knative.restless_minute(("knative", "high", 1), 4);
    });
    assert_eq!((perhaps.reason.as_str(), perhaps.found), (limit, None), "not found sustained is not found too much");
    let few = sustained(2, ("high", 4), Some(false));
    assert_eq!((few.verdict, few.found), (Verdict::NotMeasured, Some(2.0)));
    assert_eq!(few.reason, "needs 5 repetitions of each, has 2 and 2");
}

#[test]
fn a_limit_that_no_repetition_tells_is_what_the_baseline_surely_does_no_more_than() {
    let ratio = |rows: fn(&Fixture)| {
        let claim = once(rows);
        let note = "In 1 of 1 repetitions the highest rate that `knative` sustains lies between";
        assert!(claim.note.contains(note), "{}", claim.note);
        claim.found.unwrap()
    };
    let lowest_failed = ratio(|knative| knative.minute(("knative", "low", 1), 2, false));
    assert!((lowest_failed - 2500.0).abs() < 50.0, "it achieved 1 of 2 per second: {lowest_failed}");
    let growing = ratio(|knative| knative.growing_minute(("knative", "low", 1), 2));
    assert!((growing - 1250.0).abs() < f64::EPSILON, "all that was asked was achieved, but for how long? {growing}");
    let between = ratio(|knative| {
        knative.minute(("knative", "low", 1), 2, true);
        knative.minute_of_three_quarters(("knative", "high", 1), 4);
    });
    assert!((between - 2500.0 / 3.0).abs() < 9.0, "it sustains 2 per second, and achieves 3: {between}");
}

#[test]
fn a_run_that_was_not_checked_is_never_held_and_the_page_says_so() {
    let fixture = Fixture::of_rates("cold-start-sweep", SWEEP, &["dirigent-kpa", "knative"]);
    for repetition in 1..=5 {
        fixture.minute(("dirigent-kpa", "fast", repetition), 2500, true);
        fixture.minute(("knative", "low", repetition), 2, false);
    }
    let page = || fs::read_to_string(fixture.path().join("report/index.html")).unwrap();
    let claim = judged(&fixture).remove(0);
    assert_eq!(claim.verdict, Verdict::NotMeasured, "{claim:?}");
    assert!(claim.reason.contains("invariants were not checked"), "{}", claim.reason);
    assert!(page().contains("mark warn\">invariants not checked for 10 repetitions"), "the header says so");
    assert_eq!(reported(&fixture).remove(0).verdict, Verdict::Held);
    assert!(page().contains("mark good\">every invariant held"));
    let loadgen = fixture.path().join("dirigent-kpa/fast/3/loadgen.json");
    let text = fs::read_to_string(&loadgen).unwrap();
    fs::write(&loadgen, text.replace("\"started_unix_ns\": 0", "\"started_unix_ns\": 1")).unwrap();
    let claim = judged(&fixture).remove(0);
    assert_eq!(claim.verdict, Verdict::NotMeasured, "one was measured again since: {claim:?}");
}

#[test]
fn a_broken_invariant_makes_the_claim_invalid_and_the_header_red() {
    let fixture = Fixture::of_rates("cold-start-sweep", SWEEP, &["dirigent-kpa", "knative"]);
    for repetition in 1..=5 {
        fixture.minute(("dirigent-kpa", "fast", repetition), 2500, true);
        fixture.minute(("knative", "low", repetition), 2, false);
    }
    for (weight, finding, verdict) in [
        (Weight::Validity, Finding::NotHeld, Verdict::Invalid),
        (Weight::Lateness, Finding::NotHeld, Verdict::Invalid),
        (Weight::Validity, Finding::NotMeasured, Verdict::NotMeasured),
        (Weight::Mark, Finding::NotHeld, Verdict::Held),
        (Weight::Threshold, Finding::NotHeld, Verdict::Held),
    ] {
        fixture.verified_but(vec![rule(("dirigent-kpa", "fast", 4), weight, finding)]);
        let mut analysis = Command::new(assert_cmd::cargo::cargo_bin!("analysis"));
        let code = analysis.arg("report").arg(fixture.path()).assert().get_output().status.code();
        let claims: Claims = read_json(&RunDir(fixture.path().to_owned()).claims()).unwrap();
        let claim = &claims.claims[0];
        assert_eq!(claim.verdict, verdict, "{weight:?} {finding:?}: {claim:?}");
        let page = fs::read_to_string(fixture.path().join("report/index.html")).unwrap();
        let is_broken = verdict == Verdict::Invalid;
        assert_eq!(page.contains("mark bad\">1 invariant broken"), is_broken, "{weight:?} {finding:?}");
        assert_eq!(code, Some(if is_broken { 3 } else { 0 }), "{weight:?} {finding:?}");
        if is_broken {
            assert!(claim.reason.contains("repetition 4: \"a rule\" is not held (3 of 4)"), "{}", claim.reason);
        }
    }
}

#[test]
fn only_what_a_claim_uses_counts_and_only_the_better_system_must_prove_everything() {
    let fixture = Fixture::of_rates("cold-start-sweep", SWEEP, &["dirigent-kpa", "knative"]);
    fixture.minute(("dirigent-kpa", "other", 1), 100, true);
    for repetition in 1..=5 {
        fixture.minute(("dirigent-kpa", "fast", repetition), 2500, true);
        fixture.minute(("knative", "low", repetition), 2, false);
    }
    fixture.verified_but(vec![
        rule(("knative", "low", 2), Weight::Validity, Finding::NotMeasured),
        rule(("dirigent-kpa", "other", 1), Weight::Mark, Finding::NotHeld),
    ]);
    let claim = judged(&fixture).remove(0);
    assert_eq!((claim.verdict, claim.reason.as_str()), (Verdict::Held, ""), "others cannot prove everything");
    fixture.verified_but(vec![rule(("dirigent-kpa", "other", 1), Weight::Validity, Finding::NotHeld)]);
    let mut analysis = Command::new(assert_cmd::cargo::cargo_bin!("analysis"));
    analysis.arg("report").arg(fixture.path()).assert().code(3);
    let claims: Claims = read_json(&RunDir(fixture.path().to_owned()).claims()).unwrap();
    assert_eq!(claims.claims[0].verdict, Verdict::Held, "the claim is not about that point: {:?}", claims.claims[0]);
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
    assert_eq!((claim.verdict, claim.reason.as_str()), (Verdict::Held, ""), "{claim:?}");
    assert_eq!((claim.found, claim.unit.as_str(), claim.p), (Some(87.5), "%", None), "1 − 500 / 4,000");
    let summary: Summary = read_json(&RunDir(fixture.path().to_owned()).summary()).unwrap();
    let not_judged = summary.rates.iter().all(|point| point.sustained.verdict.is_none());
    assert!(not_judged, "a burst has no rate to keep up");
    let page = fs::read_to_string(fixture.path().join("report/index.html")).unwrap();
    let sentence = "knative, delay 500ms: the cluster manager's share is 50.0 % of 10 at once, 87.5 % of 100 at once.";
    assert!(page.contains(sentence), "the page lacks: {sentence}");
    assert!(page.contains("<figure id=\"figure-overhead\">") && !page.contains("<section id=\"rates\">"));
    let svg = fs::read_to_string(fixture.path().join("report/figures/overhead.svg")).unwrap();
    assert!(svg.contains("simultaneous cold starts") && !svg.contains("NaN"));
}
