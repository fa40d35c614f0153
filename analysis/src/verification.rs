//! Results of the run's invariants for each repetition: whether it may be used, and which invariants were not proved.

mod order;

use std::collections::BTreeSet;

use record::{
    Finding, Invariant, Invariants, LoadSummary, PointDir, PointSummary, RateCheck, RecordError, Weight, read_json,
};

use self::order::{Measured, MeasurementOrder};
use crate::{
    ReadError, Run,
    summarise::{PointResult, rate_test},
};

/// The reason for a rate that counts as not sustained because warm rows are marked there: only an overloaded system has
/// them.
pub(crate) const SURELY_FAILED: &str =
    "its rate was surely too much, whatever later rows that are warm make of all of them";

/// The invariants of a run, and the repetitions that they were checked in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verification {
    invariants: Vec<Invariant>,
    /// System, point and number of the repetitions whose files, as they are now, were checked.
    checked: BTreeSet<(String, String, u32)>,
    order: MeasurementOrder,
    /// Of those that have rows.
    unchecked: usize,
}

/// Usability of a repetition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Soundness {
    /// Every invariant that could be checked holds.
    Sound,
    /// The load generator was late.
    Late(String),
    /// An invariant is broken.
    Broken(String),
    /// It was not checked, or measured again since.
    Unchecked,
}

impl Verification {
    /// Reads the results of a run.
    ///
    /// # Errors
    /// If `invariants.json` is malformed or of a newer version.
    pub(crate) fn read(run: &Run) -> Result<Self, ReadError> {
        let found = run.dir.read_invariants()?;
        Self::of(found, &run.points).map_err(ReadError::Record)
    }

    /// Joins the results with the repetitions that have rows, `points`. A repetition that was measured again since
    /// counts as unchecked.
    ///
    /// # Errors
    /// If a repetition's `loadgen.json` cannot be read.
    pub(crate) fn of(found: Option<Invariants>, points: &[PointDir]) -> Result<Self, RecordError> {
        let Some(found) = found else { return Ok(Self { unchecked: points.len(), ..Self::default() }) };
        let mut checked = BTreeSet::new();
        let mut measured = Vec::new();
        for dir in points {
            // The start instant identifies a measurement: one that was made again has another.
            let started_unix_ns = if dir.loadgen().exists() {
                Some(read_json::<LoadSummary>(&dir.loadgen())?.started_unix_ns)
            } else {
                None
            };
            let is_this = |known: &&record::CheckedRepetition| {
                (&known.system, &known.point, known.repetition) == (&dir.system, &dir.point, dir.repetition)
            };
            let known = found.checked.iter().find(is_this);
            if known.is_some_and(|known| known.started_unix_ns == started_unix_ns) {
                checked.insert((dir.system.clone(), dir.point.clone(), dir.repetition));
                measured.extend(started_unix_ns.map(|began_unix_ns| Measured {
                    began_unix_ns,
                    number: dir.repetition,
                    point: dir.point.clone(),
                    system: dir.system.clone(),
                }));
            }
        }
        let unchecked = points.len() - checked.len();
        let unknown = points.len() - measured.len();
        Ok(Self { invariants: found.invariants, checked, order: MeasurementOrder::of(measured, unknown), unchecked })
    }

    /// Everything broken, of the run, its points and its repetitions.
    pub(crate) fn broken(&self) -> impl Iterator<Item = &Invariant> {
        self.invariants.iter().filter(|one| one.is_broken())
    }

    /// Marks: rules that do not hold without making anything unusable.
    pub(crate) fn marked(&self) -> impl Iterator<Item = &Invariant> {
        self.invariants.iter().filter(|one| one.weight == Weight::Mark && one.finding == Finding::NotHeld)
    }

    /// Everything that did not come out as it was expected to.
    pub(crate) fn missed(&self) -> impl Iterator<Item = &Invariant> {
        self.invariants.iter().filter(|one| one.weight == Weight::Threshold && one.finding == Finding::NotHeld)
    }

    /// The order in which repetitions were measured.
    pub(crate) fn order(&self) -> &MeasurementOrder {
        &self.order
    }

    /// Repetitions with rows that nothing is known of.
    pub(crate) fn unchecked(&self) -> usize {
        self.unchecked
    }

    /// Returns true if the files of a repetition, as they are now, were checked.
    fn is_checked(&self, (system, point, repetition): (&str, &str, u32)) -> bool {
        self.checked.contains(&(system.to_owned(), point.to_owned(), repetition))
    }

    /// Usability of a repetition; a broken invariant takes precedence over a late load generator.
    pub(crate) fn of_repetition(&self, system: &str, point: &str, repetition: u32) -> Soundness {
        if !self.is_checked((system, point, repetition)) {
            return Soundness::Unchecked;
        }
        let broken = |weight| {
            let mut of = self.broken().filter(|one| one.scope.covers(system, point, repetition));
            of.find(|one| one.weight == weight).map(Invariant::sentence)
        };
        match (broken(Weight::Validity), broken(Weight::Lateness)) {
            (Some(why), _) => Soundness::Broken(why),
            (None, Some(why)) => Soundness::Late(why),
            (None, None) => Soundness::Sound,
        }
    }

    /// Repetitions as they may be shown: neither called valid nor sustained where claims must not use them.
    pub(crate) fn applied(&self, results: Vec<PointResult>) -> Vec<PointResult> {
        let applied = |result: PointResult| PointResult { summary: self.applied_to(result.summary), ..result };
        results.into_iter().map(applied).collect()
    }

    fn applied_to(&self, mut summary: PointSummary) -> PointSummary {
        let was_surely_failed = self.was_surely_failed(&summary);
        let PointSummary { system, point, repetition, validity, rate_test, .. } = &mut summary;
        match self.of_repetition(system, point, *repetition) {
            Soundness::Sound => {
                // Warm rows hide growth of latency from a test of all rows.
                if let Some(rate_test) = rate_test.as_mut().filter(|_| was_surely_failed) {
                    let reasons = vec![SURELY_FAILED.to_owned()];
                    rate_test.sustained = RateCheck { holds: Some(false), reasons };
                    rate_test.at_objective = rate_test.sustained.clone();
                }
                return summary;
            }
            // What is invalid by its rows stays so, checked or not.
            Soundness::Unchecked if validity.valid != Some(true) => return summary,
            Soundness::Unchecked => {
                validity.valid = None;
                validity.reasons.push("its invariants were not checked".to_owned());
            }
            found => {
                // Lateness alone leaves a rate undecided; another reason must not be taken for it.
                let was_usable = validity.valid == Some(true) || validity.only_late;
                validity.only_late = was_usable && matches!(found, Soundness::Late(_));
                validity.valid = Some(false);
                let broken = self.broken().filter(|one| one.scope.covers(system, point, *repetition));
                validity.reasons.extend(broken.map(Invariant::sentence));
            }
        }
        if let Some(rate_test) = rate_test {
            let reasons = rate_test::not_valid(validity);
            for judgement in [&mut rate_test.sustained, &mut rate_test.at_objective] {
                *judgement = RateCheck { holds: None, reasons: reasons.clone() };
            }
        }
        summary
    }

    /// Result of a rule about other use of the machine in a repetition; not measured if the rule is not on record.
    pub(crate) fn noise(&self, rule: &str, of: &PointSummary) -> Finding {
        let is_it = |one: &&Invariant| one.rule == rule && one.scope.covers(&of.system, &of.point, of.repetition);
        let found: Vec<Finding> = self.invariants.iter().filter(is_it).map(noise_found).collect();
        let is_checked = self.is_checked(place(of));
        if is_checked && found.contains(&Finding::NotHeld) {
            Finding::NotHeld
        } else if !is_checked || found.is_empty() || found.contains(&Finding::NotMeasured) {
            Finding::NotMeasured
        } else {
            Finding::Held
        }
    }

    /// The least and the most that the share of the machine may be that was found by such a rule, in millionths; `None` where they
    /// are not on record.
    pub(crate) fn noise_share_ppm(&self, rule: &str, of: &PointSummary) -> Option<(u64, u64)> {
        let is_it = |one: &&Invariant| one.rule == rule && one.scope.covers(&of.system, &of.point, of.repetition);
        let found = self.invariants.iter().find(is_it)?;
        let least = found.share_ppm?;
        // The hypervisor and the load generator are accounted exactly: their share is its own upper bound.
        let exact = Some(least).filter(|_| !has_two_bounds(rule));
        Some((least, found.most_ppm.or(exact)?))
    }

    /// Returns true if a rule about other use of the machine in a repetition was not measured.
    pub(crate) fn is_noise_unmeasured(&self, of: &PointSummary) -> bool {
        Invariant::NOISE.iter().any(|rule| self.noise(rule, of) == Finding::NotMeasured)
    }

    /// The first rule that must hold in a repetition and is not known to: a required one that could not be checked, or
    /// one about the identity of rows that is not on record.
    pub(crate) fn unproved(&self, of: &PointSummary, is_asked: impl Fn(&Invariant) -> bool) -> Option<String> {
        let open = self.unmeasured(Weight::Validity, of).find(|one| is_asked(one)).map(Invariant::sentence);
        open.or_else(|| {
            let held = |rule: &&&str| self.has_held(rule, of);
            let absent = Invariant::IDENTITY_OF_ALL.iter().find(|rule| !held(rule))?;
            Some(format!("\"{absent}\" is not on record"))
        })
    }

    /// The first rule about the lateness of the load generator that could not be checked in a repetition, for example
    /// because reading delays were not measured. A generator that is not known to have been punctual counts as late.
    pub(crate) fn unproved_punctuality(&self, of: &PointSummary) -> Option<String> {
        self.unmeasured(Weight::Lateness, of).next().map(Invariant::sentence)
    }

    /// Rules of a weight that could not be checked in a repetition.
    fn unmeasured(&self, weight: Weight, of: &PointSummary) -> impl Iterator<Item = &Invariant> {
        self.invariants.iter().filter(move |one| {
            one.weight == weight
                && one.finding == Finding::NotMeasured
                && one.scope.covers(&of.system, &of.point, of.repetition)
        })
    }

    /// Returns true if a rule was checked in a repetition, and held.
    fn has_held(&self, rule: &str, of: &PointSummary) -> bool {
        let is_it = |one: &&Invariant| one.rule == rule && one.scope.covers(&of.system, &of.point, of.repetition);
        self.invariants.iter().filter(is_it).any(|one| one.finding == Finding::Held)
    }

    /// The result of a rule that does not hold in a repetition, whatever its consequence; `None` if it holds.
    pub(crate) fn failing(&self, rule: &str, of: &PointSummary) -> Option<&Invariant> {
        let is_it = |one: &&Invariant| one.rule == rule && one.scope.covers(&of.system, &of.point, of.repetition);
        self.invariants.iter().filter(is_it).find(|one| one.finding == Finding::NotHeld)
    }

    /// Returns true if the rate of a repetition was surely failed: only then are warm rows marked instead of invalid.
    pub(crate) fn was_surely_failed(&self, of: &PointSummary) -> bool {
        let found = self.failing(Invariant::COLD, of).filter(|_| self.is_checked(place(of)));
        found.is_some_and(|found| found.weight == Weight::Mark)
    }

    /// Processes of the system that ended early, of a repetition that was measured to its end and whose rows have the
    /// right identity; `None` without any.
    pub(crate) fn early_end(&self, of: &PointSummary) -> Option<&str> {
        if !self.is_checked(place(of)) {
            return None;
        }
        // Where the user stopped it, or its rows are of something else, an early end says nothing.
        let is_another =
            [Invariant::ENDED].iter().chain(&Invariant::IDENTITY).any(|rule| self.failing(rule, of).is_some());
        self.failing(Invariant::LIVED, of).filter(|_| !is_another).map(|found| found.detail.as_str())
    }
}

/// System, point and number of a repetition.
fn place(PointSummary { system, point, repetition, .. }: &PointSummary) -> (&str, &str, u32) {
    (system, point, *repetition)
}

/// Returns true for a rule whose share of the machine is known by two bounds only.
fn has_two_bounds(rule: &str) -> bool {
    rule == Invariant::NOISE[0]
}

/// Result of a rule about other use of the machine. Versions without an upper bound checked the lower one, which can
/// prove that too much was used, and never that it was not.
fn noise_found(found: &Invariant) -> Finding {
    let is_least = has_two_bounds(&found.rule) && found.most_ppm.is_none();
    if is_least && found.finding == Finding::Held { Finding::NotMeasured } else { found.finding }
}
