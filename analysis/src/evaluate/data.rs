//! The data that all claims of a run are evaluated from, and which of its repetitions may be used.

use std::collections::BTreeMap;

use record::{FailedRepetition, Invariant, Manifest, Point, PointSummary, Scope};

use crate::{
    claims::Claim,
    evaluate::{Conclusion, measure::Measure},
    format::number,
    plan::Plan,
    series::Series,
    verification::{SURELY_FAILED, Soundness, Verification},
};

/// The data that all claims of a run are evaluated from.
#[derive(Clone, Copy)]
pub(super) struct RunData<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) plan: Plan<'a>,
    pub(super) series: &'a [Series<'a>],
    pub(super) verification: &'a Verification,
}

/// The role of a system in a claim. It decides the burden of proof: in doubt, a repetition counts against the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Claimed to be better than the reference: every invariant must be proved, and a failure of it counts against the claim.
    Subject,
    /// The system compared with.
    Reference,
    /// The subject of a claim without a reference: every invariant must be proved, and a failure of it leaves no value.
    SoleSubject,
}

/// The reason why a repetition must not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The load generator was late, or is not known to have been punctual. That says nothing about the system, so a conclusion
    /// that does not need the repetition is still valid.
    Late(Conclusion),
    /// The repetition has no rows.
    Missing(Conclusion),
    /// A process of the system ended early: the rows may be worse than those of a system that had survived.
    Ended(Conclusion),
    /// Any other reason.
    Unusable(Conclusion),
}

impl Flaw {
    pub(super) fn conclusion(self) -> Conclusion {
        match self {
            Self::Late(conclusion)
            | Self::Missing(conclusion)
            | Self::Ended(conclusion)
            | Self::Unusable(conclusion) => conclusion,
        }
    }
}

/// A point of one system that was planned or is on record.
#[derive(Clone, Copy)]
pub(super) struct SystemPoint<'a> {
    pub(super) system: &'a str,
    pub(super) point: &'a str,
    /// The repetitions that have rows, if any has.
    series: Option<&'a Series<'a>>,
}

impl<'a> SystemPoint<'a> {
    pub(super) fn summary(&self, number: u32) -> Option<&'a PointSummary> {
        let mut all = self.series?.repetitions.iter().map(|result| &result.summary);
        all.find(|summary| summary.repetition == number)
    }
}

/// Relative tolerance of the offered rate against the planned one: a window that ends between two invocations offers less.
const RATE_TOLERANCE: f64 = 0.01;

impl<'a> RunData<'a> {
    /// The numbers of the planned repetitions. If the definition does not state them, as many as any point has.
    pub(super) fn planned(&self) -> std::ops::RangeInclusive<u32> {
        let all = self.series.iter().flat_map(|series| &series.repetitions);
        let failed = self.manifest.failures.iter().map(|failure| failure.repetition);
        let greatest = all.map(|result| result.summary.repetition).chain(failed).max().unwrap_or(0);
        1..=self.plan.repetitions().unwrap_or(0).max(greatest)
    }

    /// The reason why the load is smaller than the claim requires; `None` if it is not.
    pub(super) fn smaller_load(&self, claim: &Claim) -> Option<String> {
        let smaller = self
            .plan
            .points()
            .iter()
            .filter_map(Point::trace)
            .find_map(|trace| claim.load_at_least.violated_by(trace))?;
        Some(format!("the claim needs {smaller}: smaller is no evidence"))
    }

    /// The reason why the trace replayed at a claim's points is smaller than the claim requires; `None` if it is not.
    pub(super) fn smaller_replay(&self, claim: &Claim, measure: &Measure<'_>) -> Option<String> {
        let least = claim.replayed_at_least?;
        self.used(claim, measure).find_map(|summary| {
            let PointSummary { system, point, repetition, counts, rates, .. } = summary;
            let seconds = rates.map_or(0.0, |rates| rates.window_s);
            let (functions, invocations) = (counts.functions, counts.measured);
            let is_less = functions < least.functions || invocations < least.invocations || seconds < least.seconds;
            is_less.then(|| {
                format!(
                    "the claim needs {} invocations of {} functions in {} s, and `{system}`, {point}, repetition {repetition} \
                     has {invocations} of {functions} in {seconds:.0} s: smaller is no evidence",
                    least.invocations, least.functions, least.seconds
                )
            })
        })
    }

    /// The repetitions that a claim uses: those of its systems at its points.
    fn used(&self, claim: &Claim, measure: &Measure<'_>) -> impl Iterator<Item = &'a PointSummary> {
        let is_used = |series: &&Series<'_>| claim.is_about(series.system) && self.uses(measure, series.point);
        self.series.iter().filter(is_used).flat_map(|series| &series.repetitions).map(|result| &result.summary)
    }

    /// The note on discarded tries of a claim's systems. It is always shown: choosing which try counts could choose the outcome.
    pub(super) fn discarded(&self, claim: &Claim) -> Option<String> {
        let mut why: BTreeMap<&str, usize> = BTreeMap::new();
        for one in self.manifest.discarded.iter().filter(|one| claim.is_about(&one.system)) {
            *why.entry(&one.reason).or_default() += 1;
        }
        let all: usize = why.values().sum();
        let each = why.iter().map(|(reason, count)| format!("{count}: \"{reason}\"")).collect::<Vec<_>>().join("; ");
        (all > 0).then(|| format!("Tries at repetitions of its systems that were discarded: {all} ({each})."))
    }

    /// The note on marked repetitions of a claim's systems. A mark excludes no repetition.
    pub(super) fn marked(&self, claim: &Claim) -> Option<String> {
        let of_claim = |system: &str| claim.is_about(system);
        let mut marked: Vec<_> = self
            .verification
            .marked()
            .filter_map(|one| match &one.scope {
                Scope::Repetition { system, point, repetition } if of_claim(system) => {
                    Some((system, point, repetition))
                }
                _ => None,
            })
            .collect();
        marked.sort_unstable();
        marked.dedup();
        let series = self.series.iter().filter(|series| of_claim(series.system));
        let all: usize = series.map(|series| series.repetitions.len()).sum();
        (!marked.is_empty()).then(|| format!("{} of the {all} repetitions of its systems are marked.", marked.len()))
    }

    /// The note on repetitions of a claim's systems for which other use of the machine was not measured.
    pub(super) fn noise_unmeasured(&self, claim: &Claim) -> Option<String> {
        let of_claim = |series: &&Series<'_>| claim.is_about(series.system);
        let all = self.series.iter().filter(of_claim).flat_map(|series| &series.repetitions);
        let known: Vec<bool> = all.map(|result| !self.verification.is_noise_unmeasured(&result.summary)).collect();
        let unknown = known.iter().filter(|known| !**known).count();
        (unknown > 0).then(|| {
            format!(
                "Of {unknown} of the {} repetitions of its systems it is not known what else used the machine.",
                known.len()
            )
        })
    }

    /// A system's points: those of the plan, and all others that have rows, failures or discarded tries.
    pub(super) fn of(&self, system: &'a str) -> Result<Vec<SystemPoint<'a>>, Conclusion> {
        let failures = self.manifest.failures.iter().map(|one| (&*one.system, &*one.point));
        let discarded = self.manifest.discarded.iter().map(|one| (&*one.system, &*one.point));
        let rows = self.series.iter().map(|series| (series.system, series.point));
        let recorded = failures.chain(discarded).chain(rows).filter(|(of, _)| *of == system).map(|(_, point)| point);
        let mut points: Vec<&str> = self.plan.of_system(system).chain(recorded).collect();
        points.sort_by_key(|point| (self.plan.position(point), *point));
        points.dedup();
        if points.is_empty() {
            return Err(Conclusion::not_measured(format!("this run has no rows of `{system}`")));
        }
        let series = |point| self.series.iter().find(|series| (series.system, series.point) == (system, point));
        Ok(points.into_iter().map(|point| SystemPoint { system, point, series: series(point) }).collect())
    }

    /// A system's points that a measure uses, in ascending order of their rates.
    pub(super) fn tried(
        &self,
        measure: &Measure<'_>,
        system: &'a str,
    ) -> Result<Vec<(f64, SystemPoint<'a>)>, Conclusion> {
        let mut tried: Vec<(f64, SystemPoint<'_>)> = Vec::new();
        for system_point in self.of(system)? {
            let rate = self.rate(system_point.point);
            tried.extend(rate.filter(|_| self.uses(measure, system_point.point)).map(|rate| (rate, system_point)));
        }
        tried.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        if tried.is_empty() {
            let reason = format!("`{system}` was measured at none of the points that the claim is about");
            return Err(Conclusion::not_measured(reason));
        }
        Ok(tried)
    }

    /// The constant rate that was planned at a point.
    fn rate(&self, point: &str) -> Option<f64> {
        self.plan.rate_per_s(point)
    }

    /// Returns true if a measure uses a point.
    fn uses(&self, measure: &Measure<'_>, point: &str) -> bool {
        match measure {
            Measure::At(_, at) => at.is_none_or(|at| at == point),
            Measure::Sustained(claim) | Measure::Cheapest(claim) => {
                let values = self.plan.values(point);
                claim.among.iter().all(|(key, value)| values.get(key) == Some(value))
            }
        }
    }

    /// The summary of a repetition, if it has rows, and the reason why it must not be used, if there is one.
    pub(super) fn repetition(
        &self,
        system_point: SystemPoint<'a>,
        number: u32,
        role: Role,
    ) -> (Option<&'a PointSummary>, Option<Flaw>) {
        let SystemPoint { system, point, .. } = system_point;
        let named = format!("`{system}`, {point}, repetition {number}");
        let Some(summary) = system_point.summary(number) else {
            let conclusion = Conclusion::not_measured(format!("{named}: {}", self.missing(system_point, number)));
            return (None, Some(Flaw::Missing(conclusion)));
        };
        let unusable = |conclusion| Some(Flaw::Unusable(conclusion));
        let flaw = match self.verification.of_repetition(system, point, number) {
            Soundness::Broken(why) => {
                let conclusion = Conclusion::invalid(format!("{named}: {why}"));
                let ended = self.verification.failing(Invariant::LIVED, summary).is_some();
                Some(if ended { Flaw::Ended(conclusion) } else { Flaw::Unusable(conclusion) })
            }
            Soundness::Late(why) => Some(Flaw::Late(Conclusion::invalid(format!("{named}: {why}")))),
            Soundness::Unchecked => unusable(Conclusion::not_measured(format!("{named}: invariants were not checked"))),
            Soundness::Sound if self.other_rate(summary).is_some() => {
                unusable(Conclusion::invalid(format!("{named}: {}", self.other_rate(summary).unwrap_or_default())))
            }
            Soundness::Sound if summary.validity.valid != Some(true) => {
                let reasons = summary.validity.reasons.join("; ");
                let conclusion = Conclusion::invalid(format!("{named} is not known to be valid: {reasons}"));
                Some(if summary.validity.only_late { Flaw::Late(conclusion) } else { Flaw::Unusable(conclusion) })
            }
            Soundness::Sound => self.reservation(summary, role, &named),
        };
        (Some(summary), flaw)
    }

    /// True if the rows of a repetition show a sustained rate, whatever invariant is broken; with the reasons. A rate
    /// that the subject surely failed counts as not sustained, whatever the slope over all rows is: the warm responses
    /// of later rows flatten it.
    pub(super) fn sustained(&self, summary: &PointSummary, role: Role) -> (Option<bool>, String) {
        if role == Role::Subject && self.verification.was_surely_failed(summary) {
            return (Some(false), SURELY_FAILED.to_owned());
        }
        let check = summary.rate_test.as_ref().map(|rate_test| &rate_test.sustained);
        check.map_or_else(Default::default, |check| (check.holds, check.reasons.join("; ")))
    }

    /// The reason why a repetition without a broken invariant must not be used. The identity of its rows and the punctuality of
    /// the load generator must be proved for both operands: latency that a late load generator causes makes the reference look
    /// worse. All other invariants must be proved for the subject only, because an unknown there could favour the claim.
    fn reservation(&self, summary: &PointSummary, role: Role, named: &str) -> Option<Flaw> {
        let is_required =
            |one: &Invariant| role != Role::Reference || Invariant::IDENTITY.iter().any(|rule| *rule == one.rule);
        let not_measured = |why| Conclusion::not_measured(format!("{named}: {why}"));
        let unproved = self.verification.unproved(summary, is_required).map(|why| Flaw::Unusable(not_measured(why)));
        let late = || self.verification.unproved_punctuality(summary).map(|why| Flaw::Late(not_measured(why)));
        unproved.or_else(late)
    }

    /// The reason why a repetition is not one of its point: its offered rate is not the planned one.
    fn other_rate(&self, summary: &PointSummary) -> Option<String> {
        let (planned, offered) = (self.rate(&summary.point)?, summary.rates?.offered_per_s);
        let is_other = (offered / planned - 1.0).abs() > RATE_TOLERANCE;
        is_other.then(|| format!("it was offered {} per second, and its point says {planned}", number(offered)))
    }

    /// The recorded failure of a repetition without rows.
    pub(super) fn failure(&self, system_point: SystemPoint<'_>, number: u32) -> Option<&'a FailedRepetition> {
        if system_point.summary(number).is_some() {
            return None;
        }
        self.manifest.failures.iter().find(|failure| {
            (failure.system.as_str(), failure.point.as_str(), failure.repetition)
                == (system_point.system, system_point.point, number)
        })
    }

    /// The reason why a repetition has no rows.
    fn missing(&self, system_point: SystemPoint<'_>, number: u32) -> String {
        let reason = self.failure(system_point, number).and_then(|failure| failure.reason.lines().next());
        reason.map_or_else(|| "it is missing, or was stopped".to_owned(), |reason| format!("it failed: {reason}"))
    }
}
