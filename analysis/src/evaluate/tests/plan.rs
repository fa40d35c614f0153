//! Planned measurements that are missing must not make a claim held.

use record::{ClaimOutcome, FailedRepetition, Finding, Weight};

use super::{
    assert_claim, assert_outcome, costs,
    rig::{Minute, Rig, name},
};

/// Records that a system failed at a rate in these repetitions, and removes their rows.
fn failed(rig: &mut Rig, (system, rate): (&str, f64), repetitions: impl IntoIterator<Item = u32>) {
    for repetition in repetitions {
        rig.without((system, rate, repetition));
        let [system, point, reason] = [system, &name(rate), "the control plane ended early"].map(str::to_owned);
        rig.manifest.failures.push(FailedRepetition { system, point, repetition, reason, untried: false });
    }
}

#[test]
fn a_rate_at_which_ours_failed_was_not_sustained_in_that_repetition() {
    let mut rig = Rig::sweep([4500; 5]);
    failed(&mut rig, ("dirigent-kpa", 3000.0), [3]);
    let one = "highest sustained rate: the interval of the ratio, [333; 1,500], contains 1,250";
    assert_outcome(&rig, ClaimOutcome::Inconclusive, one);
    failed(&mut rig, ("dirigent-kpa", 3000.0), [1, 2, 4, 5]);
    assert_outcome(&rig, ClaimOutcome::NotHeld, "highest sustained rate: the ratio is 333 [333; 333], below 1,250");
    failed(&mut rig, ("dirigent-kpa", 1000.0), 1..=5);
    let lowest = "`dirigent-kpa` failed at rate-1000 in 5 of 5 repetitions: the control plane ended early";
    assert_outcome(&rig, ClaimOutcome::NotHeld, lowest);
    let mut above = Rig::sweep([3900; 5]);
    failed(&mut above, ("dirigent-kpa", 4500.0), 1..=5);
    let above_all = "`dirigent-kpa` failed in 5 of 5 repetitions, and no claim is held where it fails: 1 (at rate-4500: the control";
    assert_outcome(&above, ClaimOutcome::Inconclusive, above_all);
    failed(&mut above, ("dirigent-kpa", 3900.0), [1]);
    assert_outcome(&above, ClaimOutcome::Inconclusive, "[1,000; 1,300], contains 1,250");
}

#[test]
fn repetitions_in_which_ours_failed_at_all_are_nothing_sustained_and_never_a_gap() {
    let of = |id: &str, system_failure: &[u32], untried: &[u32]| {
        let (mut rig, rates): (Rig, &[u32]) = match id {
            "azure-500-slowdown-knative" => (Rig::trace([1200.0; 5]), &[]),
            "cold-start-rate-knative" => (Rig::sweep([4500; 5]), &super::rig::OURS[..1]),
            _ => (costs([3; 5], [9; 5]), &super::rig::OURS),
        };
        for (numbers, untried) in [(system_failure, false), (untried, true)] {
            for repetition in numbers.iter().copied() {
                let all = rates.iter().map(|rate| name(f64::from(*rate)));
                let points: Vec<String> = if rates.is_empty() { vec!["azure-500".to_owned()] } else { all.collect() };
                for point in points {
                    rig.points.retain(|one| {
                        (&*one.system, &one.point, one.repetition) != ("dirigent-kpa", &point, repetition)
                    });
                    let [system, reason] = ["dirigent-kpa", "no memory"].map(str::to_owned);
                    rig.manifest.failures.push(FailedRepetition { system, point, repetition, reason, untried });
                }
            }
        }
        rig.claim(id)
    };
    for (id, point) in [("azure-500-slowdown-knative", "azure-500"), ("cold-start-rate-knative", "rate-1000")] {
        for (system_failure, untried) in
            [(&[1, 2, 3, 4, 5][..], &[][..]), (&[1, 2, 3, 4], &[5]), (&[1, 2, 4], &[]), (&[1, 2, 3], &[4, 5])]
        {
            let reason =
                format!("`dirigent-kpa` failed at {point} in {} of 5 repetitions: no memory", system_failure.len());
            assert_claim(&of(id, system_failure, untried), ClaimOutcome::NotHeld, &reason);
        }
        for system_failure in [&[2][..], &[2, 5]] {
            let claim = of(id, system_failure, &[]);
            assert_claim(&claim, ClaimOutcome::Inconclusive, "contains");
            let note = format!(
                "Repetitions in which `dirigent-kpa` failed count as nothing sustained: 2 (at {point}: no memory)"
            );
            assert!(claim.note.contains(&note), "{}", claim.note);
            assert_claim(
                &of(id, system_failure, &[1]),
                ClaimOutcome::NotMeasured,
                "repetition 1: it failed: no memory",
            );
        }
    }
    for (system_failure, untried) in [(&[1, 2, 3, 4, 5][..], &[][..]), (&[1, 2, 3, 4], &[5]), (&[2], &[])] {
        let claim = of("cold-start-cpu-knative", system_failure, untried);
        assert_claim(&claim, ClaimOutcome::NotHeld, "sustained no rate tried in every repetition");
    }
}

#[test]
fn a_planned_point_without_rows_leaves_a_rate_claim_not_measured() {
    let mut rig = Rig::sweep([4500; 5]);
    rig.plan(&["dirigent-kpa"], &["knative"]);
    for number in 1..=5 {
        for rate in [3.1, 5.0] {
            rig.minute(("knative", rate, number), Minute::Failed);
        }
    }
    assert_outcome(&rig, ClaimOutcome::Held, "");
    let mut subject = rig.clone();
    (1..=5).for_each(|number| subject.without(("dirigent-kpa", 3000.0, number)));
    assert_outcome(&subject, ClaimOutcome::NotMeasured, "`dirigent-kpa`, rate-3000, repetition 1: it is missing");
    // The baseline may sustain what was planned above its limit; below it, its limit could only be lower.
    let mut reference = rig.clone();
    (1..=5).for_each(|number| reference.without(("knative", 5.0, number)));
    assert_outcome(&reference, ClaimOutcome::NotMeasured, "`knative`, rate-5, repetition 1: it is missing");
    let mut below = rig.clone();
    (1..=5).for_each(|number| below.without(("knative", 2.0, number)));
    assert_outcome(&below, ClaimOutcome::Held, "");
    let mut nothing = rig.clone();
    nothing.points.retain(|point| point.system != "dirigent-kpa");
    assert_outcome(&nothing, ClaimOutcome::NotMeasured, "`dirigent-kpa`, rate-1000, repetition 1: it is missing");
}

#[test]
fn a_trace_at_which_ours_failed_each_time_is_not_held_and_one_that_is_missing_not_measured() {
    let mut rig = Rig::trace([1200.0; 5]);
    rig.points.retain(|point| point.system == "knative");
    assert_outcome(&rig, ClaimOutcome::NotMeasured, "no rows of `dirigent-kpa`");
    for repetition in 1..=5 {
        let [system, point, reason] = ["dirigent-kpa", "azure-500", "no memory"].map(str::to_owned);
        rig.manifest.failures.push(FailedRepetition { system, point, repetition, reason, untried: false });
    }
    assert_outcome(&rig, ClaimOutcome::NotHeld, "`dirigent-kpa` failed at azure-500 in 5 of 5 repetitions: no memory");
    for failure in &mut rig.manifest.failures {
        "knative".clone_into(&mut failure.system);
    }
    rig.points = Rig::trace([1200.0; 5]).points;
    rig.points.retain(|point| point.system == "dirigent-kpa");
    assert_outcome(&rig, ClaimOutcome::NotMeasured, "`knative`, azure-500, repetition 1: it failed: no memory");
}

#[test]
fn what_ours_was_not_even_tried_at_says_nothing_about_it() {
    let untried = |rig: &Rig, places: &[(&str, f64)]| {
        let mut rig = rig.clone();
        for place in places {
            failed(&mut rig, *place, 1..=5);
        }
        rig.manifest.failures.iter_mut().for_each(|failure| failure.untried = true);
        rig
    };
    let all = super::rig::OURS.map(|rate| ("dirigent-kpa", f64::from(rate)));
    for (id, rig) in
        [("cold-start-rate-knative", Rig::sweep([4500; 5])), ("cold-start-cpu-knative", costs([3; 5], [9; 5]))]
    {
        for places in [&all[..], &all[..1]] {
            let reason = "`dirigent-kpa`, rate-1000, repetition 1: it failed: the control plane ended early";
            assert_claim(&untried(&rig, places).claim(id), ClaimOutcome::NotMeasured, reason);
        }
    }
    let mut rig = Rig::trace([1200.0; 5]);
    rig.points.retain(|point| point.system == "knative");
    for repetition in 1..=5 {
        let [system, point, reason] = ["dirigent-kpa", "azure-500", "it cannot run here: 1 core"].map(str::to_owned);
        rig.manifest.failures.push(FailedRepetition { system, point, repetition, reason, untried: true });
    }
    assert_outcome(&rig, ClaimOutcome::NotMeasured, "azure-500, repetition 1: it failed: it cannot run here: 1 core");
}

#[test]
fn a_point_of_the_baseline_whose_cpu_time_is_not_known_could_be_its_cheapest() {
    let id = "cold-start-cpu-knative";
    // 0.5 ms in the repetitions with CPU time would make the subject more expensive.
    let mut seen = costs([3; 5], [90; 5]);
    seen.cost(("knative", 2.0), [1; 5]);
    assert_claim(&seen.claim(id), ClaimOutcome::NotHeld, "below 1");
    let unknown = "`knative`, rate-2, repetition 1: its creations or its CPU time are not on record";
    let hide = |rig: &mut Rig, repetitions: std::ops::RangeInclusive<u32>| {
        let place = ("knative", "rate-2");
        let of = rig.points.iter_mut().filter(|point| (point.system.as_str(), point.point.as_str()) == place);
        of.filter(|point| repetitions.contains(&point.repetition)).for_each(|point| point.processes.clear());
    };
    let mut all = seen.clone();
    hide(&mut all, 1..=5);
    assert_claim(&all.claim(id), ClaimOutcome::NotMeasured, unknown);
    // Of the rest it would seem dear.
    let mut some = costs([3; 5], [9; 5]);
    some.cost(("knative", 2.0), [1, 1, 1, 99, 99]);
    hide(&mut some, 1..=3);
    assert_claim(&some.claim(id), ClaimOutcome::NotMeasured, unknown);
    let mut missing = seen.clone();
    failed(&mut missing, ("knative", 2.0), 1..=5);
    assert_claim(&missing.claim(id), ClaimOutcome::NotMeasured, "`knative`, rate-2, repetition 1: it failed");
}

#[test]
fn cpu_time_of_ours_is_not_judged_where_a_planned_rate_is_missing_and_is_where_it_failed_each_time() {
    let id = "cold-start-cpu-knative";
    let mut rig = costs([3; 5], [90; 5]);
    rig.plan(&["dirigent-kpa"], &[]);
    (1..=5).for_each(|number| rig.without(("dirigent-kpa", 1000.0, number)));
    assert_claim(&rig.claim(id), ClaimOutcome::NotMeasured, "`dirigent-kpa`, rate-1000, repetition 1: it is missing");
    let mut crashed = costs([3; 5], [90; 5]);
    failed(&mut crashed, ("dirigent-kpa", 1000.0), 1..=5);
    let elsewhere =
        "`dirigent-kpa` failed in 5 of 5 repetitions, and no claim is held where it fails: 1 (at rate-1000:";
    assert_claim(&crashed.claim(id), ClaimOutcome::Inconclusive, elsewhere);
    for rate in super::rig::OURS {
        failed(&mut crashed, ("dirigent-kpa", f64::from(rate)), 1..=5);
    }
    assert_claim(&crashed.claim(id), ClaimOutcome::NotHeld, "sustained no rate tried in every repetition");
}

#[test]
fn a_baseline_that_creates_nothing_at_a_rate_does_not_hide_what_it_costs_at_others() {
    let id = "cold-start-cpu-knative";
    let mut rig = costs([3; 5], [90; 5]);
    let of = |rig: &mut Rig, places: &[&str]| {
        let reference = rig.points.iter_mut().filter(|point| point.system == "knative");
        for point in reference.filter(|point| places.contains(&point.point.as_str())) {
            point.rate_test.get_or_insert_default().creations = Some(0);
        }
    };
    of(&mut rig, &["rate-3"]);
    let claim = rig.claim(id);
    assert_eq!((claim.outcome, claim.found), (ClaimOutcome::Held, Some(30.0)), "{}", claim.reason);
    of(&mut rig, &["rate-2"]);
    assert_claim(&rig.claim(id), ClaimOutcome::NotMeasured, "`knative` created nothing at any point");
}

#[test]
fn a_claim_about_a_system_that_is_no_part_of_the_run_is_not_measured_whatever_the_other_one_came_to() {
    for (id, rig, place) in [
        ("azure-500-slowdown-knative", Rig::trace([1200.0; 5]), "azure-500"),
        ("cold-start-rate-knative", Rig::sweep([4500; 5]), "rate-3"),
        ("cold-start-cpu-knative", costs([3; 5], [9; 5]), "rate-2"),
    ] {
        let mut broken = rig;
        broken.rule(("knative", place, 1), Weight::Validity, Finding::NotHeld);
        assert_claim(&broken.claim(id), ClaimOutcome::Invalid, "\"a rule\" is not held");
        broken.points.retain(|point| point.system == "knative");
        assert_claim(&broken.claim(id), ClaimOutcome::NotMeasured, "this run has no rows of `dirigent-kpa`");
    }
    // One that was planned is part of it.
    let mut planned = Rig::sweep([4500; 5]);
    planned.rule(("knative", "rate-3", 1), Weight::Validity, Finding::NotHeld);
    planned.points.retain(|point| point.system == "knative");
    planned.plan(&["dirigent-kpa"], &["knative"]);
    assert_outcome(&planned, ClaimOutcome::Invalid, "\"a rule\" is not held");
}

#[test]
fn warm_answers_of_the_baseline_do_not_make_its_creations_dearer() {
    let id = "cold-start-cpu-knative";
    let mut rig = costs([3; 5], [60; 5]);
    let ratio = |rig: &Rig| (rig.claim(id).outcome, rig.claim(id).found);
    assert_eq!(ratio(&rig), (ClaimOutcome::Held, Some(20.0)));
    let mix = |rig: &mut Rig, (system, place): (&str, &str), answers| {
        for point in rig.points.iter_mut().filter(|point| (&*point.system, &*point.point) == (system, place)) {
            (point.cold.known, point.cold.cold) = (answers, 100);
            point.rate_test.get_or_insert_default().operations = Some(answers);
        }
    };
    mix(&mut rig, ("knative", "rate-2"), 125);
    assert_eq!(ratio(&rig), (ClaimOutcome::Held, Some(16.0)), "100 creations and 25 warm answers");
    mix(&mut rig, ("knative", "rate-2"), 3_000);
    assert_eq!(rig.claim(id).outcome, ClaimOutcome::NotHeld);
    // Of the subject, existing creations are charged with all CPU time.
    let mut subject = costs([3; 5], [60; 5]);
    mix(&mut subject, ("dirigent-kpa", "rate-3900"), 200);
    assert_eq!(ratio(&subject), (ClaimOutcome::Held, Some(20.0)));
}
