//! A system's side of a claim: a statistic of one point once per repetition, or what decides the claim without it.

use record::{Invariant, PointSummary};

use crate::{
    claims::Claim,
    judge::{
        REPETITIONS, Ruling, capacity, cost,
        died::{self, Died},
        material::{Flaw, Material, Role},
        measure::Measure,
    },
    statistic::Statistic,
};

/// One system's side of a claim.
#[derive(Clone, Default)]
pub(super) struct Side<'a> {
    /// A value for each repetition; empty where something decides the claim without it.
    pub(super) values: Vec<f64>,
    /// The repetitions that the values come from: one for each, but for those in which the system failed.
    pub(super) from: Vec<&'a PointSummary>,
    /// The repetitions that the claim uses in which the system said to be better failed.
    pub(super) died: Vec<Died>,
    /// The point; empty where several make one value.
    pub(super) point: &'a str,
    /// What a reader must know of the values.
    pub(super) note: Option<String>,
    /// What decides the claim whatever the values are.
    pub(super) ruling: Option<Ruling>,
}

impl<'a> Side<'a> {
    /// A side that has no values.
    pub(super) fn decided(ruling: Ruling) -> Self {
        Self { ruling: Some(ruling), ..Self::default() }
    }

    /// That of values, one for each repetition that was planned, and where each comes from; too few are shown, and judge
    /// nothing.
    pub(super) fn of_values(system: &str, values: Vec<(f64, Option<&'a PointSummary>)>) -> Self {
        let (values, from): (Vec<_>, Vec<_>) = values.into_iter().unzip();
        let from = from.into_iter().flatten().collect();
        let few = values.len() < REPETITIONS;
        let reason = || format!("`{system}` has {} repetitions, and needs {REPETITIONS}", values.len());
        let ruling = few.then(|| Ruling::not_measured(reason()));
        Self { values, from, ruling, ..Self::default() }
    }
}

/// The claim's system, and the one it is compared with if there is one.
pub(super) fn sides<'a>(
    claim: &'a Claim,
    measure: &Measure<'_>,
    material: &Material<'a>,
) -> (Side<'a>, Option<Side<'a>>) {
    let role = if claim.against.is_some() { Role::Better } else { Role::Only };
    let ours = side(measure, material, &claim.system, role);
    let Some(against) = &claim.against else { return (ours, None) };
    let mut theirs = side(measure, material, against, Role::Other);
    if ours.point != theirs.point && ours.ruling.is_none() && theirs.ruling.is_none() {
        let reason = format!("`{}` ran point {}, `{against}` point {}", claim.system, ours.point, theirs.point);
        theirs = Side::decided(Ruling::not_measured(reason));
    }
    (ours, Some(theirs))
}

fn side<'a>(measure: &Measure<'_>, material: &Material<'a>, system: &'a str, role: Role) -> Side<'a> {
    let side = match (measure, role) {
        (Measure::At(statistic, point), _) => at(material, statistic, *point, (system, role)),
        (Measure::Sustained(_), Role::Better) => capacity::sustained(material, measure, system),
        (Measure::Sustained(_), Role::Other | Role::Only) => capacity::limit(material, measure, system),
        (Measure::Cheapest(_), _) => cost::cheapest(material, measure, (system, role)),
    };
    side.unwrap_or_else(Side::decided)
}

fn at<'a>(
    material: &Material<'a>,
    statistic: &Statistic,
    point: Option<&str>,
    (system, role): (&'a str, Role),
) -> Result<Side<'a>, Ruling> {
    let of = material.of(system)?;
    let place = match point {
        Some(point) => of.iter().find(|place| place.point == point),
        None if of.len() == 1 => of.first(),
        None => {
            let reason = format!("`{system}` has several points in this run; the claim is about one");
            return Err(Ruling::not_measured(reason));
        }
    };
    let missing = || format!("`{system}` was not measured at {}", point.unwrap_or_default());
    let place = *place.ok_or_else(|| Ruling::not_measured(missing()))?;
    let (mut values, mut rulings, mut died) = (Vec::new(), Vec::new(), Vec::new());
    for number in material.planned() {
        // Of what claims compare so, less is better: nothing is worse than what never came.
        if let Some(one) = material.died(place, number, role) {
            values.push((f64::INFINITY, None));
            died.push(one);
            continue;
        }
        let (summary, flaw) = material.repetition(place, number, role);
        rulings.extend(flaw.map(Flaw::ruling));
        rulings.extend(summary.filter(|_| statistic.is_of_cold_rows()).and_then(|summary| not_cold(material, summary)));
        match summary.and_then(|summary| Some((summary, statistic.of(summary)?))) {
            Some((summary, value)) => values.push((value, Some(summary))),
            None => rulings.extend(summary.map(|summary| without_value(summary, statistic))),
        }
    }
    rulings.extend(material.mostly_died(system, &died));
    match Ruling::heaviest(rulings) {
        Some(ruling) => Err(ruling),
        None => {
            let note = died::note(system, &died);
            Ok(Side { point: place.point, note, died, ..Side::of_values(system, values) })
        }
    }
}

/// What it means for a statistic of cold rows that there are warm ones as well, which is marked where so much was too much: which
/// rows are cold is chosen by chance then.
fn not_cold(material: &Material<'_>, summary: &PointSummary) -> Option<Ruling> {
    let place = format!("`{}`, {}, repetition {}", summary.system, summary.point, summary.repetition);
    let found = material.verification.failing(Invariant::COLD, summary)?;
    Some(Ruling::not_measured(format!("{place}: {}", found.sentence())))
}

/// What it means that a repetition lacks a statistic. One in which nothing succeeded is invalid.
fn without_value(summary: &PointSummary, statistic: &Statistic) -> Ruling {
    let place = format!("`{}`, {}, repetition {}", summary.system, summary.point, summary.repetition);
    Ruling::not_measured(format!("{place}: {}", statistic.missing))
}
