//! CPU time of a system's own processes per cold start, at the point at which it is least.
//!
//! Unlike a rate it does not depend on how many cores the machine has. Each system stands with its cheapest point; one said
//! to be cheaper only with one whose rate it sustained, because what a saturated system leaves undone costs nothing.

use record::PointSummary;
use stats::median;

use crate::{
    format::number,
    judge::{
        Ruling,
        material::{Flaw, Material, Role},
        measure::Measure,
        sides::Side,
    },
    rates::cpu_ms_per_creation,
    series::Series,
};

/// What a point shows.
struct Cost<'a> {
    point: &'a str,
    /// Milliseconds per cold start, of each repetition that has it.
    values: Vec<f64>,
    median: f64,
    /// What keeps the point from being used.
    flaw: Option<Ruling>,
    /// Whether its rate was sustained in every repetition that there is; no, if not in one.
    sustained: Option<bool>,
}

/// A system's side: the values of its cheapest point.
pub(super) fn cheapest<'a>(
    material: &Material<'a>,
    measure: &Measure<'_>,
    (system, role): (&str, Role),
) -> Result<Side<'a>, Ruling> {
    let tried = material.tried(measure, system)?;
    let mut costs: Vec<Cost<'_>> = tried.iter().map(|(_, series)| Cost::of(material, series, role)).collect();
    costs.sort_by(|a, b| a.median.total_cmp(&b.median));
    let counts = |cost: &&Cost<'_>| role == Role::Other || cost.sustained == Some(true);
    // One that is flawed and seems cheaper than the others is not left out: that could flatter ours, and hide what is broken.
    let found = costs.iter().find(counts);
    let Some(cost) = found else { return Err(none_of(&costs, system)) };
    match &cost.flaw {
        Some(flaw) => Err(flaw.clone()),
        None => {
            let (each, point) = (number(cost.median), cost.point);
            let note =
                Some(format!("`{system}` uses least at {point}: {each} ms of CPU time per cold start, in the median."));
            Ok(Side { note, ..Side::of_values(system, cost.values.clone()) })
        }
    }
}

/// Why a system said to be cheaper has no point to stand with.
fn none_of(costs: &[Cost<'_>], system: &str) -> Ruling {
    if let Some(flaw) = Ruling::heaviest(costs.iter().filter_map(|cost| cost.flaw.clone())) {
        return flaw;
    }
    let reason = format!("`{system}` sustained no rate tried in every repetition");
    let failed = costs.iter().any(|cost| cost.sustained == Some(false));
    if failed { Ruling::not_held(reason) } else { Ruling::not_measured(reason) }
}

impl<'a> Cost<'a> {
    fn of(material: &Material<'a>, series: &Series<'a>, role: Role) -> Self {
        let (mut values, mut flaws, mut verdicts) = (Vec::new(), Vec::new(), Vec::new());
        for number in material.planned() {
            let (summary, flaw) = material.repetition(series, number, role);
            flaws.extend(flaw.map(Flaw::ruling));
            verdicts.extend(summary.map(|summary| summary.pace.as_ref()?.sustained.verdict));
            match summary.map(|summary| (summary, cpu_ms_per_creation(summary))) {
                Some((_, Some(value))) => values.push(value),
                Some((summary, None)) => flaws.push(Ruling::not_measured(unknown(summary))),
                None => {}
            }
        }
        let sustained = if verdicts.contains(&Some(false)) {
            Some(false)
        } else {
            let all = !verdicts.is_empty() && verdicts.iter().all(|verdict| *verdict == Some(true));
            all.then_some(true)
        };
        // One without any value comes last.
        let median = median(&values).unwrap_or(f64::INFINITY);
        Self { point: series.point, values, median, flaw: Ruling::heaviest(flaws), sustained }
    }
}

fn unknown(summary: &PointSummary) -> String {
    let PointSummary { system, point, repetition, .. } = summary;
    format!("`{system}`, {point}, repetition {repetition}: its creations or its CPU time are not on record")
}
