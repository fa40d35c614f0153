//! The capacity of a system, once per repetition: of the subject the highest rate that it sustained, of the reference its limit,
//! the lowest rate that it surely failed.

use record::PointSummary;
use stats::median;

use crate::{
    evaluate::{
        Conclusion,
        data::{Flaw, Role, RunData, SystemPoint},
        measure::Measure,
        operands::Operand,
        surely_failed::surely_failed,
        system_failure::{self, SystemFailure},
    },
    format,
};

/// The measurement of a system at one rate in one repetition.
struct Trial<'a> {
    /// The planned rate, per second.
    rate: f64,
    /// True if the rows show a sustained rate, whatever invariant is broken; `None` if they cannot decide it.
    appears_sustained: Option<bool>,
    /// The reasons why it was not sustained, or why that is undecided.
    reasons: String,
    /// The reason why the rate was surely failed.
    failed: Option<String>,
    /// The rate that was actually offered, per second; without rows the planned one.
    offered: f64,
    achieved: Option<f64>,
    flaw: Option<Flaw>,
    /// The failure of the subject.
    system_failure: Option<SystemFailure>,
    /// `None` without rows.
    summary: Option<&'a PointSummary>,
}

/// The result of the subject in one repetition.
enum Highest<'t, 'a> {
    /// The highest rate that it sustained.
    Rate(&'t Trial<'a>),
    /// It failed at the lowest rate tried.
    Nothing(SystemFailure),
}

/// The trials of one repetition, in ascending order of their rates.
struct Trials<'a> {
    system: String,
    number: u32,
    all: Vec<Trial<'a>>,
}

/// The subject's operand: the highest rate that it sustained in each repetition.
pub(super) fn sustained<'a>(
    data: &RunData<'a>,
    measure: &Measure<'_>,
    system: &'a str,
) -> Result<Operand<'a>, Conclusion> {
    let all = Trials::of(data, measure, (system, Role::Subject))?;
    let found: Vec<Result<Highest<'_, 'a>, Conclusion>> = all.iter().map(Trials::highest_sustained).collect();
    let failures: Vec<SystemFailure> =
        found.iter().filter_map(|found| found.as_ref().ok()?.system_failure()).cloned().collect();
    let mostly = data.mostly_failed(system, &failures).map(Err);
    let highest = all_values(found.into_iter().chain(mostly).collect())?;
    let value = |highest: &Highest<'_, 'a>| match highest {
        Highest::Rate(trial) => Some((trial.offered, Some(trial.summary?))),
        Highest::Nothing(_) => Some((0.0, None)),
    };
    let values = highest.iter().filter_map(value).collect();
    let note = system_failure::note(system, &failures);
    let failures = all.iter().filter_map(Trials::system_failure).cloned().collect();
    Ok(Operand { note, failures, ..Operand::of_values(system, values) })
}

/// The reference's operand: its limit in each repetition.
pub(super) fn limit<'a>(data: &RunData<'a>, measure: &Measure<'_>, system: &'a str) -> Result<Operand<'a>, Conclusion> {
    let all = Trials::of(data, measure, (system, Role::Reference))?;
    let limits: Vec<&Trial<'_>> = all_values(all.iter().map(Trials::lowest_surely_failed).collect())?;
    let over = |values: Vec<f64>| median(&values).map_or_else(|| "–".to_owned(), format::rate);
    let own =
        |trials: &Trials<'_>| trials.highest_apparently_sustained().map_or_else(|| "none".to_owned(), format::rate);
    let note = format!(
        "The limit of `{system}` is the lowest rate that it surely failed, above all that it sustained: {} per second in \
         the median of repetitions, of which it achieved {}. Of the rates tried it sustained, by repetition: {}.",
        over(limits.iter().map(|trial| trial.rate).collect()),
        over(limits.iter().filter_map(|trial| trial.achieved).collect()),
        all.iter().map(own).collect::<Vec<_>>().join(", "),
    );
    // A trial that was surely failed has rows, so that none is lost here.
    let values = limits.iter().filter_map(|trial| Some((trial.offered, Some(trial.summary?)))).collect();
    Ok(Operand { note: Some(note), ..Operand::of_values(system, values) })
}

/// All values, or the decisive conclusion.
fn all_values<T>(found: Vec<Result<T, Conclusion>>) -> Result<Vec<T>, Conclusion> {
    let (mut values, mut conclusions) = (Vec::new(), Vec::new());
    for one in found {
        match one {
            Ok(value) => values.push(value),
            Err(conclusion) => conclusions.push(conclusion),
        }
    }
    Conclusion::decisive(conclusions).map_or(Ok(values), Err)
}

impl Highest<'_, '_> {
    fn system_failure(&self) -> Option<&SystemFailure> {
        match self {
            Self::Nothing(system_failure) => Some(system_failure),
            Self::Rate(_) => None,
        }
    }
}

impl<'a> Trial<'a> {
    fn of(data: &RunData<'a>, (rate, system_point): (f64, SystemPoint<'a>), number: u32, role: Role) -> Self {
        let system_failure = data.system_failure(system_point, number, role);
        if let Some(system_failure) = system_failure {
            let reasons = system_failure.reason();
            return Self {
                rate,
                appears_sustained: Some(false),
                reasons,
                failed: None,
                offered: rate,
                achieved: None,
                flaw: None,
                system_failure: Some(system_failure),
                summary: None,
            };
        }
        let (summary, flaw) = data.repetition(system_point, number, role);
        let (appears_sustained, reasons) = summary.map(|summary| data.sustained(summary, role)).unwrap_or_default();
        let rates = summary.and_then(|summary| summary.rates);
        Self {
            rate,
            appears_sustained,
            reasons,
            failed: summary.and_then(surely_failed),
            offered: rates.map_or(rate, |rates| rates.offered_per_s),
            achieved: rates.map(|rates| rates.achieved_per_s),
            flaw,
            system_failure: None,
            summary,
        }
    }

    /// Returns true if the rows of a punctual load generator show that the rate was sustained, or was not.
    fn shows(&self, sustained: bool) -> bool {
        self.appears_sustained == Some(sustained) && !matches!(self.flaw, Some(Flaw::Late(_)))
    }
}

impl<'a> Trials<'a> {
    fn of(data: &RunData<'a>, measure: &Measure<'_>, (system, role): (&'a str, Role)) -> Result<Vec<Self>, Conclusion> {
        let tried = data.tried(measure, system)?;
        let of = |number: u32| Self {
            system: system.to_owned(),
            number,
            all: tried.iter().map(|one| Trial::of(data, *one, number, role)).collect(),
        };
        Ok(data.planned().map(of).collect())
    }

    /// Index of the first rate that was not sustained; past the last one if there is none.
    fn stop(&self) -> usize {
        self.all.iter().position(|trial| trial.shows(false)).unwrap_or(self.all.len())
    }

    /// The failure of the system at the first rate that it did not sustain: the result of the repetition rests on it. Failures at
    /// higher rates decide nothing.
    fn system_failure(&self) -> Option<&SystemFailure> {
        self.all.get(self.stop())?.system_failure.as_ref()
    }

    /// The highest sustained rate below the first rate that was not. Lower rates at which the load generator was late or the
    /// window too short do not matter; any other flaw up to that rate decides.
    fn highest_sustained(&self) -> Result<Highest<'_, 'a>, Conclusion> {
        let stop = self.stop();
        let Some(highest) = self.all[..stop].iter().rposition(|trial| trial.shows(true)) else {
            return self.nothing_sustained(stop);
        };
        let unusable = |trial: &Trial<'_>| match &trial.flaw {
            Some(Flaw::Unusable(conclusion) | Flaw::Missing(conclusion) | Flaw::Ended(conclusion)) => {
                Some(conclusion.clone())
            }
            Some(Flaw::Late(_)) | None => None,
        };
        // A lower rate that is missing or invalid could be the first that was not sustained.
        let flaw = Conclusion::decisive(self.all[..=highest].iter().filter_map(unusable));
        flaw.map_or(Ok(Highest::Rate(&self.all[highest])), Err)
    }

    /// The result of a repetition that sustained nothing below the first unsustained rate, at index `stop`.
    fn nothing_sustained(&self, stop: usize) -> Result<Highest<'_, 'a>, Conclusion> {
        let of_trial = |trial: &Trial<'_>| match &trial.flaw {
            Some(flaw) => Some(flaw.clone().conclusion()),
            None if trial.appears_sustained.is_none() => {
                let Self { system, number, .. } = self;
                let reason = format!(
                    "`{system}` at {} per second, repetition {number} is not judged: {}",
                    trial.rate, trial.reasons
                );
                Some(Conclusion::not_measured(reason))
            }
            None => None,
        };
        // Rates above the first unsustained one decide nothing, so that their flaws do not either.
        let upto = self.all.len().min(stop + 1);
        if let Some(conclusion) = Conclusion::decisive(self.all[..upto].iter().filter_map(of_trial)) {
            return Err(conclusion);
        }
        if let Some(system_failure) = self.all.get(stop).and_then(|trial| trial.system_failure.clone()) {
            return Ok(Highest::Nothing(system_failure));
        }
        let Self { system, number, .. } = self;
        let (rate, reasons) = self.all.get(stop).map(|trial| (trial.rate, trial.reasons.as_str())).unwrap_or_default();
        let lowest = format!("`{system}` sustained not even {rate} per second, the lowest rate tried");
        Err(Conclusion::not_held(format!("{lowest}, in repetition {number}: {reasons}")))
    }

    /// The highest rate that appears sustained. A flawed trial counts too, because that favours the reference.
    fn highest_apparently_sustained(&self) -> Option<f64> {
        self.all.iter().rev().find(|trial| trial.appears_sustained == Some(true)).map(|trial| trial.rate)
    }

    /// The lowest usable rate that was surely failed, above all that appear sustained.
    fn lowest_surely_failed(&self) -> Result<&Trial<'a>, Conclusion> {
        let highest = self.highest_apparently_sustained().unwrap_or(0.0);
        let above = || self.all.iter().filter(|trial| trial.rate > highest);
        if let Some(trial) = above().find(|trial| trial.flaw.is_none() && trial.failed.is_some()) {
            // A higher rate that is missing might have been sustained, which would disprove this limit; so might one at which the
            // system ended early, had it survived.
            let unknown = above().filter(|other| other.rate > trial.rate).find_map(|other| match &other.flaw {
                Some(Flaw::Missing(conclusion) | Flaw::Ended(conclusion)) => Some(conclusion.clone()),
                _ => None,
            });
            return unknown.map_or(Ok(trial), Err);
        }
        let Self { system, number, .. } = self;
        // The limit may lie at a rate that must not be used.
        let flaws = above().filter_map(|trial| trial.flaw.clone()).map(Flaw::conclusion);
        Err(Conclusion::decisive(flaws).unwrap_or_else(|| {
            let known = self.highest_apparently_sustained().map_or_else(
                || format!("`{system}` sustained no rate tried"),
                |rate| format!("`{system}` sustained {} per second", format::rate(rate)),
            );
            let reason =
                format!("{known} in repetition {number}, and surely failed at none above: its limit is not known");
            Conclusion::not_measured(reason)
        }))
    }
}
