//! Every outcome for every kind of claim, and inputs that must not make a claim held.

mod evidence;
mod plan;
mod rig;
mod soundness;
mod system_failures;

use record::{
    ClaimOutcome, EvaluatedClaim, FailedRepetition, Finding, Invariant, Outcome, PointSummary, RateCheck, Scope,
    SustainedRateTest, Weight,
};

use self::rig::{Minute, Rig, name, point};
use super::{conclusion::Conclusion, surely_failed::surely_failed};

/// A kind of claim: the run in which it is held, those in which its interval contains the bound and lies below it, and
/// the place of its first repetition.
struct Kind {
    id: &'static str,
    held: Rig,
    around: Rig,
    below: Rig,
    place: (&'static str, &'static str),
}

/// A sweep in which both use so many milliseconds for a cold start, ours at 3,900 per second and the baseline at 2.
fn costs<const N: usize>(subject: [u64; N], reference: [u64; N]) -> Rig {
    let mut rig = Rig::sweep([3900; N]);
    for rate in rig::OURS {
        rig.cost(("dirigent-kpa", f64::from(rate)), subject.map(|each| if rate == 3900 { each } else { each + 9 }));
    }
    rig.cost(("knative", 2.0), reference);
    rig.cost(("knative", 3.0), reference.map(|each| each + 1));
    rig
}

fn kinds() -> [Kind; 4] {
    [
        Kind {
            id: "cold-start-cpu-knative",
            held: costs([3, 3, 3, 4, 4], [9; 5]),
            around: costs([3, 3, 3, 9, 9], [8; 5]),
            below: costs([9; 5], [8; 5]),
            place: ("dirigent-kpa", "rate-3900"),
        },
        Kind {
            id: "cold-start-rate-knative",
            held: Rig::sweep([3900, 3900, 3900, 4500, 4500]),
            around: Rig::sweep([3000, 3000, 3900, 4500, 4500]),
            below: Rig::sweep([3000; 5]),
            place: ("dirigent-kpa", "rate-3900"),
        },
        Kind {
            id: "azure-500-slowdown-knative",
            held: Rig::trace([1000.0, 1100.0, 1200.0, 1300.0, 1400.0]),
            around: Rig::trace([900.0, 1100.0, 1200.0, 1300.0, 1400.0]),
            below: Rig::trace([900.0; 5]),
            place: ("dirigent-kpa", "azure-500"),
        },
        Kind {
            id: "overhead-share-knative",
            held: Rig::bursts([650, 650, 700, 700, 700]),
            around: Rig::bursts([600, 650, 700, 700, 700]),
            below: Rig::bursts([600, 640, 640, 640, 649]),
            place: ("knative", "burst-100-delay-500ms"),
        },
    ]
}

#[track_caller]
fn assert_outcome(rig: &Rig, outcome: ClaimOutcome, reason: &str) {
    assert_claim(&rig.first(), outcome, reason);
}

#[track_caller]
fn assert_claim(claim: &EvaluatedClaim, outcome: ClaimOutcome, reason: &str) {
    assert_eq!(claim.outcome, outcome, "{}: {}", claim.id, claim.reason);
    assert!(claim.reason.contains(reason), "{}: {} lacks: {reason}", claim.id, claim.reason);
    assert_eq!(claim.reason.is_empty(), outcome == ClaimOutcome::Held, "{}: {}", claim.id, claim.reason);
}

#[test]
fn every_outcome_is_reached_for_every_kind_of_claim() {
    for Kind { id, held, around, below, place: (system, place) } in kinds() {
        let assert_outcome = |rig: &Rig, outcome, reason| assert_claim(&rig.claim(id), outcome, reason);
        assert_outcome(&held, ClaimOutcome::Held, "");
        assert_outcome(&around, ClaimOutcome::Inconclusive, "contains");
        assert_outcome(&below, ClaimOutcome::NotHeld, "below");
        let with = |change: &dyn Fn(&mut Rig)| {
            let mut rig = held.clone();
            change(&mut rig);
            rig
        };
        let broken = with(&|rig| rig.rule((system, place, 4), Weight::Validity, Finding::NotHeld));
        assert_outcome(&broken, ClaimOutcome::Invalid, "repetition 4: \"a rule\" is not held");
        let missing = with(&|rig| {
            rig.points.retain(|point| (&*point.system, &*point.point, point.repetition) != (system, place, 4));
            let [system, point, reason] = [system, place, "it burnt\ndown"].map(str::to_owned);
            rig.manifest.failures.push(FailedRepetition { system, point, repetition: 4, reason, untried: false });
        });
        // A failed subject is a result: it sustained nothing there. Its next cheapest point is too expensive.
        let (outcome, reason) = match (id, system) {
            ("cold-start-cpu-knative", _) => (ClaimOutcome::NotHeld, "below 1"),
            (_, "dirigent-kpa") => (ClaimOutcome::Inconclusive, "contains"),
            _ => (ClaimOutcome::NotMeasured, "repetition 4: it failed: it burnt"),
        };
        assert_outcome(&missing, outcome, reason);
        let few = with(&|rig| {
            rig.points.retain(|point| point.repetition < 5);
            rig.manifest.points.iter_mut().for_each(|point| point.repetitions = Some(4));
        });
        assert_outcome(&few, ClaimOutcome::NotMeasured, "4 repetitions, and needs 5");
        let quick = with(&|rig| rig.manifest.quick = true);
        assert_outcome(&quick, ClaimOutcome::NotMeasured, "a quick run is no evidence");
        assert!(quick.claim(id).found.is_some(), "what it found is shown");
        let elsewhere = with(&|rig| rig.manifest.scale = "cluster-17".to_owned());
        assert_outcome(&elsewhere, ClaimOutcome::NotMeasured, "this run is at scale cluster-17");
        let unchecked = with(&|rig| rig.checked = false);
        assert_outcome(&unchecked, ClaimOutcome::NotMeasured, "invariants were not checked");
        let nothing = with(&|rig| rig.points.clear());
        assert_outcome(&nothing, ClaimOutcome::NotMeasured, "no rows of");
    }
}

#[test]
fn a_median_above_the_bound_whose_interval_contains_it_is_not_held() {
    let mut rig = Rig::sweep([3000, 3000, 3900, 4500, 4500]);
    for number in 1..=5 {
        rig.minute(("knative", 3.0, number), Minute::Unsure);
        rig.minute(("knative", 3.1, number), Minute::Failed);
    }
    let claim = rig.first();
    assert_eq!(claim.outcome, ClaimOutcome::Inconclusive, "{}", claim.reason);
    assert_eq!(claim.reason, "highest sustained rate: the interval of the ratio, [968; 1,452], contains 1,250");
    assert!((claim.found.unwrap() - 3900.0 / 3.1).abs() < 1e-9, "its median is above: {:?}", claim.found);
    assert_eq!(claim.criterion, "the lower end of the 95 % interval of the ratio is at least 1,250");
    let limit =
        "surely failed, above all that it sustained: 3.1 per second in the median of repetitions, of which it achieved";
    assert!(claim.note.contains(limit), "{}", claim.note);
}

#[test]
fn ours_failing_the_lowest_rate_tried_is_not_held_in_whichever_repetition() {
    let mut rig = Rig::sweep([4500; 5]);
    rig.minute(("dirigent-kpa", 1000.0, 2), Minute::Failed);
    assert_outcome(
        &rig,
        ClaimOutcome::NotHeld,
        "sustained not even 1000 per second, the lowest rate tried, in repetition 2",
    );
    // A baseline whose limit is not known does not hide it.
    for number in 1..=5 {
        rig.without(("knative", 3.0, number));
    }
    assert_outcome(&rig, ClaimOutcome::NotHeld, "not even 1000");
    rig.rule(("dirigent-kpa", "rate-1000", 2), Weight::Validity, Finding::NotHeld);
    assert_outcome(&rig, ClaimOutcome::Invalid, "repetition 2: \"a rule\"");
}

#[test]
fn a_repetition_in_which_nothing_succeeds_is_invalid_whosever_it_is() {
    let nothing_of = |rig: &mut Rig, (system, place): (&str, &str)| {
        let of = rig.points.iter_mut().filter(|point| (point.system.as_str(), point.point.as_str()) == (system, place));
        for point in of.filter(|point| point.repetition == 3) {
            let outcomes = [(Outcome::Timeout, point.counts.measured)].into_iter().collect();
            point.counts.outcomes = outcomes;
            point.validity.valid = Some(false);
            point.validity.reasons = vec!["no measured invocation succeeded".to_owned()];
        }
    };
    for system in ["dirigent-kpa", "knative"] {
        let mut rig = Rig::trace([1200.0; 5]);
        nothing_of(&mut rig, (system, "azure-500"));
        assert_outcome(
            &rig,
            ClaimOutcome::Invalid,
            "repetition 3 is not known to be valid: no measured invocation succeeded",
        );
    }
    // A late generator says nothing about a system, and this does: no higher rate replaces it.
    let mut rig = Rig::sweep([4500; 5]);
    nothing_of(&mut rig, ("dirigent-kpa", "rate-3000"));
    assert_outcome(&rig, ClaimOutcome::Invalid, "`dirigent-kpa`, rate-3000, repetition 3 is not known to be valid");
}

#[test]
fn a_late_generator_voids_only_the_points_that_it_touched() {
    let mut rig = Rig::sweep([4500; 5]);
    for number in 2..=5 {
        rig.minute(("dirigent-kpa", 3000.0, number), Minute::Late);
    }
    rig.rule(("dirigent-kpa", "rate-3900", 1), Weight::Lateness, Finding::NotHeld);
    assert_outcome(&rig, ClaimOutcome::Held, "");
    // By the runner's rule it was late; the rows alone call it sustained.
    let mut by_rule = rig.clone();
    by_rule.rule(("dirigent-kpa", "rate-4500", 1), Weight::Lateness, Finding::NotHeld);
    assert_eq!(by_rule.first().interval.unwrap().0, 1000.0, "3,000 / 3: 3,900 was late as well, {:?}", by_rule.first());
    // What was sustained in spite of it is the next lower rate.
    rig.minute(("dirigent-kpa", 4500.0, 2), Minute::Late);
    assert_eq!(rig.first().interval.unwrap().0, 1300.0, "3,900 / 3");
    for rate in rig::OURS {
        rig.minute(("dirigent-kpa", f64::from(rate), 2), Minute::Late);
    }
    assert_outcome(&rig, ClaimOutcome::Invalid, "is not known to be valid");
    // Whether a lower rate is sustained is not known where the generator was late and the next one was too much.
    rig.minute(("dirigent-kpa", 3000.0, 2), Minute::Failed);
    assert_outcome(&rig, ClaimOutcome::Invalid, "rate-1000, repetition 2");
}

#[test]
fn a_window_too_short_to_test_is_passed_over_and_alone_measures_nothing() {
    let mut rig = Rig::sweep([4500; 5]);
    rig.minute(("dirigent-kpa", 1000.0, 1), Minute::Short);
    assert_outcome(&rig, ClaimOutcome::Held, "");
    for rate in rig::OURS {
        rig.minute(("dirigent-kpa", f64::from(rate), 1), Minute::Short);
    }
    assert_outcome(&rig, ClaimOutcome::NotMeasured, "at 1000 per second, repetition 1 is not judged: a reason");
}

#[test]
fn what_a_rate_claim_does_not_use_may_be_broken_and_what_it_uses_may_not() {
    let mut rig = Rig::sweep([3900; 5]);
    rig.rule(("dirigent-kpa", "rate-4500", 1), Weight::Validity, Finding::NotHeld);
    rig.rule(("knative", "rate-2", 1), Weight::Validity, Finding::NotHeld);
    rig.rule(("knative", "rate-3", 1), Weight::Validity, Finding::NotMeasured);
    rig.rule(("dirigent-kpa", "rate-1000", 1), Weight::Mark, Finding::NotHeld);
    rig.without(("dirigent-kpa", 4500.0, 3));
    assert_outcome(&rig, ClaimOutcome::Held, "");
    let with = |place, weight, finding| {
        let mut rig = rig.clone();
        rig.rule(place, weight, finding);
        rig
    };
    let unproved = with(("dirigent-kpa", "rate-3900", 1), Weight::Validity, Finding::NotMeasured);
    assert_outcome(&unproved, ClaimOutcome::NotMeasured, "\"a rule\" is not measured");
    let below = with(("dirigent-kpa", "rate-1000", 1), Weight::Validity, Finding::NotHeld);
    assert_outcome(&below, ClaimOutcome::Invalid, "rate-1000, repetition 1");
    for weight in [Weight::Validity, Weight::Lateness] {
        let only_failure = with(("knative", "rate-3", 1), weight, Finding::NotHeld);
        assert_outcome(&only_failure, ClaimOutcome::Invalid, "`knative`, rate-3, repetition 1");
    }
}

#[test]
fn a_rule_about_all_systems_of_a_point_concerns_each_and_one_about_the_run_none() {
    let mut rig = Rig::sweep([3900; 5]);
    let rule = |scope| Invariant {
        scope,
        rule: "all systems were given the same schedule".to_owned(),
        weight: Weight::Validity,
        finding: Finding::NotHeld,
        detail: String::new(),
        share_ppm: None,
        most_ppm: None,
    };
    let at = |repetition| rule(Scope::Point { point: "rate-3900".to_owned(), repetition: Some(repetition) });
    rig.invariants.extend([rule(Scope::Run), at(9)]);
    assert_outcome(&rig, ClaimOutcome::Held, "");
    rig.invariants.push(at(5));
    assert_outcome(
        &rig,
        ClaimOutcome::Invalid,
        "repetition 5: \"all systems were given the same schedule\" is not held",
    );
}

#[test]
fn repetitions_are_matched_by_their_numbers() {
    let mut rig = Rig::sweep([4500, 4500, 4500, 4500, 3900]);
    rig.without(("dirigent-kpa", 3000.0, 2));
    assert_outcome(&rig, ClaimOutcome::NotMeasured, "rate-3000, repetition 2: it is missing, or was stopped");
}

#[test]
fn the_limit_is_the_lowest_rate_that_surely_failed_above_all_that_was_sustained() {
    let limit = |minutes: &[(f64, Minute)]| {
        let mut rig = Rig::sweep([4500; 5]);
        for number in 1..=5 {
            rig.without(("knative", 2.0, number));
            rig.without(("knative", 3.0, number));
            for (rate, what) in minutes {
                rig.minute(("knative", *rate, number), *what);
            }
        }
        let claim = rig.first();
        claim.found.map(|ratio| (4500.0 / ratio * 10.0).round() / 10.0).ok_or((claim.outcome, claim.reason))
    };
    assert_eq!(limit(&[(2.0, Minute::Failed)]), Ok(2.0), "not what it achieved, 1.8");
    assert_eq!(limit(&[(2.0, Minute::Sustained), (3.0, Minute::Unsure), (5.0, Minute::Failed)]), Ok(5.0));
    assert_eq!(limit(&[(2.0, Minute::Failed), (3.0, Minute::Sustained), (5.0, Minute::Failed)]), Ok(5.0));
    let (outcome, reason) = limit(&[(2.0, Minute::Failed), (3.0, Minute::Sustained)]).unwrap_err();
    assert_eq!(outcome, ClaimOutcome::NotMeasured);
    assert_eq!(
        reason,
        "`knative` sustained 3 per second in repetition 1, and surely failed at none above: its limit is not known"
    );
    let (outcome, reason) = limit(&[(2.0, Minute::Unsure)]).unwrap_err();
    assert!(outcome == ClaimOutcome::NotMeasured && reason.contains("`knative` sustained no rate tried"), "{reason}");
}

#[test]
fn an_outcome_that_depends_on_how_failures_count_is_not_held() {
    let mut rig = Rig::trace([1200.0; 5]);
    for point in rig.points.iter_mut().filter(|point| point.system == "knative") {
        point.slowdowns[1].p99 = 900.0;
    }
    assert_outcome(&rig, ClaimOutcome::NotHeld, "it is held and not held");
}

#[test]
fn a_claim_shows_the_ratio_to_another_variant_or_why_there_is_none() {
    let mut rig = Rig::sweep([4500; 5]);
    assert_eq!(rig.first().secondary[0].reason, "this run has no rows of `knative-tuned`");
    for number in 1..=5 {
        rig.minute(("knative-tuned", 5.0, number), Minute::Failed);
    }
    let secondary = rig.first().secondary.remove(0);
    assert_eq!(
        (secondary.ratio, secondary.interval, secondary.reason.as_str()),
        (Some(900.0), Some((900.0, 900.0)), "")
    );
    rig.rule(("knative-tuned", &name(5.0), 2), Weight::Validity, Finding::NotHeld);
    let secondary = rig.first().secondary.remove(0);
    assert!(secondary.ratio.is_none() && secondary.reason.contains("\"a rule\" is not held"), "{secondary:?}");
    assert_eq!(rig.first().outcome, ClaimOutcome::Held, "its claim does not rest on it");
}

#[test]
fn cpu_time_is_compared_at_the_cheapest_points_and_ours_must_have_been_sustained() {
    let id = "cold-start-cpu-knative";
    let mut rig = costs([3; 5], [90; 5]);
    // Saturated, the subject appears cheaper although the reference is.
    rig.cost(("dirigent-kpa", 4500.0), [1; 5]);
    rig.cost(("knative", 3.0), [60; 5]);
    let claim = rig.claim(id);
    assert_eq!((claim.outcome, claim.found, claim.unit.as_str()), (ClaimOutcome::Held, Some(20.0), "times"));
    let note = "`dirigent-kpa` uses least at rate-3900: 3.00 ms of CPU time per cold start, in the median. `knative` uses least \
                at rate-3: 60.0 ms of CPU time per cold start, in the median.";
    assert_eq!(claim.note, note);
    // A cheap point of the baseline that may not be used is not left out in our favour; a dear one may be.
    rig.rule(("knative", "rate-2", 1), Weight::Validity, Finding::NotHeld);
    assert_claim(&rig.claim(id), ClaimOutcome::Held, "");
    rig.rule(("knative", "rate-3", 1), Weight::Validity, Finding::NotHeld);
    assert_claim(&rig.claim(id), ClaimOutcome::Invalid, "`knative`, rate-3, repetition 1");
    let mut saturated = costs([3; 5], [90; 5]);
    for rate in rig::OURS {
        saturated.minute(("dirigent-kpa", f64::from(rate), 1), Minute::Failed);
        saturated.cost(("dirigent-kpa", f64::from(rate)), [1; 5]);
    }
    assert_claim(&saturated.claim(id), ClaimOutcome::NotHeld, "sustained no rate tried in every repetition");
    let mut unknown = costs([3; 5], [90; 5]);
    unknown.points.iter_mut().filter(|point| point.system == "knative").for_each(|point| point.processes.clear());
    assert_claim(&unknown.claim(id), ClaimOutcome::NotMeasured, "its creations or its CPU time are not on record");
}

#[test]
fn no_difference_is_not_a_ratio() {
    let found = |p| super::EffectEstimate {
        value: Some(1.5),
        interval: Some(stats::Interval { lower: 1.2, upper: 1.6 }),
        p: Some(p),
    };
    assert_eq!(Conclusion::by_interval(&found(0.008), 1.0, true).outcome, ClaimOutcome::Held);
    let by_chance = Conclusion::by_interval(&found(0.02), 1.0, true);
    assert_eq!(
        (by_chance.outcome, by_chance.reason.as_str()),
        (ClaimOutcome::Inconclusive, "no difference seen (p = 0.020)")
    );
    assert_eq!(
        Conclusion::by_interval(&super::EffectEstimate::default(), 1.0, true).outcome,
        ClaimOutcome::NotMeasured
    );
}

#[test]
fn a_rate_surely_failed_only_beyond_chance_in_a_valid_repetition() {
    let minute = |rows, ok| point(("s", "p", 1), rows, ok);
    assert_eq!(surely_failed(&minute(900, 836)).unwrap(), "at most 94.2 % of it were achieved, below 95 %");
    // The same share of fewer rows may be chance; then failures are found, which are 7 %.
    assert!(surely_failed(&minute(100, 93)).unwrap().contains("of the invocations failed"));
    assert_eq!(surely_failed(&minute(200, 197)), None, "1.5 % of 200 may be 0.4 %");
    assert!(surely_failed(&minute(2000, 1960)).unwrap().contains("at least 1.5"));
    let growing = |slope, rows| {
        let sustained = RateCheck { holds: Some(false), reasons: Vec::new() };
        let rate_test =
            SustainedRateTest { sustained, slope_lower_percent_per_min: Some(slope), ..SustainedRateTest::default() };
        PointSummary { rate_test: Some(rate_test), ..minute(rows, rows) }
    };
    assert_eq!(surely_failed(&growing(4.9, 200)), None);
    assert!(surely_failed(&growing(5.0, 200)).unwrap().contains("latency grew by at least 5.00 %"));
    assert_eq!(surely_failed(&growing(50.0, 99)), None, "too few rows for a slope");
    let mut late = minute(900, 400);
    late.validity.valid = Some(false);
    assert_eq!(surely_failed(&late), None, "the generator was late");
}
