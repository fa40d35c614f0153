//! One failure among many repetitions: a bootstrap may not resample it, and the outcome must depend on it.

use record::{ClaimOutcome, FailedRepetition, Finding, Invariant, Weight};

use super::{
    Kind, assert_claim, costs, kinds,
    rig::{Minute, Rig, name, planned},
};

const WHY: &str = "control-plane ended with exit code 7";

/// Says that a process of a system ended early in the load of a repetition.
fn ends_early(rig: &mut Rig, (system, place, number): (&str, &str, u32)) {
    rig.found((system, place, number), Invariant::LIVED, (Weight::Validity, Finding::NotHeld));
    WHY.clone_into(&mut rig.invariants.last_mut().unwrap().detail);
}

/// Says that a system failed in a repetition, which has no rows then.
fn fails(rig: &mut Rig, (system, place, number): (&str, &str, u32)) {
    rig.points.retain(|one| (&*one.system, &*one.point, one.repetition) != (system, place, number));
    let [system, point, reason] = [system, place, WHY].map(str::to_owned);
    rig.manifest.failures.push(FailedRepetition { system, point, repetition: number, reason, untried: false });
}

/// Records a failure of a system at a point in a repetition.
type Fail = fn(&mut Rig, (&str, &str, u32));

/// The records that a failure can leave.
const WAYS: [Fail; 2] = [ends_early, fails];

/// Runs of so many repetitions in which each kind of claim is held.
fn held<const N: usize>() -> [(&'static str, Rig); 4] {
    [
        ("cold-start-cpu-knative", costs([3; N], [9; N])),
        ("cold-start-rate-knative", Rig::sweep([4500; N])),
        ("azure-500-slowdown-knative", Rig::trace([1200.0; N])),
        ("overhead-share-knative", Rig::bursts([700; N])),
    ]
}

/// One failure in `N` repetitions must keep every claim from being held.
fn one_death_holds_nothing<const N: usize>() {
    for (die, is_in_load) in WAYS.into_iter().zip([true, false]) {
        for (id, rig) in held::<N>() {
            assert_claim(&rig.claim(id), ClaimOutcome::Held, "");
            let places: &[(&str, &str, ClaimOutcome)] = match id {
                // At another rate than the one that is compared: the system might be cheaper there.
                "cold-start-cpu-knative" => &[("dirigent-kpa", "rate-1000", ClaimOutcome::Inconclusive)],
                "cold-start-rate-knative" => &[
                    ("dirigent-kpa", "rate-1000", ClaimOutcome::Inconclusive),
                    ("dirigent-kpa", "rate-3000", ClaimOutcome::Inconclusive),
                    ("dirigent-kpa", "rate-4500", ClaimOutcome::Inconclusive),
                ],
                "azure-500-slowdown-knative" => &[("dirigent-kpa", "azure-500", ClaimOutcome::Inconclusive)],
                _ if is_in_load => &[("knative", "burst-100-delay-500ms", ClaimOutcome::Invalid)],
                _ => &[("knative", "burst-100-delay-500ms", ClaimOutcome::NotMeasured)],
            };
            for (system, place, outcome) in places {
                let mut one = rig.clone();
                die(&mut one, (system, place, 2));
                let claim = one.claim(id);
                assert_eq!(claim.outcome, *outcome, "{id}, {N} repetitions, {place}: {}", claim.reason);
                assert!(claim.reason.contains(WHY) || claim.reason.contains("contains"), "{}", claim.reason);
                if *outcome == ClaimOutcome::Inconclusive && !claim.reason.contains("contains") {
                    let why = format!(
                        "`dirigent-kpa` failed in 1 of {N} repetitions, and no claim is held where it fails: 2 (at {place}: {WHY})"
                    );
                    assert_eq!(claim.reason, why, "{id}");
                }
            }
        }
    }
}

#[test]
fn one_death_of_ours_in_eight_or_ten_repetitions_holds_no_claim() {
    one_death_holds_nothing::<5>();
    one_death_holds_nothing::<8>();
    one_death_holds_nothing::<10>();
}

#[test]
fn where_the_subject_failed_in_most_repetitions_and_the_bound_is_not_reached_a_claim_is_not_held() {
    let id = "cold-start-rate-knative";
    for die in WAYS {
        let mut rig = Rig::sweep([4500; 8]);
        (1..=4).for_each(|number| die(&mut rig, ("dirigent-kpa", "rate-3000", number)));
        assert_eq!(rig.claim(id).outcome, ClaimOutcome::Inconclusive, "half of them: {}", rig.claim(id).reason);
        die(&mut rig, ("dirigent-kpa", "rate-3000", 5));
        let why = "`dirigent-kpa` failed in 5 of 8 repetitions, and what was found is below 1,250: 1 (at rate-3000:";
        assert_claim(&rig.claim(id), ClaimOutcome::NotHeld, why);
    }
}

#[test]
fn more_failures_of_the_subject_never_improve_the_outcome() {
    let rank = |outcome| match outcome {
        ClaimOutcome::NotHeld => 0,
        ClaimOutcome::Inconclusive => 1,
        ClaimOutcome::Held => 2,
        ClaimOutcome::Invalid | ClaimOutcome::NotMeasured => panic!("a death of ours is a result"),
    };
    for (id, rig) in held::<8>().into_iter().take(3) {
        let places = match id {
            "azure-500-slowdown-knative" => vec!["azure-500".to_owned()],
            _ => super::rig::OURS.map(|rate| name(f64::from(rate))).to_vec(),
        };
        for place in places {
            let mut before = rank(ClaimOutcome::Held);
            for failures in [1, 4, 5, 8] {
                let mut rig = rig.clone();
                (1..=failures).for_each(|number| ends_early(&mut rig, ("dirigent-kpa", &place, number)));
                let claim = rig.claim(id);
                let now = rank(claim.outcome);
                assert!(now <= before, "{id}, {place}, {failures} failures: {:?} {}", claim.outcome, claim.reason);
                assert_ne!(claim.outcome, ClaimOutcome::Held, "{id}, {place}, {failures} failures");
                before = now;
            }
        }
    }
}

#[test]
fn ours_that_dies_where_a_lower_rate_was_too_much_already_decides_no_rate() {
    let mut rig = Rig::sweep([3900; 8]);
    for number in 1..=8 {
        rig.minute(("dirigent-kpa", 3900.0, number), Minute::Sustained);
        rig.minute(("dirigent-kpa", 4500.0, number), Minute::Failed);
        rig.minute(("dirigent-kpa", 9000.0, number), Minute::Failed);
        ends_early(&mut rig, ("dirigent-kpa", "rate-9000", number));
    }
    rig.manifest.points.push(planned(9000.0, 8));
    assert_claim(&rig.claim("cold-start-rate-knative"), ClaimOutcome::Held, "");
}

#[test]
fn a_death_of_the_adversary_helps_no_claim() {
    // Although expensive only because of the failure, its cheapest point is not left out.
    let id = "cold-start-cpu-knative";
    let mut dear = costs([3; 8], [9; 8]);
    dear.cost(("knative", 3.0), [90; 8]);
    assert_claim(&dear.claim(id), ClaimOutcome::Held, "");
    let mut system_failure = dear.clone();
    system_failure.cost(("knative", 2.0), [900; 8]);
    (1..=8).for_each(|number| ends_early(&mut system_failure, ("knative", "rate-2", number)));
    assert_claim(&system_failure.claim(id), ClaimOutcome::Invalid, "`knative`, rate-2, repetition 1: \"every process");
    // A rate above its limit at which it failed might have been sustained.
    let id = "cold-start-rate-knative";
    let mut above = Rig::sweep([4500; 8]);
    (1..=8).for_each(|number| above.minute(("knative", 5.0, number), Minute::Failed));
    assert_claim(&above.claim(id), ClaimOutcome::Held, "");
    ends_early(&mut above, ("knative", "rate-5", 3));
    assert_claim(&above.claim(id), ClaimOutcome::Invalid, "`knative`, rate-5, repetition 3: \"every process");
    // A rate at which it failed is not its limit.
    let mut limit = Rig::sweep([4500; 8]);
    ends_early(&mut limit, ("knative", "rate-3", 3));
    assert_claim(&limit.claim(id), ClaimOutcome::Invalid, WHY);
    for Kind { id, held, .. } in kinds() {
        let mut rig = held;
        let places: Vec<String> =
            rig.points.iter().filter(|one| one.system == "knative").map(|one| one.point.clone()).collect();
        for place in places {
            ends_early(&mut rig, ("knative", &place, 2));
        }
        assert_claim(&rig.claim(id), ClaimOutcome::Invalid, WHY);
    }
}
