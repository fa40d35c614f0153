//! What was really measured, and on what kind of machine: less than what is claimed, or a disturbed adversary, holds nothing.

use record::{DiscardedTry, Finding, Invariant, MachineUse, Verdict, Weight};

use super::{assert_claim, assert_verdict, rig::Rig};

#[test]
fn marks_void_nothing_and_are_told_with_the_claim() {
    let mut rig = Rig::trace([1200.0; 5]);
    for (system, repetition) in [("knative", 1), ("knative", 1), ("dirigent-kpa", 4), ("dirigent", 1)] {
        rig.rule((system, "azure-500", repetition), Weight::Mark, Finding::NotHeld);
    }
    rig.rule(("knative", "azure-500", 2), Weight::Mark, Finding::Held);
    assert_verdict(&rig, Verdict::Held, "");
    assert_eq!(rig.first().note, "2 of the 10 repetitions of its systems are marked.");
}

#[test]
fn of_a_claim_about_one_system_everything_must_be_proved_and_only_cold_rows_be_there() {
    let place = ("knative", "burst-100-delay-500ms", 3);
    let verdict = |rule: &str, weight, finding| {
        let mut rig = Rig::bursts([650, 650, 700, 700, 700]);
        rig.found(place, rule, (weight, finding));
        rig.claim("overhead-share-knative")
    };
    assert_claim(&verdict("a rule", Weight::Validity, Finding::Held), Verdict::Held, "");
    let unproved = verdict("a rule", Weight::Validity, Finding::NotMeasured);
    assert_claim(&unproved, Verdict::NotMeasured, "repetition 3: \"a rule\" is not measured");
    assert_claim(&verdict(Invariant::COLD, Weight::Mark, Finding::Held), Verdict::Held, "");
    let mixed = verdict(Invariant::COLD, Weight::Mark, Finding::NotHeld);
    assert_claim(&mixed, Verdict::NotMeasured, "repetition 3: \"cold starts as expected\" is marked");
}

#[test]
fn a_load_smaller_than_what_is_claimed_is_no_evidence() {
    let rig = Rig::trace([1200.0; 5]);
    assert_verdict(&rig, Verdict::Held, "");
    for (with, without, said) in [
        ("minutes = 29", "minutes = 30", "load.minutes of at least 30, and this run has 29"),
        ("minute = \"1s\"", "minute = \"1m\"", "load.minute of at least 60, and this run has 1s"),
        ("max_cores = 0.5\nminutes = 30", "minutes = 30", "load.max_cores of at least 51, and this run has 0.5"),
        ("max_run = \"10s\"\nminutes = 30", "minutes = 30", "load.max_run of at least 600, and this run has 10s"),
        ("functions = 20\nminutes = 30", "minutes = 30", "load.functions of at least 500, and this run has 20"),
    ] {
        let mut smaller = rig.clone();
        smaller.manifest.definition = rig.manifest.definition.replace(without, with);
        assert_verdict(&smaller, Verdict::NotMeasured, said);
        assert!(smaller.first().found.is_some(), "what it found is shown");
    }
    let mut larger = rig.clone();
    larger.manifest.definition = rig.manifest.definition.replace("minutes = 30", "functions = 500\nminutes = 60");
    assert_verdict(&larger, Verdict::Held, "");
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
        assert_verdict(&few, Verdict::NotMeasured, &format!("{place} 108419 of 2 in 1200 s: smaller is no evidence"));
        assert!(few.first().found.is_some(), "what it found is shown");
        let rows = with(system, &|point| {
            point.counts.measured = 4;
            point.counts.outcomes = [("ok".to_owned(), 4)].into_iter().collect();
        });
        assert_verdict(&rows, Verdict::NotMeasured, &format!("{place} 4 of 293 in 1200 s"));
        let warmup = with(system, &|point| {
            point.rates = point.rates.map(|rates| record::Rates { window_s: 60.0, ..rates });
        });
        assert_verdict(&warmup, Verdict::NotMeasured, &format!("{place} 108419 of 293 in 60 s"));
    }
    let mut broken = with("knative", &|point| point.counts.functions = 2);
    broken.rule(("knative", "azure-500", 1), Weight::Validity, Finding::NotHeld);
    assert_verdict(&broken, Verdict::Invalid, "repetition 1");
}

/// Says what was found of one of the rules about what else used the machine, of which that was 30 % where it is too much.
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

/// Runs in which a claim is held, with its id, where the values of the adversary come from, and where those of ours do.
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
    for (id, held, theirs, own) in comparisons() {
        let assert_verdict = |rig: &Rig, verdict, reason| assert_claim(&rig.claim(id), verdict, reason);
        let reason =
            "the machine was not quiet while `knative` was measured, in repetition 2, and nothing excuses that";
        for rule in Invariant::NOISE {
            let mut rig = held.clone();
            noise(&mut rig, ("knative", theirs, 2), rule, Finding::NotHeld);
            assert_verdict(&rig, Verdict::Inconclusive, reason);
            noise(&mut rig, ("dirigent-kpa", own, 1), rule, Finding::NotHeld);
            assert_verdict(&rig, Verdict::Inconclusive, reason);
            // More load is what ours is given, and keeps nobody else's processes away.
            noise(&mut rig, ("dirigent-kpa", own, 2), GENERATOR, Finding::NotHeld);
            assert_verdict(&rig, Verdict::Inconclusive, reason);
            noise(&mut rig, ("dirigent-kpa", own, 2), rule, Finding::NotHeld);
            let excused = if rule == GENERATOR { (Verdict::Inconclusive, reason) } else { (Verdict::Held, "") };
            assert_verdict(&rig, excused.0, excused.1);
            let mut ours = held.clone();
            noise(&mut ours, ("dirigent-kpa", own, 2), rule, Finding::NotHeld);
            assert_verdict(&ours, Verdict::Held, "");
        }
    }
    let mut alone = Rig::bursts([700; 5]);
    noise(&mut alone, ("knative", "burst-100-delay-500ms", 5), OTHERS, Finding::NotHeld);
    assert_verdict(&alone, Verdict::Inconclusive, "`knative` was measured, in repetition 5");
    let mut elsewhere = Rig::bursts([700; 5]);
    noise(&mut elsewhere, ("knative", "burst-1-delay-500ms", 5), OTHERS, Finding::NotHeld);
    assert_verdict(&elsewhere, Verdict::Held, "");
}

#[test]
fn noise_of_ours_excuses_no_more_of_the_adversarys_than_there_is_of_it() {
    for (id, held, theirs, own) in comparisons() {
        for rule in Invariant::NOISE_OF_OTHERS {
            for (their_share, own_share, verdict) in [
                (Some(680_000), Some(101_000), Verdict::Inconclusive),
                (Some(301_000), Some(300_000), Verdict::Inconclusive),
                (Some(300_000), Some(300_000), Verdict::Held),
                (Some(101_000), Some(680_000), Verdict::Held),
                // Of an older record nobody knows how much it was.
                (None, Some(680_000), Verdict::Inconclusive),
                (Some(101_000), None, Verdict::Inconclusive),
            ] {
                let mut rig = held.clone();
                for number in 1..=5 {
                    noise_of(&mut rig, ("knative", theirs, number), rule, (Finding::NotHeld, their_share));
                    noise_of(&mut rig, ("dirigent-kpa", own, number), rule, (Finding::NotHeld, own_share));
                }
                let claim = rig.claim(id);
                assert_eq!(claim.verdict, verdict, "{id}, {rule}, {their_share:?} excused by {own_share:?}");
            }
        }
    }
}

#[test]
fn noise_is_judged_by_the_most_that_it_may_be_and_excuses_by_the_least() {
    use Finding::{Held, NotHeld, NotMeasured};
    let (unknown, noisy) =
        ("it is not known what else used the machine while `knative`", "the machine was not quiet while");
    for (id, held, theirs, own) in comparisons() {
        for (their, ours, expected) in [
            ((NotMeasured, 99_000, 113_000), (Held, 0, 1_000), (Verdict::Inconclusive, unknown)),
            ((NotMeasured, 99_000, 113_000), (NotMeasured, 0, 400_000), (Verdict::Inconclusive, unknown)),
            ((NotMeasured, 99_000, 113_000), (NotHeld, 112_999, 400_000), (Verdict::Inconclusive, unknown)),
            ((NotMeasured, 99_000, 113_000), (NotHeld, 113_000, 400_000), (Verdict::Held, "")),
            ((NotHeld, 110_000, 150_000), (NotHeld, 149_999, 500_000), (Verdict::Inconclusive, noisy)),
            ((NotHeld, 110_000, 150_000), (NotHeld, 150_000, 500_000), (Verdict::Held, "")),
            ((Held, 0, 99_999), (NotMeasured, 0, 400_000), (Verdict::Held, "")),
        ] {
            let mut rig = held.clone();
            for (place, (finding, least, most)) in [(("knative", theirs, 2), their), (("dirigent-kpa", own, 2), ours)] {
                noise_of(&mut rig, place, OTHERS, (finding, Some(least)));
                rig.invariants.last_mut().unwrap().most_ppm = Some(most);
            }
            assert_claim(&rig.claim(id), expected.0, expected.1);
        }
    }
}

#[test]
fn what_was_judged_by_the_least_alone_does_not_show_that_the_machine_was_quiet() {
    for (id, held, theirs, own) in comparisons() {
        let with = |their: (Finding, u64), ours: (Finding, u64), rule: &str| {
            let mut rig = held.clone();
            for (place, (finding, share)) in [(("knative", theirs, 2), their), (("dirigent-kpa", own, 2), ours)] {
                noise_of(&mut rig, place, rule, (finding, Some(share)));
                rig.invariants.last_mut().unwrap().most_ppm = None;
            }
            rig.claim(id)
        };
        let unknown = "it is not known what else used the machine while `knative` was measured, in repetition 2";
        assert_claim(&with((Finding::Held, 99_000), (Finding::Held, 0), OTHERS), Verdict::Inconclusive, unknown);
        let noisy = with((Finding::NotHeld, 301_000), (Finding::NotHeld, 301_000), OTHERS);
        assert_claim(&noisy, Verdict::Inconclusive, "the machine was not quiet while `knative` was measured");
        // What the hypervisor took was always known exactly.
        let stolen = with((Finding::NotHeld, 301_000), (Finding::NotHeld, 301_000), Invariant::NOISE[1]);
        assert_claim(&stolen, Verdict::Held, "");
        assert_claim(&with((Finding::Held, 0), (Finding::Held, 0), Invariant::NOISE[1]), Verdict::Held, "");
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
    let ours = with("dirigent-kpa", Some(150_000));
    assert_eq!((ours.verdict, ours.found), (Verdict::Held, Some(20.0)), "{}", ours.reason);
    let note = "`dirigent-kpa` uses least at rate-3900: 4.50 ms of CPU time per cold start, in the median. Of each value, 1.50 to \
                1.50 ms are in no process's row";
    assert!(ours.note.starts_with(note), "{}", ours.note);
    let mut uneven = super::costs([3; 5], [90; 5]);
    for point in uneven.points.iter_mut().filter(|point| point.system == "dirigent-kpa") {
        let in_no_row_us = Some(if point.repetition == 4 { 50_000 } else { 0 });
        point.machine = Some(MachineUse { in_no_row_us, ..MachineUse::default() });
    }
    let note = uneven.claim(id).note;
    assert!(note.contains("Of each value, 0 to 0.500 ms are in no process's row"), "{note}");
    assert_claim(&with("dirigent-kpa", Some(9_000_000)), Verdict::NotHeld, "below 1");
    let unknown = "`dirigent-kpa`, rate-1000, repetition 1: how the machine spent its time is not on record";
    assert_claim(&with("dirigent-kpa", None), Verdict::NotMeasured, unknown);
    for in_no_row_us in [Some(9_000_000), None] {
        let theirs = with("knative", in_no_row_us);
        assert_eq!((theirs.verdict, theirs.found), (Verdict::Held, Some(30.0)), "{}", theirs.reason);
        assert!(!theirs.note.contains("in no process's row"), "{}", theirs.note);
    }
}

#[test]
fn noise_where_no_value_comes_from_neither_holds_a_claim_nor_keeps_it_from_being_held() {
    for (id, theirs, own, not_theirs, not_own) in [
        ("cold-start-rate-knative", "rate-3", "rate-3900", "rate-2", ["rate-1000", "rate-4500"]),
        ("cold-start-cpu-knative", "rate-2", "rate-3900", "rate-3", ["rate-1000", "rate-3000"]),
    ] {
        let mut rig = super::costs([3; 5], [9; 5]);
        // What it sustained in spite of noise it sustains without, and what seems dear is not what it stands with.
        (1..=5).for_each(|number| noise(&mut rig, ("knative", not_theirs, number), OTHERS, Finding::NotHeld));
        assert_claim(&rig.claim(id), Verdict::Held, "");
        noise(&mut rig, ("knative", theirs, 3), OTHERS, Finding::NotHeld);
        not_own.iter().for_each(|place| noise(&mut rig, ("dirigent-kpa", place, 3), OTHERS, Finding::NotHeld));
        assert_claim(&rig.claim(id), Verdict::Inconclusive, "while `knative` was measured, in repetition 3,");
        noise(&mut rig, ("dirigent-kpa", own, 3), OTHERS, Finding::NotHeld);
        assert_claim(&rig.claim(id), Verdict::Held, "");
    }
}

#[test]
fn a_machine_that_nobody_knows_to_have_been_quiet_while_the_adversary_was_measured_holds_nothing() {
    for (id, held, theirs, own) in comparisons() {
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
            let unknown = with("knative", theirs, &[rule]);
            assert_claim(&unknown.claim(id), Verdict::Inconclusive, reason);
            let mut excused = unknown.clone();
            (1..=5).for_each(|number| noise(&mut excused, ("dirigent-kpa", own, number), rule, Finding::NotHeld));
            assert_claim(&excused.claim(id), Verdict::Inconclusive, reason);
        }
        let unknown = with("knative", theirs, &Invariant::NOISE).claim(id);
        let note = "repetitions of its systems it is not known what else used the machine.";
        assert!(unknown.note.contains("Of 5 of the ") && unknown.note.contains(note), "{}", unknown.note);
        let ours = with("dirigent-kpa", own, &Invariant::NOISE).claim(id);
        assert_claim(&ours, Verdict::Held, "");
        assert!(ours.note.contains(note), "{}", ours.note);
        // A record in which there is no such rule does not say that it was kept.
        let silent = Rig { quiet: vec![OTHERS, GENERATOR], ..held.clone() };
        assert_claim(&silent.claim(id), Verdict::Inconclusive, reason);
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
    let mut ours = Rig::sweep([4500; 5]);
    offer(&mut ours, ("dirigent-kpa", "rate-4500"), 1.7 / 4500.0);
    assert_verdict(&ours, Verdict::Invalid, "it was offered 1.70 per second, and its point says 4500");
    let mut theirs = Rig::sweep([4500; 5]);
    offer(&mut theirs, ("knative", "rate-3"), 10.0);
    assert_verdict(&theirs, Verdict::Invalid, "it was offered 30.0 per second, and its point says 3");
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
