//! The operands of a claim's comparison: for each system one value per repetition, or what decides the claim without values.

use record::{Invariant, PointSummary};

use crate::{
    claims::Claim,
    evaluate::{
        Conclusion, MIN_REPETITIONS, capacity, cost,
        data::{Flaw, Role, RunData},
        measure::Measure,
        system_failure::{self, SystemFailure},
    },
    statistic::Statistic,
};

/// One system's operand of a claim.
#[derive(Clone, Default)]
pub(super) struct Operand<'a> {
    /// One value per repetition; empty if `conclusion` decides the claim without values.
    pub(super) values: Vec<f64>,
    /// The repetitions that the values come from; a repetition in which the system failed has a value and no summary.
    pub(super) from: Vec<&'a PointSummary>,
    /// The failures of the subject in the repetitions that the claim uses.
    pub(super) failures: Vec<SystemFailure>,
    /// The point; empty if several points make one value.
    pub(super) point: &'a str,
    /// A caveat about the values.
    pub(super) note: Option<String>,
    /// Decides the claim whatever the values are.
    pub(super) conclusion: Option<Conclusion>,
}

impl<'a> Operand<'a> {
    /// An operand without values.
    pub(super) fn decided(conclusion: Conclusion) -> Self {
        Self { conclusion: Some(conclusion), ..Self::default() }
    }

    /// An operand of values, one per planned repetition, and the repetition each comes from. Too few values are reported, and
    /// decide nothing.
    pub(super) fn of_values(system: &str, values: Vec<(f64, Option<&'a PointSummary>)>) -> Self {
        let (values, from): (Vec<_>, Vec<_>) = values.into_iter().unzip();
        let from = from.into_iter().flatten().collect();
        let few = values.len() < MIN_REPETITIONS;
        let reason = || format!("`{system}` has {} repetitions, and needs {MIN_REPETITIONS}", values.len());
        let conclusion = few.then(|| Conclusion::not_measured(reason()));
        Self { values, from, conclusion, ..Self::default() }
    }
}

/// The operand of the claim's subject, and that of its reference if it has one.
pub(super) fn operands<'a>(
    claim: &'a Claim,
    measure: &Measure<'_>,
    data: &RunData<'a>,
) -> (Operand<'a>, Option<Operand<'a>>) {
    let role = if claim.against.is_some() { Role::Subject } else { Role::SoleSubject };
    let subject = operand(measure, data, &claim.system, role);
    let Some(against) = &claim.against else { return (subject, None) };
    let mut reference = operand(measure, data, against, Role::Reference);
    // Systems at different points had different loads.
    if subject.point != reference.point && subject.conclusion.is_none() && reference.conclusion.is_none() {
        let reason = format!("`{}` ran point {}, `{against}` point {}", claim.system, subject.point, reference.point);
        reference = Operand::decided(Conclusion::not_measured(reason));
    }
    (subject, Some(reference))
}

fn operand<'a>(measure: &Measure<'_>, data: &RunData<'a>, system: &'a str, role: Role) -> Operand<'a> {
    let operand = match (measure, role) {
        (Measure::At(statistic, point), _) => at(data, statistic, *point, (system, role)),
        (Measure::Sustained(_), Role::Subject) => capacity::sustained(data, measure, system),
        (Measure::Sustained(_), Role::Reference | Role::SoleSubject) => capacity::limit(data, measure, system),
        (Measure::Cheapest(_), _) => cost::cheapest(data, measure, (system, role)),
    };
    operand.unwrap_or_else(Operand::decided)
}

/// The operand of a statistic at one point.
fn at<'a>(
    data: &RunData<'a>,
    statistic: &Statistic,
    point: Option<&str>,
    (system, role): (&'a str, Role),
) -> Result<Operand<'a>, Conclusion> {
    let of = data.of(system)?;
    let system_point = match point {
        Some(point) => of.iter().find(|one| one.point == point),
        None if of.len() == 1 => of.first(),
        None => {
            let reason = format!("`{system}` has several points in this run; the claim is about one");
            return Err(Conclusion::not_measured(reason));
        }
    };
    let missing = || format!("`{system}` was not measured at {}", point.unwrap_or_default());
    let system_point = *system_point.ok_or_else(|| Conclusion::not_measured(missing()))?;
    let (mut values, mut conclusions, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for number in data.planned() {
        // Of all statistics compared here less is better, so a failure counts as the worst value.
        if let Some(failure) = data.system_failure(system_point, number, role) {
            values.push((f64::INFINITY, None));
            failures.push(failure);
            continue;
        }
        let (summary, flaw) = data.repetition(system_point, number, role);
        conclusions.extend(flaw.map(Flaw::conclusion));
        conclusions.extend(summary.filter(|_| statistic.is_of_cold_rows()).and_then(|summary| not_cold(data, summary)));
        match summary.and_then(|summary| Some((summary, statistic.of(summary)?))) {
            Some((summary, value)) => values.push((value, Some(summary))),
            None => conclusions.extend(summary.map(|summary| without_value(summary, statistic))),
        }
    }
    // Certain: it overrides the conclusions before it.
    conclusions.extend(data.mostly_failed(system, &failures));
    match Conclusion::decisive(conclusions) {
        Some(conclusion) => Err(conclusion),
        None => {
            let note = system_failure::note(system, &failures);
            Ok(Operand { point: system_point.point, note, failures, ..Operand::of_values(system, values) })
        }
    }
}

/// The conclusion from warm rows in a repetition that should have none. At a rate that overloads the system they are only marked,
/// but a statistic of cold rows is not measured there: chance decides which rows are cold.
fn not_cold(data: &RunData<'_>, summary: &PointSummary) -> Option<Conclusion> {
    let repetition = format!("`{}`, {}, repetition {}", summary.system, summary.point, summary.repetition);
    let broken = data.verification.failing(Invariant::COLD, summary)?;
    Some(Conclusion::not_measured(format!("{repetition}: {}", broken.sentence())))
}

/// The conclusion from a repetition that lacks the statistic. A repetition without a success is invalid before it comes to this.
fn without_value(summary: &PointSummary, statistic: &Statistic) -> Conclusion {
    let repetition = format!("`{}`, {}, repetition {}", summary.system, summary.point, summary.repetition);
    Conclusion::not_measured(format!("{repetition}: {}", statistic.missing))
}
