//! Identity of a repetition's rows, and the end of its system: the conditions for its rows to count, for either
//! operand.

use record::{ClaimOutcome, Finding, Invariant, Weight};

use super::{
    assert_claim, costs,
    evidence::comparisons,
    rig::{OURS, Rig, name},
};

const IDS: [&str; 2] = ["cold-start-rate-knative", "cold-start-cpu-knative"];

#[test]
fn a_rate_that_was_surely_too_much_for_ours_is_not_sustained_whatever_its_warm_rows_say() {
    let mark = |rig: &mut Rig, (system, place): (&str, &str), numbers: &[u32]| {
        for number in numbers {
            rig.found((system, place, *number), Invariant::COLD, (Weight::Mark, Finding::NotHeld));
        }
    };
    let marked = |system: &str, place: &str, numbers: &[u32]| {
        let mut rig = costs([3; 5], [9; 5]);
        mark(&mut rig, (system, place), numbers);
        rig
    };
    // A lower one is used instead: of rates the next one, and of CPU time the next cheapest, which is more expensive
    // than the reference's.
    let once = marked("dirigent-kpa", "rate-3900", &[2]);
    assert_claim(&once.claim(IDS[0]), ClaimOutcome::Inconclusive, "[1,000; 1,300]");
    assert_claim(&once.claim(IDS[1]), ClaimOutcome::NotHeld, "below 1");
    let lowest = "`dirigent-kpa` sustained not even 1000 per second, the lowest rate tried, in repetition 1: its rate was surely too much";
    assert_claim(&marked("dirigent-kpa", "rate-1000", &[1, 2, 3, 4, 5]).claim(IDS[0]), ClaimOutcome::NotHeld, lowest);
    // The result below it is still valid, and warm responses only favour the reference.
    let mut above = Rig::sweep([4500; 5]);
    mark(&mut above, ("dirigent-kpa", "rate-4500"), &[1, 2, 3, 4, 5]);
    let claim = above.claim(IDS[0]);
    assert_eq!((claim.outcome, claim.found), (ClaimOutcome::Held, Some(1300.0)), "{}", claim.reason);
    for id in IDS {
        for (system, place) in [("dirigent-kpa", "rate-4500"), ("knative", "rate-2"), ("knative", "rate-3")] {
            assert_claim(&marked(system, place, &[2]).claim(id), ClaimOutcome::Held, "");
        }
    }
    // At a rate that was not too high, warm responses make it another measurement.
    let mut warm = costs([3; 5], [9; 5]);
    warm.found(("dirigent-kpa", "rate-3900", 2), Invariant::COLD, (Weight::Validity, Finding::NotHeld));
    assert_claim(&warm.claim(IDS[0]), ClaimOutcome::Invalid, "\"cold starts as expected\" is not held");
}

/// Says that a process of a system ended early in these repetitions.
fn ends_early(rig: &mut Rig, (system, place): (&str, &str), numbers: impl IntoIterator<Item = u32>) {
    for number in numbers {
        rig.found((system, place, number), Invariant::LIVED, (Weight::Validity, Finding::NotHeld));
        let last = rig.invariants.last_mut().unwrap();
        "control-plane ended with exit code 7".clone_into(&mut last.detail);
    }
}

#[test]
fn ours_that_ends_early_in_the_load_failed_there_and_the_adversary_was_not_measured() {
    let why = "control-plane ended with exit code 7";
    for (id, held, place) in [
        ("azure-500-slowdown-knative", Rig::trace([1200.0; 5]), "azure-500"),
        ("cold-start-rate-knative", Rig::sweep([4500; 5]), "rate-1000"),
    ] {
        let mut all = held.clone();
        ends_early(&mut all, ("dirigent-kpa", place), 1..=5);
        let reason = format!("`dirigent-kpa` failed at {place} in 5 of 5 repetitions: {why}");
        assert_claim(&all.claim(id), ClaimOutcome::NotHeld, &reason);
        let mut one = held.clone();
        ends_early(&mut one, ("dirigent-kpa", place), [4]);
        assert_claim(&one.claim(id), ClaimOutcome::Inconclusive, "contains");
        let note = format!("count as nothing sustained: 4 (at {place}: {why})");
        assert!(one.claim(id).note.contains(&note), "{}", one.claim(id).note);
        // Where the user stopped it, or its rows are of something else, that it ended says nothing.
        for rule in [Invariant::ENDED].iter().chain(&Invariant::IDENTITY) {
            let mut another = held.clone();
            ends_early(&mut another, ("dirigent-kpa", place), 1..=3);
            another.found(("dirigent-kpa", place, 3), rule, (Weight::Validity, Finding::NotHeld));
            assert_claim(&another.claim(id), ClaimOutcome::Invalid, "repetition 3");
        }
    }
    for (id, held, reference, _) in comparisons() {
        let mut other = held;
        ends_early(&mut other, ("knative", reference), 1..=5);
        assert_claim(&other.claim(id), ClaimOutcome::Invalid, why);
    }
}

#[test]
fn where_ours_mostly_ends_early_nothing_else_that_is_broken_hides_it() {
    for ((id, held, reference, _), place) in comparisons().into_iter().zip(["azure-500", "rate-1000", ""]) {
        for (system, broken) in [("dirigent-kpa", place), ("knative", reference)] {
            let mut rig = held.clone();
            if place.is_empty() {
                // Of CPU time one failure is enough if it is at every point: none was sustained in all repetitions.
                OURS.iter().for_each(|rate| ends_early(&mut rig, ("dirigent-kpa", &name(f64::from(*rate))), [2]));
            } else {
                ends_early(&mut rig, ("dirigent-kpa", place), 1..=3);
            }
            let broken = if broken.is_empty() { "rate-3900" } else { broken };
            rig.rule((system, broken, 4), Weight::Validity, Finding::NotHeld);
            let claim = rig.claim(id);
            assert_eq!(claim.outcome, ClaimOutcome::NotHeld, "{id}, {system} {broken}: {}", claim.reason);
            // A load that is too small is no evidence of anything.
            rig.manifest.quick = true;
            assert_claim(&rig.claim(id), ClaimOutcome::NotMeasured, "a quick run");
        }
    }
}

#[test]
fn where_ours_ends_early_failures_are_counted_either_way() {
    let mut rig = Rig::trace([1200.0; 5]);
    ends_early(&mut rig, ("dirigent-kpa", "azure-500"), [4]);
    let id = "azure-500-slowdown-knative";
    assert_claim(&rig.claim(id), ClaimOutcome::Inconclusive, "contains");
    for point in rig.points.iter_mut().filter(|point| point.system == "knative") {
        point.slowdowns[1].p99 = 900.0;
    }
    assert_claim(&rig.claim(id), ClaimOutcome::NotHeld, "it is inconclusive");
}

#[test]
fn cpu_time_of_ours_is_not_taken_where_it_ended_early() {
    let id = "cold-start-cpu-knative";
    let mut cheapest = costs([3; 5], [9; 5]);
    ends_early(&mut cheapest, ("dirigent-kpa", "rate-3900"), [1]);
    assert_claim(&cheapest.claim(id), ClaimOutcome::NotHeld, "below 1");
    let mut all = costs([3; 5], [90; 5]);
    for rate in OURS {
        ends_early(&mut all, ("dirigent-kpa", &name(f64::from(rate))), [2]);
    }
    assert_claim(&all.claim(id), ClaimOutcome::NotHeld, "sustained no rate tried in every repetition");
}

#[test]
fn that_responses_were_read_in_time_must_be_known_of_either_side() {
    let rule = stats::Rule::Reading.sentence();
    let unread = |rig: &mut Rig, system: &str, place: &str| {
        for number in 1..=5 {
            rig.found((system, place, number), rule, (Weight::Lateness, Finding::NotMeasured));
        }
    };
    for (id, held, reference, own) in comparisons() {
        for (system, place) in [("knative", reference), ("dirigent-kpa", own)] {
            let mut rig = held.clone();
            unread(&mut rig, system, place);
            let claim = rig.claim(id);
            if (id, system) == (IDS[0], "dirigent-kpa") {
                // As with a late generator, the result below is still valid: 3,900 / 3.
                assert_eq!((claim.outcome, claim.found), (ClaimOutcome::Held, Some(1300.0)), "{}", claim.reason);
                OURS.iter().for_each(|rate| unread(&mut rig, system, &name(f64::from(*rate))));
            }
            assert_claim(
                &rig.claim(id),
                ClaimOutcome::NotMeasured,
                &format!("repetition 1: \"{rule}\" is not measured"),
            );
            // A broken invariant takes precedence.
            rig.rule((system, place, 1), Weight::Validity, Finding::NotHeld);
            if id != IDS[0] {
                assert_claim(&rig.claim(id), ClaimOutcome::Invalid, "\"a rule\" is not held");
            }
        }
    }
    let mut only = Rig::bursts([700; 5]);
    assert_claim(&only.first(), ClaimOutcome::Held, "");
    only.found(("knative", "burst-100-delay-500ms", 3), rule, (Weight::Lateness, Finding::NotMeasured));
    assert_claim(&only.first(), ClaimOutcome::NotMeasured, &format!("repetition 3: \"{rule}\" is not measured"));
}

#[test]
fn what_rows_are_must_be_proved_of_either_side() {
    for (id, held, reference, own) in comparisons() {
        for (system, place) in [("knative", reference), ("dirigent-kpa", own)] {
            for rule in Invariant::IDENTITY {
                let mut rig = held.clone();
                rig.found((system, place, 2), rule, (Weight::Validity, Finding::NotMeasured));
                let why = format!("`{system}`, {place}, repetition 2: \"{rule}\" is not measured");
                assert_claim(&rig.claim(id), ClaimOutcome::NotMeasured, &why);
            }
        }
        // A record in which there is no such rule does not say that it was kept.
        for (at, absent) in Invariant::IDENTITY_OF_ALL.into_iter().enumerate() {
            let silent = Rig { proved: vec![Invariant::IDENTITY_OF_ALL[1 - at]], ..held.clone() };
            assert_claim(&silent.claim(id), ClaimOutcome::NotMeasured, &format!("\"{absent}\" is not on record"));
        }
    }
}
