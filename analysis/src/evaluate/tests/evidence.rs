//! A smaller measurement than the claim requires, or noise on the reference's machine: neither holds a claim.

use std::time::Duration;

use record::{ClaimOutcome, DiscardedTry, Finding, Invariant, Load, MachineUse, Outcome, TraceLoad, Weight};

use super::{
    assert_claim, assert_outcome,
    rig::{Rig, replayed},
};

#[test]
fn marks_invalidate_nothing_and_are_noted_with_the_claim() {
    let mut rig = Rig::trace([1200.0; 5]);
    for (system, repetition) in [("knative", 1), ("knative", 1), ("dirigent-kpa", 4), ("dirigent", 1)] {
        rig.rule((system, "azure-500", repetition), Weight::Mark, Finding::NotHeld);
    }
    rig.rule(("knative", "azure-500", 2), Weight::Mark, Finding::Held);
    assert_outcome(&rig, ClaimOutcome::Held, "");
    assert_eq!(rig.first().note, "2 of the 10 repetitions of its systems are marked.");
}

#[test]
fn of_a_claim_about_one_system_everything_must_be_proved_and_only_cold_rows_be_there() {
    let place = ("knative", "burst-100-delay-500ms", 3);
    let outcome = |rule: &str, weight, finding| {
        let mut rig = Rig::bursts([650, 650, 700, 700, 700]);
        rig.found(place, rule, (weight, finding));
        rig.claim("overhead-share-knative")
    };
    assert_claim(&outcome("a rule", Weight::Validity, Finding::Held), ClaimOutcome::Held, "");
    let unproved = outcome("a rule", Weight::Validity, Finding::NotMeasured);
    assert_claim(&unproved, ClaimOutcome::NotMeasured, "repetition 3: \"a rule\" is not measured");
    assert_claim(&outcome(Invariant::COLD, Weight::Mark, Finding::Held), ClaimOutcome::Held, "");
    let mixed = outcome(Invariant::COLD, Weight::Mark, Finding::NotHeld);
    assert_claim(&mixed, ClaimOutcome::NotMeasured, "repetition 3: \"cold starts as expected\" is marked");
}

#[test]
fn a_load_smaller_than_what_is_claimed_is_no_evidence() {
    let rig = Rig::trace([1200.0; 5]);
    assert_outcome(&rig, ClaimOutcome::Held, "");
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (load, said) in [
        (TraceLoad { minutes: Some(29), ..replayed() }, "load.minutes of at least 30, and this run has 29"),
        (TraceLoad { minute: seconds(1), ..replayed() }, "load.minute of at least 60, and this run has 1s"),
        (TraceLoad { max_cores: Some(0.5), ..replayed() }, "load.max_cores of at least 51, and this run has 0.5"),
        (TraceLoad { max_run: seconds(10), ..replayed() }, "load.max_run of at least 600, and this run has 10s"),
        (TraceLoad { functions: Some(20), ..replayed() }, "load.functions of at least 500, and this run has 20"),
    ] {
        let mut smaller = rig.clone();
        smaller.manifest.points[0].load = Load::Trace(load);
        assert_outcome(&smaller, ClaimOutcome::NotMeasured, said);
        assert!(smaller.first().found.is_some(), "what it found is shown");
    }
    let mut larger = rig.clone();
    larger.manifest.points[0].load = Load::Trace(TraceLoad { functions: Some(500), minutes: Some(60), ..replayed() });
    assert_outcome(&larger, ClaimOutcome::Held, "");
}

#[test]
fn a_replay_smaller_than_what_is_claimed_is_no_evidence_whatever_was_typed() {
    let with = |system: &str, change: &dyn Fn(&mut record::PointSummary)| {
        let mut rig = Rig::trace([1200.0; 5]);
        let of = rig.points.iter_mut().filter(|point| (point.system.as_str(), point.repetition) == (system, 4));
        of.for_each(change);
        rig
    };
    for system in ["dirigent-kpa", "knative"] {
        let place = format!("`{system}`, azure-500, repetition 4 has");
        let few = with(system, &|point| point.counts.functions = 2);
        assert_outcome(
            &few,
            ClaimOutcome::NotMeasured,
            &format!("{place} 108419 of 2 in 1200 s: smaller is no evidence"),
        );
        assert!(few.first().found.is_some(), "what it found is shown");
        let rows = with(system, &|point| {
            point.counts.measured = 4;
            point.counts.outcomes = [(Outcome::Ok, 4)].into_iter().collect();
        });
        assert_outcome(&rows, ClaimOutcome::NotMeasured, &format!("{place} 4 of 293 in 1200 s"));
        let warmup = with(system, &|point| {
            point.rates = point.rates.map(|rates| record::Rates { window_s: 60.0, ..rates });
        });
        assert_outcome(&warmup, ClaimOutcome::NotMeasured, &format!("{place} 108419 of 293 in 60 s"));
    }
    let mut broken = with("knative", &|point| point.counts.functions = 2);
    broken.rule(("knative", "azure-500", 1), Weight::Validity, Finding::NotHeld);
    assert_outcome(&broken, ClaimOutcome::Invalid, "repetition 1");
}

/// Sets the result of a rule about other use of the machine; a violation is a use of 30 %.
fn noise(rig: &mut Rig, place: (&str, &str, u32), rule: &str, finding: Finding) {
    noise_of(rig, place, rule, (finding, (finding == Finding::NotHeld).then_some(300_000)));
}

/// Likewise, with the share of the machine.
fn noise_of(rig: &mut Rig, place: (&str, &str, u32), rule: &str, (finding, share): (Finding, Option<u64>)) {
    rig.found(place, rule, (Weight::Mark, finding));
    let last = rig.invariants.last_mut().unwrap();
    (last.share_ppm, last.most_ppm) = (share, share);
}

const OTHERS: &str = Invariant::NOISE[0];
const GENERATOR: &str = Invariant::NOISE[2];

/// Runs in which a claim is held, with its id, and the points that the values of the reference and of the subject come
/// from.
pub(super) fn comparisons() -> [(&'static str, Rig, &'static str, &'static str); 3] {
    let costs = super::costs([3; 5], [9; 5]);
    [
        ("azure-500-slowdown-knative", Rig::trace([1200.0; 5]), "azure-500", "azure-500"),
        ("cold-start-rate-knative", Rig::sweep([4500; 5]), "rate-3", "rate-4500"),
        ("cold-start-cpu-knative", costs, "rate-2", "rate-3900"),
    ]
}

#[test]
fn a_machine_that_others_used_while_the_adversary_alone_was_measured_holds_nothing() {
    for (id, held, reference, own) in comparisons() {
        let assert_outcome = |rig: &Rig, outcome, reason| assert_claim(&rig.claim(id), outcome, reason);
        let reason =
            "the machine was not quiet while `knative` was measured, in repetition 2, and nothing excuses that";
        for rule in Invariant::NOISE {
            let mut rig = held.clone();
            noise(&mut rig, ("knative", reference, 2), rule, Finding::NotHeld);
            assert_outcome(&rig, ClaimOutcome::Inconclusive, reason);
            noise(&mut rig, ("dirigent-kpa", own, 1), rule, Finding::NotHeld);
            assert_outcome(&rig, ClaimOutcome::Inconclusive, reason);
            // A higher load is given to the subject on purpose, and does not keep other processes away.
            noise(&mut rig, ("dirigent-kpa", own, 2), GENERATOR, Finding::NotHeld);
            assert_outcome(&rig, ClaimOutcome::Inconclusive, reason);
            noise(&mut rig, ("dirigent-kpa", own, 2), rule, Finding::NotHeld);
            let excused =
                if rule == GENERATOR { (ClaimOutcome::Inconclusive, reason) } else { (ClaimOutcome::Held, "") };
            assert_outcome(&rig, excused.0, excused.1);
            let mut subject = held.clone();
            noise(&mut subject, ("dirigent-kpa", own, 2), rule, Finding::NotHeld);
            assert_outcome(&subject, ClaimOutcome::Held, "");
        }
    }
    let mut alone = Rig::bursts([700; 5]);
    noise(&mut alone, ("knative", "burst-100-delay-500ms", 5), OTHERS, Finding::NotHeld);
    assert_outcome(&alone, ClaimOutcome::Inconclusive, "`knative` was measured, in repetition 5");
    let mut elsewhere = Rig::bursts([700; 5]);
    noise(&mut elsewhere, ("knative", "burst-1-delay-500ms", 5), OTHERS, Finding::NotHeld);
    assert_outcome(&elsewhere, ClaimOutcome::Held, "");
}

#[test]
fn noise_of_ours_excuses_no_more_of_the_adversarys_than_there_is_of_it() {
    for (id, held, reference, own) in comparisons() {
        for rule in Invariant::NOISE_OF_OTHERS {
            for (their_share, own_share, outcome) in [
                (Some(680_000), Some(101_000), ClaimOutcome::Inconclusive),
                (Some(301_000), Some(300_000), ClaimOutcome::Inconclusive),
                (Some(300_000), Some(300_000), ClaimOutcome::Held),
                (Some(101_000), Some(680_000), ClaimOutcome::Held),
                // The amount is unknown in an older record.
                (None, Some(680_000), ClaimOutcome::Inconclusive),
                (Some(101_000), None, ClaimOutcome::Inconclusive),
            ] {
                let mut rig = held.clone();
                for number in 1..=5 {
                    noise_of(&mut rig, ("knative", reference, number), rule, (Finding::NotHeld, their_share));
                    noise_of(&mut rig, ("dirigent-kpa", own, number), rule, (Finding::NotHeld, own_share));
                }
                let claim = rig.claim(id);
                assert_eq!(claim.outcome, outcome, "{id}, {rule}, {their_share:?} excused by {own_share:?}");
            }
        }
    }
}

#[test]
fn noise_counts_by_its_upper_bound_and_excuses_by_its_lower_bound() {
    use Finding::{Held, NotHeld, NotMeasured};
    let (unknown, noisy) =
        ("it is not known what else used the machine while `knative`", "the machine was not quiet while");
    for (id, held, reference, own) in comparisons() {
        for (their, subject, expected) in [
            ((NotMeasured, 99_000, 113_000), (Held, 0, 1_000), (ClaimOutcome::Inconclusive, unknown)),
            ((NotMeasured, 99_000, 113_000), (NotMeasured, 0, 400_000), (ClaimOutcome::Inconclusive, unknown)),
            ((NotMeasured, 99_000, 113_000), (NotHeld, 112_999, 400_000), (ClaimOutcome::Inconclusive, unknown)),
            ((NotMeasured, 99_000, 113_000), (NotHeld, 113_000, 400_000), (ClaimOutcome::Held, "")),
            ((NotHeld, 110_000, 150_000), (NotHeld, 149_999, 500_000), (ClaimOutcome::Inconclusive, noisy)),
            ((NotHeld, 110_000, 150_000), (NotHeld, 150_000, 500_000), (ClaimOutcome::Held, "")),
            ((Held, 0, 99_999), (NotMeasured, 0, 400_000), (ClaimOutcome::Held, "")),
        ] {
            let mut rig = held.clone();
            for (place, (finding, least, most)) in
                [(("knative", reference, 2), their), (("dirigent-kpa", own, 2), subject)]
            {
                noise_of(&mut rig, place, OTHERS, (finding, Some(least)));
                rig.invariants.last_mut().unwrap().most_ppm = Some(most);
            }
            assert_claim(&rig.claim(id), expected.0, expected.1);
        }
    }
}

#[test]
fn what_was_judged_by_the_least_alone_does_not_show_that_the_machine_was_quiet() {
    for (id, held, reference, own) in comparisons() {
        let with = |their: (Finding, u64), subject: (Finding, u64), rule: &str| {
            let mut rig = held.clone();
            for (place, (finding, share)) in [(("knative", reference, 2), their), (("dirigent-kpa", own, 2), subject)] {
                noise_of(&mut rig, place, rule, (finding, Some(share)));
                rig.invariants.last_mut().unwrap().most_ppm = None;
            }
            rig.claim(id)
        };
        let unknown = "it is not known what else used the machine while `knative` was measured, in repetition 2";
        assert_claim(&with((Finding::Held, 99_000), (Finding::Held, 0), OTHERS), ClaimOutcome::Inconclusive, unknown);
        let noisy = with((Finding::NotHeld, 301_000), (Finding::NotHeld, 301_000), OTHERS);
        assert_claim(&noisy, ClaimOutcome::Inconclusive, "the machine was not quiet while `knative` was measured");
        // What the hypervisor took was always known exactly.
        let stolen = with((Finding::NotHeld, 301_000), (Finding::NotHeld, 301_000), Invariant::NOISE[1]);
        assert_claim(&stolen, ClaimOutcome::Held, "");
        assert_claim(&with((Finding::Held, 0), (Finding::Held, 0), Invariant::NOISE[1]), ClaimOutcome::Held, "");
    }
}

#[test]
fn cpu_time_of_ours_holds_what_the_machine_did_in_no_process_and_that_of_the_adversary_does_not() {
    let id = "cold-start-cpu-knative";
    let with = |system: &str, in_no_row_us: Option<u64>| {
        let mut rig = super::costs([3; 5], [90; 5]);
        for point in rig.points.iter_mut().filter(|point| point.system == system) {
            point.machine = Some(MachineUse { in_no_row_us, ..MachineUse::default() });
        }
        rig.claim(id)
    };
    // 1.5 ms for each of 100 creations.
    let subject = with("dirigent-kpa", Some(150_000));
    assert_eq!((subject.outcome, subject.found), (ClaimOutcome::Held, Some(20.0)), "{}", subject.reason);
    let note = "`dirigent-kpa` uses least at rate-3900: 4.50 ms of CPU time per cold start, in the median. Of each value, 1.50 to \
                1.50 ms are in no process's row";
    assert!(subject.note.starts_with(note), "{}", subject.note);
    let mut uneven = super::costs([3; 5], [90; 5]);
    for point in uneven.points.iter_mut().filter(|point| point.system == "dirigent-kpa") {
        let in_no_row_us = Some(if point.repetition == 4 { 50_000 } else { 0 });
        point.machine = Some(MachineUse { in_no_row_us, ..MachineUse::default() });
    }
    let note = uneven.claim(id).note;
    assert!(note.contains("Of each value, 0 to 0.500 ms are in no process's row"), "{note}");
    assert_claim(&with("dirigent-kpa", Some(9_000_000)), ClaimOutcome::NotHeld, "below 1");
    let unknown = "`dirigent-kpa`, rate-1000, repetition 1: how the machine spent its time is not on record";
    assert_claim(&with("dirigent-kpa", None), ClaimOutcome::NotMeasured, unknown);
    for in_no_row_us in [Some(9_000_000), None] {
        let reference = with("knative", in_no_row_us);
        assert_eq!((reference.outcome, reference.found), (ClaimOutcome::Held, Some(30.0)), "{}", reference.reason);
        assert!(!reference.note.contains("in no process's row"), "{}", reference.note);
    }
}

#[test]
fn noise_where_no_value_comes_from_neither_holds_a_claim_nor_keeps_it_from_being_held() {
    for (id, reference, own, not_theirs, not_own) in [
        ("cold-start-rate-knative", "rate-3", "rate-3900", "rate-2", ["rate-1000", "rate-4500"]),
        ("cold-start-cpu-knative", "rate-2", "rate-3900", "rate-3", ["rate-1000", "rate-3000"]),
    ] {
        let mut rig = super::costs([3; 5], [9; 5]);
        // A rate sustained in spite of noise would be sustained without, and an apparently expensive point is not
        // compared.
        (1..=5).for_each(|number| noise(&mut rig, ("knative", not_theirs, number), OTHERS, Finding::NotHeld));
        assert_claim(&rig.claim(id), ClaimOutcome::Held, "");
        noise(&mut rig, ("knative", reference, 3), OTHERS, Finding::NotHeld);
        not_own.iter().for_each(|place| noise(&mut rig, ("dirigent-kpa", place, 3), OTHERS, Finding::NotHeld));
        assert_claim(&rig.claim(id), ClaimOutcome::Inconclusive, "while `knative` was measured, in repetition 3,");
        noise(&mut rig, ("dirigent-kpa", own, 3), OTHERS, Finding::NotHeld);
        assert_claim(&rig.claim(id), ClaimOutcome::Held, "");
    }
}

#[test]
fn a_machine_that_nobody_knows_to_have_been_quiet_while_the_adversary_was_measured_holds_nothing() {
    for (id, held, reference, own) in comparisons() {
        let with = |system: &str, place: &str, rules: &[&str]| {
            let mut rig = held.clone();
            for number in 1..=5 {
                rules.iter().for_each(|rule| noise(&mut rig, (system, place, number), rule, Finding::NotMeasured));
            }
            rig
        };
        let reason = "it is not known what else used the machine while `knative` was measured, in repetition 1, 2, 3, 4, 5: it may be \
                      the doing of others";
        for rule in Invariant::NOISE {
            let unknown = with("knative", reference, &[rule]);
            assert_claim(&unknown.claim(id), ClaimOutcome::Inconclusive, reason);
            let mut excused = unknown.clone();
            (1..=5).for_each(|number| noise(&mut excused, ("dirigent-kpa", own, number), rule, Finding::NotHeld));
            assert_claim(&excused.claim(id), ClaimOutcome::Inconclusive, reason);
        }
        let unknown = with("knative", reference, &Invariant::NOISE).claim(id);
        let note = "repetitions of its systems it is not known what else used the machine.";
        assert!(unknown.note.contains("Of 5 of the ") && unknown.note.contains(note), "{}", unknown.note);
        let subject = with("dirigent-kpa", own, &Invariant::NOISE).claim(id);
        assert_claim(&subject, ClaimOutcome::Held, "");
        assert!(subject.note.contains(note), "{}", subject.note);
        // A record in which there is no such rule does not say that it was kept.
        let silent = Rig { quiet: vec![OTHERS, GENERATOR], ..held.clone() };
        assert_claim(&silent.claim(id), ClaimOutcome::Inconclusive, reason);
        assert!(!held.claim(id).note.contains(note));
    }
}

#[test]
fn a_rate_is_what_was_offered_and_not_what_its_point_is_called() {
    let offer = |rig: &mut Rig, (system, place): (&str, &str), by: f64| {
        let of = rig.points.iter_mut().filter(|point| (point.system.as_str(), point.point.as_str()) == (system, place));
        for rates in of.filter_map(|point| point.rates.as_mut()) {
            rates.offered_per_s *= by;
        }
    };
    let mut rig = Rig::sweep([4500; 5]);
    offer(&mut rig, ("dirigent-kpa", "rate-4500"), 0.992);
    offer(&mut rig, ("knative", "rate-3"), 1.008);
    let found = rig.first().found.unwrap();
    assert!((found - 4500.0 * 0.992 / (3.0 * 1.008)).abs() < 1e-9, "{found}");
    let mut subject = Rig::sweep([4500; 5]);
    offer(&mut subject, ("dirigent-kpa", "rate-4500"), 1.7 / 4500.0);
    assert_outcome(&subject, ClaimOutcome::Invalid, "it was offered 1.70 per second, and its point says 4500");
    let mut reference = Rig::sweep([4500; 5]);
    offer(&mut reference, ("knative", "rate-3"), 10.0);
    assert_outcome(&reference, ClaimOutcome::Invalid, "it was offered 30.0 per second, and its point says 3");
}

#[test]
fn tries_that_were_discarded_are_listed_with_the_claim() {
    let mut rig = Rig::trace([1200.0; 5]);
    let removed = "its rows were removed";
    for (system, reason) in
        [("knative", removed), ("dirigent-kpa", "it was stopped"), ("knative", removed), ("x", removed)]
    {
        let [system, point, at, reason] = [system, "azure-500", "2026-01-01T00:00:00Z", reason].map(str::to_owned);
        rig.manifest.discarded.push(DiscardedTry { system, point, repetition: 1, at, reason });
    }
    let note = "Tries at repetitions of its systems that were discarded: 3 (1: \"it was stopped\"; 2: \"its rows were removed\").";
    assert_eq!(rig.first().note, note);
}
