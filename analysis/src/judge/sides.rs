//! A system's values for a claim: a statistic of one point, or the highest rate that it sustained, once per repetition.

use record::{PointSummary, Verdict};

use crate::{
    claims::{Claim, SUSTAINED},
    design::{Design, RATE},
    series::Series,
    statistic::Statistic,
    summarise::{
        PointResult,
        pace::{ACHIEVED_SHARE, SLOPE_PERCENT_PER_MIN},
    },
    verification::{Soundness, Verification},
};

/// What all claims of a run are judged from.
#[derive(Clone, Copy)]
pub(super) struct Material<'a> {
    pub(super) design: &'a Design,
    pub(super) series: &'a [Series<'a>],
    pub(super) verification: &'a Verification,
}

/// What is measured for a claim.
#[derive(Clone, Copy)]
pub(super) enum Measure<'a> {
    /// A statistic at a point; absent: at the only one.
    At(&'static Statistic, Option<&'a str>),
    /// The highest rate sustained among the points that the claim is about.
    Sustained(&'a Claim),
}

/// One system's side of a claim.
pub(super) struct Side<'a> {
    /// A value for each repetition that has one.
    pub(super) values: Vec<f64>,
    pub(super) repetitions: usize,
    /// The point; empty where several make one value.
    pub(super) point: &'a str,
    /// The repetition that may not be used, in words.
    pub(super) invalid: Option<String>,
    /// What a reader must know of the values.
    pub(super) note: Option<String>,
}

impl<'a> Measure<'a> {
    pub(super) fn of(claim: &'a Claim) -> Self {
        match Statistic::find(&claim.statistic) {
            Some(statistic) if claim.statistic != SUSTAINED => Self::At(statistic, claim.point.as_deref()),
            _ => Self::Sustained(claim),
        }
    }

    /// Of the statistics that claims compare, only a rate is better when it is more.
    pub(super) fn more_is_better(&self) -> bool {
        matches!(self, Self::Sustained(_))
    }

    pub(super) fn unit(&self) -> &'static str {
        match self {
            Self::At(statistic, _) => statistic.unit.symbol(),
            Self::Sustained(_) => "1/s",
        }
    }

    /// The measure itself, and what it is when failures are dropped, where there is such a thing; with their names.
    pub(super) fn whichever_way_failures_count(&self) -> Vec<(&'static str, Self)> {
        match self {
            Self::Sustained(_) => vec![("highest sustained rate", *self)],
            Self::At(statistic, point) => {
                let dropped = Statistic::find(&format!("{}.drop", statistic.id));
                let both = [Some(*statistic), dropped].into_iter().flatten();
                both.map(|statistic| (statistic.label, Self::At(statistic, *point))).collect()
            }
        }
    }
}

impl<'a> Material<'a> {
    /// A system's side; or why it has no values. `is_limit`: a rate at which nothing was found too much is no limit, and
    /// what is compared with it would look better than it is.
    pub(super) fn side(&self, measure: &Measure<'_>, system: &str, is_limit: bool) -> Result<Side<'a>, String> {
        match measure {
            Measure::At(statistic, point) => self.at(statistic, *point, system),
            Measure::Sustained(claim) => self.sustained(claim, system, is_limit),
        }
    }

    /// Why those repetitions of a system that a measure uses may not be used. `must_prove`: a rule that could not be judged
    /// is a reason as well.
    pub(super) fn unsound(&self, measure: &Measure<'_>, system: &str, must_prove: bool) -> Option<(Verdict, String)> {
        let counts = |series: &&Series<'_>| series.system == system && self.uses(measure, series.point);
        let mut all = self.series.iter().filter(counts).flat_map(|series| &series.repetitions);
        all.find_map(|result| {
            let (point, repetition) = (&result.summary.point, result.summary.repetition);
            let place = format!("`{system}`, {point}, repetition {repetition}");
            match self.verification.of_repetition(system, point, repetition) {
                Soundness::Sound if must_prove => {
                    let unproved = self.verification.unproved(system, point, repetition)?;
                    Some((Verdict::NotMeasured, format!("{place}: {unproved}")))
                }
                Soundness::Sound => None,
                Soundness::Late(why) | Soundness::Broken(why) => Some((Verdict::Invalid, format!("{place}: {why}"))),
                Soundness::Unchecked => Some((Verdict::NotMeasured, format!("{place}: invariants were not checked"))),
            }
        })
    }

    /// Whether a measure is taken at a point, or among others there.
    fn uses(&self, measure: &Measure<'_>, point: &str) -> bool {
        match measure {
            Measure::At(_, at) => at.is_none_or(|at| at == point),
            Measure::Sustained(claim) => {
                let values = self.design.values(point);
                claim.among.iter().all(|(key, value)| values.get(key) == Some(value))
            }
        }
    }

    fn of(&self, system: &str) -> Result<Vec<&'a Series<'a>>, String> {
        let of: Vec<&Series<'_>> = self.series.iter().filter(|series| series.system == system).collect();
        if of.is_empty() { Err(format!("this run has no rows of `{system}`")) } else { Ok(of) }
    }

    fn at(&self, statistic: &Statistic, point: Option<&str>, system: &str) -> Result<Side<'a>, String> {
        let of = self.of(system)?;
        let series = match point {
            Some(point) => of.iter().find(|series| series.point == point),
            None if of.len() == 1 => of.first(),
            None => return Err(format!("`{system}` has several points in this run; the claim is about one")),
        };
        let series = series.ok_or_else(|| format!("`{system}` was not measured at {}", point.unwrap_or_default()))?;
        let not_valid = series.repetitions.iter().find(|result| result.summary.validity.valid != Some(true));
        Ok(Side {
            values: series.values(statistic),
            repetitions: series.repetitions.len(),
            point: series.point,
            note: None,
            invalid: not_valid.map(|result| {
                format!("{}, repetition {} is not known to be valid", result.summary.system, result.summary.repetition)
            }),
        })
    }

    fn sustained(&self, claim: &Claim, system: &str, is_limit: bool) -> Result<Side<'a>, String> {
        let mut tried: Vec<(f64, &Series<'_>)> = Vec::new();
        for series in self.of(system)? {
            let rate = self.design.values(series.point).get(RATE).and_then(|rate| rate.parse().ok());
            let rate = rate.filter(|_| self.uses(&Measure::Sustained(claim), series.point));
            tried.extend(rate.map(|rate| (rate, series)));
        }
        tried.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        if tried.is_empty() {
            return Err(format!("`{system}` was measured at none of the points that the claim is about"));
        }
        let repetitions = tried.iter().map(|(_, series)| series.repetitions.len()).min().unwrap_or(0);
        let (mut values, mut bounded) = (Vec::new(), 0);
        for repetition in 0..repetitions {
            let highest = highest_sustained(system, &tried, repetition)?;
            let bound = is_limit.then(|| no_more_than(&tried, repetition)).flatten();
            let value = match (highest, bound) {
                (_, Some(bound)) => highest.unwrap_or(bound).max(bound),
                (Some(rate), None) if !is_limit => rate,
                _ => return Err(nothing_known(system, highest, is_limit)),
            };
            values.push(value);
            bounded += usize::from(highest != Some(value));
        }
        let note = (bounded > 0).then(|| {
            format!(
                "In {bounded} of {repetitions} repetitions the highest rate that `{system}` sustains lies between rates \
                 tried, or none of them is known to be it; there stands for it what is no less: the greatest rate that it \
                 achieved while more was asked of it than it could do, or the lowest at which its latency surely grew."
            )
        });
        Ok(Side { values, repetitions, point: "", invalid: None, note })
    }
}

/// Why there is no value where `highest` is the highest rate that was sustained.
fn nothing_known(system: &str, highest: Option<f64>, is_limit: bool) -> String {
    let sustained = match highest {
        Some(rate) => format!("`{system}` sustained {rate} per second"),
        None => format!("`{system}` sustained not even the lowest rate tried"),
    };
    if !is_limit {
        return sustained;
    }
    format!("{sustained}, and at no rate tried it surely failed: its limit is not known")
}

/// What one repetition sustains is no more than this: the greatest rate that it achieved, if it was asked for more than
/// it could do, or the lowest rate at which its latency surely grew, if that is less. That a rate was not found to be
/// sustained is not enough: a short window says so of any.
fn no_more_than(tried: &[(f64, &Series<'_>)], repetition: usize) -> Option<f64> {
    let all = || tried.iter().map(|(rate, series)| (*rate, &series.repetitions[repetition].summary));
    let results = || all().filter(|(_, point)| point.validity.valid == Some(true));
    let rates = || results().filter_map(|(_, point)| point.rates);
    let was_too_much = rates().any(|rates| rates.achieved_per_s < ACHIEVED_SHARE * rates.offered_per_s);
    let achieved = rates().map(|rates| rates.achieved_per_s).reduce(f64::max).filter(|_| was_too_much);
    let grew = |point: &PointSummary| {
        let judged = point.pace.as_ref().filter(|pace| pace.sustained.verdict == Some(false));
        judged.and_then(|pace| pace.slope_lower_percent_per_min).is_some_and(|slope| slope >= SLOPE_PERCENT_PER_MIN)
    };
    let growing = results().find(|(_, point)| grew(point)).map(|(rate, _)| rate);
    achieved.into_iter().chain(growing).reduce(f64::min)
}

/// The highest rate that one repetition sustained, as it did all lower ones that were tried; `None`: not even the lowest.
fn highest_sustained(system: &str, tried: &[(f64, &Series<'_>)], repetition: usize) -> Result<Option<f64>, String> {
    let mut highest = None;
    for (rate, series) in tried {
        let result: &PointResult = series.repetitions[repetition];
        let judgement = result.summary.pace.as_ref().map(|pace| &pace.sustained);
        match judgement.and_then(|judgement| judgement.verdict) {
            Some(true) => highest = Some(*rate),
            Some(false) => break,
            None => {
                let why = judgement.map_or_else(String::new, |judgement| judgement.reasons.join("; "));
                let repetition = result.summary.repetition;
                return Err(format!("`{system}` at {rate} per second, repetition {repetition} is not judged: {why}"));
            }
        }
    }
    Ok(highest)
}
