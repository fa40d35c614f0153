//! Rates of a system, once per repetition: the highest that it sustained, and the lowest that was surely too much for it.

use record::PointSummary;
use stats::median;

use crate::{
    format,
    judge::{
        Ruling,
        died::{self, Died},
        failure::surely_failed,
        material::{Flaw, Material, Place, Role},
        measure::Measure,
        sides::Side,
    },
};

/// A rate that a system was measured at in one repetition.
struct Trial<'a> {
    /// As it was planned.
    rate: f64,
    /// Whether it was sustained, as far as rows tell, whatever else is wrong with it.
    seems: Option<bool>,
    /// Why it was not, or why that cannot be told.
    reasons: String,
    /// Why it was surely too much.
    failed: Option<String>,
    /// What was really offered, per second; without rows what was planned.
    offered: f64,
    achieved: Option<f64>,
    flaw: Option<Flaw>,
    /// That the system said to be better was tried and failed.
    died: Option<Died>,
    /// Its rows, if there are any.
    summary: Option<&'a PointSummary>,
}

/// What a system said to be better came to in a repetition.
enum Highest<'t, 'a> {
    /// It sustained this.
    Rate(&'t Trial<'a>),
    /// It failed at the lowest rate tried.
    Nothing(Died),
}

/// One repetition's trials, by rate.
struct Trials<'a> {
    system: String,
    number: u32,
    all: Vec<Trial<'a>>,
}

/// A system's side that is said to be better: what each repetition sustained.
pub(super) fn sustained<'a>(
    material: &Material<'a>,
    measure: &Measure<'_>,
    system: &'a str,
) -> Result<Side<'a>, Ruling> {
    let all = Trials::of(material, measure, (system, Role::Better))?;
    let found: Vec<Result<Highest<'_, 'a>, Ruling>> = all.iter().map(Trials::highest_sustained).collect();
    let died: Vec<Died> = found.iter().filter_map(|found| found.as_ref().ok()?.died()).cloned().collect();
    let mostly = material.mostly_died(system, &died).map(Err);
    let highest = settled(found.into_iter().chain(mostly).collect())?;
    let value = |highest: &Highest<'_, 'a>| match highest {
        Highest::Rate(trial) => Some((trial.offered, Some(trial.summary?))),
        Highest::Nothing(_) => Some((0.0, None)),
    };
    let values = highest.iter().filter_map(value).collect();
    let note = died::note(system, &died);
    let died = all.iter().filter_map(Trials::died).cloned().collect();
    Ok(Side { note, died, ..Side::of_values(system, values) })
}

/// The side of a system that is compared with: what each repetition shows to be more than it can do.
pub(super) fn limit<'a>(material: &Material<'a>, measure: &Measure<'_>, system: &'a str) -> Result<Side<'a>, Ruling> {
    let all = Trials::of(material, measure, (system, Role::Other))?;
    let limits: Vec<&Trial<'_>> = settled(all.iter().map(Trials::lowest_surely_failed).collect())?;
    let over = |values: Vec<f64>| median(&values).map_or_else(|| "–".to_owned(), format::rate);
    let own = |trials: &Trials<'_>| trials.seemingly_sustained().map_or_else(|| "none".to_owned(), format::rate);
    let note = format!(
        "The limit of `{system}` is the lowest rate that it surely failed, above all that it sustained: {} per second in \
         the median of repetitions, of which it achieved {}. Of the rates tried it sustained, by repetition: {}.",
        over(limits.iter().map(|trial| trial.rate).collect()),
        over(limits.iter().filter_map(|trial| trial.achieved).collect()),
        all.iter().map(own).collect::<Vec<_>>().join(", "),
    );
    // What was really offered, and where that comes from: a trial that shows anything has rows.
    let values = limits.iter().filter_map(|trial| Some((trial.offered, Some(trial.summary?)))).collect();
    Ok(Side { note: Some(note), ..Side::of_values(system, values) })
}

/// All values, or the ruling that weighs most.
fn settled<T>(found: Vec<Result<T, Ruling>>) -> Result<Vec<T>, Ruling> {
    let (mut values, mut rulings) = (Vec::new(), Vec::new());
    for one in found {
        match one {
            Ok(value) => values.push(value),
            Err(ruling) => rulings.push(ruling),
        }
    }
    Ruling::heaviest(rulings).map_or(Ok(values), Err)
}

impl Highest<'_, '_> {
    fn died(&self) -> Option<&Died> {
        match self {
            Self::Nothing(died) => Some(died),
            Self::Rate(_) => None,
        }
    }
}

impl<'a> Trial<'a> {
    fn of(material: &Material<'a>, (rate, place): (f64, Place<'a>), number: u32, role: Role) -> Self {
        let died = material.died(place, number, role);
        if let Some(died) = died {
            let reasons = died.reason();
            return Self {
                rate,
                seems: Some(false),
                reasons,
                failed: None,
                offered: rate,
                achieved: None,
                flaw: None,
                died: Some(died),
                summary: None,
            };
        }
        let (summary, flaw) = material.repetition(place, number, role);
        let (seems, reasons) = summary.map(|summary| material.sustained(summary, role)).unwrap_or_default();
        let rates = summary.and_then(|summary| summary.rates);
        Self {
            rate,
            seems,
            reasons,
            failed: summary.and_then(surely_failed),
            offered: rates.map_or(rate, |rates| rates.offered_per_s),
            achieved: rates.map(|rates| rates.achieved_per_s),
            flaw,
            died: None,
            summary,
        }
    }

    /// Whether rows of a punctual generator say so.
    fn says(&self, sustained: bool) -> bool {
        self.seems == Some(sustained) && !matches!(self.flaw, Some(Flaw::Late(_)))
    }
}

impl<'a> Trials<'a> {
    fn of(
        material: &Material<'a>,
        measure: &Measure<'_>,
        (system, role): (&'a str, Role),
    ) -> Result<Vec<Self>, Ruling> {
        let tried = material.tried(measure, system)?;
        let of = |number: u32| Self {
            system: system.to_owned(),
            number,
            all: tried.iter().map(|one| Trial::of(material, *one, number, role)).collect(),
        };
        Ok(material.planned().map(of).collect())
    }

    /// Where the first rate is that was not sustained, past the last one where there is none.
    fn stop(&self) -> usize {
        self.all.iter().position(|trial| trial.says(false)).unwrap_or(self.all.len())
    }

    /// That the system failed at the first rate that it did not sustain, whatever it sustained below: what it came to rests on that.
    /// A rate that is above one which was too much decides nothing.
    fn died(&self) -> Option<&Died> {
        self.all.get(self.stop())?.died.as_ref()
    }

    /// The highest rate that was sustained, as were all lower ones that were judged. Where the generator was late, or the
    /// window too short, nothing is known, and a higher rate says enough; anything else that is wrong below what was
    /// sustained decides.
    fn highest_sustained(&self) -> Result<Highest<'_, 'a>, Ruling> {
        let stop = self.stop();
        let Some(highest) = self.all[..stop].iter().rposition(|trial| trial.says(true)) else {
            return self.nothing_sustained(stop);
        };
        let unusable = |trial: &Trial<'_>| match &trial.flaw {
            Some(Flaw::Unusable(ruling) | Flaw::Missing(ruling) | Flaw::Ended(ruling)) => Some(ruling.clone()),
            Some(Flaw::Late(_)) | None => None,
        };
        let flaw = Ruling::heaviest(self.all[..=highest].iter().filter_map(unusable));
        flaw.map_or(Ok(Highest::Rate(&self.all[highest])), Err)
    }

    /// What it means that nothing was sustained, where the first rate that was not is at `stop`.
    fn nothing_sustained(&self, stop: usize) -> Result<Highest<'_, 'a>, Ruling> {
        let of_trial = |trial: &Trial<'_>| match &trial.flaw {
            Some(flaw) => Some(flaw.clone().ruling()),
            None if trial.seems.is_none() => {
                let Self { system, number, .. } = self;
                let reason = format!(
                    "`{system}` at {} per second, repetition {number} is not judged: {}",
                    trial.rate, trial.reasons
                );
                Some(Ruling::not_measured(reason))
            }
            None => None,
        };
        let upto = self.all.len().min(stop + 1);
        if let Some(ruling) = Ruling::heaviest(self.all[..upto].iter().filter_map(of_trial)) {
            return Err(ruling);
        }
        if let Some(died) = self.all.get(stop).and_then(|trial| trial.died.clone()) {
            return Ok(Highest::Nothing(died));
        }
        let Self { system, number, .. } = self;
        let (rate, reasons) = self.all.get(stop).map(|trial| (trial.rate, trial.reasons.as_str())).unwrap_or_default();
        let lowest = format!("`{system}` sustained not even {rate} per second, the lowest rate tried");
        Err(Ruling::not_held(format!("{lowest}, in repetition {number}: {reasons}")))
    }

    /// The highest rate that seems sustained; one that is flawed counts as well, because that favours the system.
    fn seemingly_sustained(&self) -> Option<f64> {
        self.all.iter().rev().find(|trial| trial.seems == Some(true)).map(|trial| trial.rate)
    }

    /// The lowest rate that surely failed above all that seem sustained, of those that may be used.
    fn lowest_surely_failed(&self) -> Result<&Trial<'a>, Ruling> {
        let highest = self.seemingly_sustained().unwrap_or(0.0);
        let above = || self.all.iter().filter(|trial| trial.rate > highest);
        if let Some(trial) = above().find(|trial| trial.flaw.is_none() && trial.failed.is_some()) {
            // A planned rate above it that nothing is known of might have been sustained, and then this is no limit; so might one
            // at which the system ended early, had it lived.
            let unknown = above().filter(|other| other.rate > trial.rate).find_map(|other| match &other.flaw {
                Some(Flaw::Missing(ruling) | Flaw::Ended(ruling)) => Some(ruling.clone()),
                _ => None,
            });
            return unknown.map_or(Ok(trial), Err);
        }
        let Self { system, number, .. } = self;
        let flaws = above().filter_map(|trial| trial.flaw.clone()).map(Flaw::ruling);
        Err(Ruling::heaviest(flaws).unwrap_or_else(|| {
            let known = self.seemingly_sustained().map_or_else(
                || format!("`{system}` sustained no rate tried"),
                |rate| format!("`{system}` sustained {} per second", format::rate(rate)),
            );
            let reason =
                format!("{known} in repetition {number}, and surely failed at none above: its limit is not known");
            Ruling::not_measured(reason)
        }))
    }
}
