//! CPU time of a system's own processes per cold start, at the point at which it is least.
//!
//! It depends less than a rate on the number of cores of the machine. Each system is represented by its cheapest point.
//! The subject must have sustained the rate of that point, because the work that a saturated system leaves undone costs
//! nothing, and is charged with all CPU time that is in no process's row, such as interrupts, most of which it causes.
//! The reference is charged with the rows of its processes only; a kernel that accounts interrupts to processes
//! includes some there.

use record::PointSummary;
use stats::median;

use crate::{
    evaluate::{
        Conclusion,
        data::{Flaw, Role, RunData, SystemPoint},
        measure::Measure,
        operands::Operand,
        system_failure::{self, SystemFailure},
    },
    format::number,
    rates::{cpu_ms_per_creation, least_cpu_ms_per_creation, most_cpu_ms_per_creation},
};

/// The cost of cold starts at one point.
struct Cost<'a> {
    point: &'a str,
    /// Milliseconds per cold start, of each repetition in which it is known.
    values: Vec<(f64, &'a PointSummary)>,
    /// Median of `values`; `None` if a planned repetition has none, because that one could move it anywhere.
    median: Option<f64>,
    /// The failures of the subject at this point: with any of them its rate was not sustained in all repetitions.
    failures: Vec<SystemFailure>,
    /// The reason why the point must not be used.
    flaw: Option<Conclusion>,
    /// True if a planned repetition has no rows.
    incomplete: bool,
    /// True if the rate was sustained in every repetition with rows, false if not in one of them.
    sustained: Option<bool>,
}

/// A system's operand: the values of its cheapest point.
pub(super) fn cheapest<'a>(
    data: &RunData<'a>,
    measure: &Measure<'_>,
    (system, role): (&'a str, Role),
) -> Result<Operand<'a>, Conclusion> {
    let tried = data.tried(measure, system)?;
    let costs: Vec<Cost<'_>> = tried.into_iter().map(|(_, system_point)| Cost::of(data, system_point, role)).collect();
    // A point of unknown cost could be the cheapest.
    let unknown = costs.iter().filter(|cost| cost.is_unknown(role)).map(|cost| cost.flaw.clone());
    if let Some(flaw) = Conclusion::decisive(unknown.flatten()) {
        return Err(flaw);
    }
    let counts = |cost: &&Cost<'_>| role != Role::Subject || cost.sustained == Some(true);
    // A flawed point that appears cheapest is not skipped: that could favour the subject, and hide a broken invariant.
    let known = costs.iter().filter(counts).filter_map(|cost| Some((cost.median?, cost)));
    let Some((median, cost)) = known.min_by(|(a, _), (b, _)| a.total_cmp(b)) else {
        return Err(none_of(&costs, system));
    };
    match &cost.flaw {
        Some(flaw) => Err(flaw.clone()),
        None if median.is_infinite() => {
            Err(Conclusion::not_measured(format!("`{system}` created nothing at any point")))
        }
        None => {
            let (each, point) = (number(median), cost.point);
            let values = cost.values.iter().map(|(value, summary)| (*value, Some(*summary))).collect();
            let with = if role == Role::Subject { in_no_row(&cost.values) } else { String::new() };
            // A failure at any point counts: had the system survived there, that point might have been the cheapest.
            let failures: Vec<SystemFailure> = costs.iter().flat_map(|cost| &cost.failures).cloned().collect();
            let failed = system_failure::note(system, &failures).map_or_else(String::new, |note| format!(" {note}"));
            let note = format!(
                "`{system}` uses least at {point}: {each} ms of CPU time per cold start, in the median.{with}{failed}"
            );
            Ok(Operand { note: Some(note), failures, ..Operand::of_values(system, values) })
        }
    }
}

/// A note on the part of each value that is in no process's row, from the least to the greatest; empty if there is none.
fn in_no_row(values: &[(f64, &PointSummary)]) -> String {
    let part = |(value, summary): &(f64, &PointSummary)| Some(value - cpu_ms_per_creation(summary)?);
    let parts: Vec<f64> = values.iter().filter_map(part).collect();
    let (least, most) =
        parts.iter().fold((f64::INFINITY, 0.0), |(least, most), part| (part.min(least), part.max(most)));
    if most > 0.0 {
        let (least, most) = (number(least), number(most));
        format!(" Of each value, {least} to {most} ms are in no process's row (interrupts, and what else ran).")
    } else {
        String::new()
    }
}

/// The conclusion if the subject has no point to compare.
fn none_of(costs: &[Cost<'_>], system: &str) -> Conclusion {
    let reason = format!("`{system}` sustained no rate tried in every repetition");
    if costs.iter().all(|cost| !cost.failures.is_empty()) {
        return Conclusion::certainly_not_held(reason);
    }
    if let Some(flaw) = Conclusion::decisive(costs.iter().filter_map(|cost| cost.flaw.clone())) {
        return flaw;
    }
    let failed = costs.iter().any(|cost| cost.sustained == Some(false));
    if failed { Conclusion::not_held(reason) } else { Conclusion::not_measured(reason) }
}

impl<'a> Cost<'a> {
    fn of(data: &RunData<'a>, system_point: SystemPoint<'a>, role: Role) -> Self {
        let (mut values, mut flaws, mut sustained) = (Vec::new(), Vec::new(), Vec::new());
        let (mut planned, mut incomplete) = (0, false);
        let cost = if role == Role::Subject { most_cpu_ms_per_creation } else { least_cpu_ms_per_creation };
        let mut failures = Vec::new();
        for number in data.planned() {
            planned += 1;
            if let Some(failure) = data.system_failure(system_point, number, role) {
                failures.push(failure);
                continue;
            }
            let (summary, flaw) = data.repetition(system_point, number, role);
            incomplete |= summary.is_none();
            // The CPU time up to a crash of the reference may look expensive, and is no measure of its cost.
            let ended = matches!(flaw, Some(Flaw::Ended(_)));
            flaws.extend(flaw.map(Flaw::conclusion));
            sustained.extend(summary.map(|summary| data.sustained(summary, role).0));
            match summary.filter(|_| !ended).map(|summary| (summary, cost(summary))) {
                Some((summary, Some(value))) => values.push((value, summary)),
                Some((summary, None)) => flaws.push(Conclusion::not_measured(unknown(summary))),
                None => {}
            }
        }
        let sustained = if !failures.is_empty() || sustained.contains(&Some(false)) {
            Some(false)
        } else {
            let in_all = !sustained.is_empty() && sustained.iter().all(|one| *one == Some(true));
            in_all.then_some(true)
        };
        let each: Vec<f64> = values.iter().map(|(value, _)| *value).collect();
        // A missing repetition could be the one that moves the median.
        let median = median(&each).filter(|_| each.len() == planned);
        // A failure is already the worst result, which a flaw elsewhere must not hide.
        let flaw = Conclusion::decisive(flaws).filter(|_| failures.is_empty());
        Self { point: system_point.point, values, median, failures, flaw, incomplete, sustained }
    }

    /// Returns true if the point may be compared, and its cost is not known.
    fn is_unknown(&self, role: Role) -> bool {
        let may_be_compared = match role {
            Role::Reference | Role::SoleSubject => true,
            Role::Subject => self.sustained == Some(true) || (self.incomplete && self.sustained.is_none()),
        };
        may_be_compared && self.median.is_none()
    }
}

fn unknown(summary: &PointSummary) -> String {
    let PointSummary { system, point, repetition, .. } = summary;
    let what = match cpu_ms_per_creation(summary) {
        Some(_) => "how the machine spent its time is",
        None => "its creations or its CPU time are",
    };
    format!("`{system}`, {point}, repetition {repetition}: {what} not on record")
}
