//! What all claims of a run are judged from, and what each repetition of it is worth.

use std::collections::BTreeMap;

use record::{FailedRepetition, Invariant, Manifest, PointSummary, Scope};

use crate::{
    claims::Claim,
    design::{Design, RATE},
    format::number,
    judge::{Ruling, measure::Measure},
    series::Series,
    verification::{Soundness, TOO_MUCH, Verification},
};

/// What all claims of a run are judged from.
#[derive(Clone, Copy)]
pub(super) struct Material<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) design: &'a Design,
    pub(super) series: &'a [Series<'a>],
    pub(super) verification: &'a Verification,
}

/// A system's part in a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It is said to be better than another one: everything about it must be proved, and where it fails, the claim does.
    Better,
    /// It is what is compared with.
    Other,
    /// There is no other one: everything about it must be proved, and where it fails, there is no value.
    Only,
}

/// What keeps a repetition from being used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The load generator was late there, or is not known to have been punctual, which says nothing about the system: what does not
    /// need it stands.
    Late(Ruling),
    /// There are no rows of it.
    Missing(Ruling),
    /// A process of the system ended early there: what it shows may be worse than what there would be of one that lived.
    Ended(Ruling),
    /// Anything else.
    Unusable(Ruling),
}

impl Flaw {
    pub(super) fn ruling(self) -> Ruling {
        match self {
            Self::Late(ruling) | Self::Missing(ruling) | Self::Ended(ruling) | Self::Unusable(ruling) => ruling,
        }
    }
}

/// A system's point: one that was planned, or that there is anything on record of.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) system: &'a str,
    pub(super) point: &'a str,
    /// Its repetitions that have rows, if any has.
    series: Option<&'a Series<'a>>,
}

impl<'a> Place<'a> {
    pub(super) fn summary(&self, number: u32) -> Option<&'a PointSummary> {
        let mut all = self.series?.repetitions.iter().map(|result| &result.summary);
        all.find(|summary| summary.repetition == number)
    }
}

/// Share by which the rate that was offered may differ from the planned one: a window that ends between two invocations
/// makes less.
const RATE_TOLERANCE: f64 = 0.01;

/// A number, or a duration in seconds.
fn size(value: &str) -> Option<f64> {
    let seconds = || humantime::parse_duration(value).ok().map(|duration| duration.as_secs_f64());
    value.parse().ok().or_else(seconds)
}

impl<'a> Material<'a> {
    /// The numbers of the repetitions that were planned, or, of a run that does not say, as many as any point has.
    pub(super) fn planned(&self) -> std::ops::RangeInclusive<u32> {
        let all = self.series.iter().flat_map(|series| &series.repetitions);
        let failed = self.manifest.failures.iter().map(|failure| failure.repetition);
        let greatest = all.map(|result| result.summary.repetition).chain(failed).max().unwrap_or(0);
        1..=self.design.repetitions().unwrap_or(0).max(greatest)
    }

    /// Why the load is less than what a claim is about; `None` where it is not.
    pub(super) fn smaller_load(&self, claim: &Claim) -> Option<String> {
        claim.load_at_least.iter().find_map(|(key, least)| {
            let each = self.design.each(key);
            let (value, _) = each.into_iter().find(|(value, _)| size(value).is_none_or(|size| size < *least))?;
            Some(format!("the claim needs {key} of at least {least}, and this run has {value}: smaller is no evidence"))
        })
    }

    /// Why what was replayed at a claim's points is less than what it is about; `None` where it is not.
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

    /// The repetitions of a claim's systems at its points.
    fn used(&self, claim: &Claim, measure: &Measure<'_>) -> impl Iterator<Item = &'a PointSummary> {
        let is_used = |series: &&Series<'_>| claim.is_about(series.system) && self.uses(measure, series.point);
        self.series.iter().filter(is_used).flat_map(|series| &series.repetitions).map(|result| &result.summary)
    }

    /// What a reader must know of a claim whose systems have repetitions that were tried more than once: to choose which try counts is
    /// to choose what comes out.
    pub(super) fn discarded(&self, claim: &Claim) -> Option<String> {
        let mut why: BTreeMap<&str, usize> = BTreeMap::new();
        for one in self.manifest.discarded.iter().filter(|one| claim.is_about(&one.system)) {
            *why.entry(&one.reason).or_default() += 1;
        }
        let all: usize = why.values().sum();
        let each = why.iter().map(|(reason, count)| format!("{count}: \"{reason}\"")).collect::<Vec<_>>().join("; ");
        (all > 0).then(|| format!("Tries at repetitions of its systems that were discarded: {all} ({each})."))
    }

    /// What a reader must know of a claim whose systems have repetitions that are marked, which keeps none from being used.
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

    /// What a reader must know of a claim whose systems have repetitions of which nobody knows how quiet the machine was.
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

    /// A system's points: those of the plan, and all others of which there is anything on record.
    pub(super) fn of(&self, system: &'a str) -> Result<Vec<Place<'a>>, Ruling> {
        let failures = self.manifest.failures.iter().map(|one| (&*one.system, &*one.point));
        let discarded = self.manifest.discarded.iter().map(|one| (&*one.system, &*one.point));
        let rows = self.series.iter().map(|series| (series.system, series.point));
        let recorded = failures.chain(discarded).chain(rows).filter(|(of, _)| *of == system).map(|(_, point)| point);
        let mut points: Vec<&str> = self.design.planned(system).chain(recorded).collect();
        points.sort_by_key(|point| (self.design.place(point), *point));
        points.dedup();
        if points.is_empty() {
            return Err(Ruling::not_measured(format!("this run has no rows of `{system}`")));
        }
        let series = |point| self.series.iter().find(|series| (series.system, series.point) == (system, point));
        Ok(points.into_iter().map(|point| Place { system, point, series: series(point) }).collect())
    }

    /// A system's points at which a measure is taken, by their rates.
    pub(super) fn tried(&self, measure: &Measure<'_>, system: &'a str) -> Result<Vec<(f64, Place<'a>)>, Ruling> {
        let mut tried: Vec<(f64, Place<'_>)> = Vec::new();
        for place in self.of(system)? {
            let rate = self.rate(place.point);
            tried.extend(rate.filter(|_| self.uses(measure, place.point)).map(|rate| (rate, place)));
        }
        tried.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        if tried.is_empty() {
            let reason = format!("`{system}` was measured at none of the points that the claim is about");
            return Err(Ruling::not_measured(reason));
        }
        Ok(tried)
    }

    /// The constant rate that was planned at a point.
    fn rate(&self, point: &str) -> Option<f64> {
        self.design.values(point).get(RATE).and_then(|rate| rate.parse().ok())
    }

    /// Whether a measure is taken at a point, or among others there.
    fn uses(&self, measure: &Measure<'_>, point: &str) -> bool {
        match measure {
            Measure::At(_, at) => at.is_none_or(|at| at == point),
            Measure::Sustained(claim) | Measure::Cheapest(claim) => {
                let values = self.design.values(point);
                claim.among.iter().all(|(key, value)| values.get(key) == Some(value))
            }
        }
    }

    /// What of a point's repetition may be used, or why nothing of it.
    pub(super) fn repetition(
        &self,
        place: Place<'a>,
        number: u32,
        role: Role,
    ) -> (Option<&'a PointSummary>, Option<Flaw>) {
        let Place { system, point, .. } = place;
        let named = format!("`{system}`, {point}, repetition {number}");
        let Some(summary) = place.summary(number) else {
            let ruling = Ruling::not_measured(format!("{named}: {}", self.missing(place, number)));
            return (None, Some(Flaw::Missing(ruling)));
        };
        let unusable = |ruling| Some(Flaw::Unusable(ruling));
        let flaw = match self.verification.of_repetition(system, point, number) {
            Soundness::Broken(why) => {
                let ruling = Ruling::invalid(format!("{named}: {why}"));
                let ended = self.verification.failing(Invariant::LIVED, summary).is_some();
                Some(if ended { Flaw::Ended(ruling) } else { Flaw::Unusable(ruling) })
            }
            Soundness::Late(why) => Some(Flaw::Late(Ruling::invalid(format!("{named}: {why}")))),
            Soundness::Unchecked => unusable(Ruling::not_measured(format!("{named}: invariants were not checked"))),
            Soundness::Sound if self.other_rate(summary).is_some() => {
                unusable(Ruling::invalid(format!("{named}: {}", self.other_rate(summary).unwrap_or_default())))
            }
            Soundness::Sound if summary.validity.valid != Some(true) => {
                let reasons = summary.validity.reasons.join("; ");
                let ruling = Ruling::invalid(format!("{named} is not known to be valid: {reasons}"));
                Some(if summary.validity.only_late { Flaw::Late(ruling) } else { Flaw::Unusable(ruling) })
            }
            Soundness::Sound => self.reservation(summary, role, &named),
        };
        (Some(summary), flaw)
    }

    /// Whether the rate of a repetition was sustained as far as its rows tell, whatever else is wrong with it, and why not or why
    /// that is not known. Where the rate was surely too much for the system said to be better, later warm answers lower the slope
    /// by which that would be seen in all of its rows: it was not sustained.
    pub(super) fn sustained(&self, summary: &PointSummary, role: Role) -> (Option<bool>, String) {
        if role == Role::Better && self.verification.was_too_much(summary) {
            return (Some(false), TOO_MUCH.to_owned());
        }
        let judgement = summary.pace.as_ref().map(|pace| &pace.sustained);
        judgement.map_or_else(Default::default, |judgement| (judgement.verdict, judgement.reasons.join("; ")))
    }

    /// Why a repetition may not be used in which nothing is broken. What its rows are must be proved of either side, and
    /// everything else of the one said to be better, or of the only one: what is not known of that could be in favour of the claim.
    /// That the load generator was punctual is asked of either side: latency that it caused itself makes the other one look worse.
    fn reservation(&self, summary: &PointSummary, role: Role, named: &str) -> Option<Flaw> {
        let is_asked =
            |one: &Invariant| role != Role::Other || Invariant::IDENTITY.iter().any(|rule| *rule == one.rule);
        let not_measured = |why| Ruling::not_measured(format!("{named}: {why}"));
        let unproved = self.verification.unproved(summary, is_asked).map(|why| Flaw::Unusable(not_measured(why)));
        let late = || self.verification.unproved_punctuality(summary).map(|why| Flaw::Late(not_measured(why)));
        unproved.or_else(late)
    }

    /// What was offered, where that is not the rate that was planned.
    fn other_rate(&self, summary: &PointSummary) -> Option<String> {
        let (planned, offered) = (self.rate(&summary.point)?, summary.rates?.offered_per_s);
        let is_other = (offered / planned - 1.0).abs() > RATE_TOLERANCE;
        is_other.then(|| format!("it was offered {} per second, and its point says {planned}", number(offered)))
    }

    /// How a repetition that has no rows failed, if it did.
    pub(super) fn failure(&self, place: Place<'_>, number: u32) -> Option<&'a FailedRepetition> {
        if place.summary(number).is_some() {
            return None;
        }
        self.manifest.failures.iter().find(|failure| {
            (failure.system.as_str(), failure.point.as_str(), failure.repetition) == (place.system, place.point, number)
        })
    }

    /// Why a repetition has no rows.
    fn missing(&self, place: Place<'_>, number: u32) -> String {
        let reason = self.failure(place, number).and_then(|failure| failure.reason.lines().next());
        reason.map_or_else(|| "it is missing, or was stopped".to_owned(), |reason| format!("it failed: {reason}"))
    }
}
