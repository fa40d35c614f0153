//! CPU time of a system's own processes per cold start, at the point at which it is least.
//!
//! It depends less than a rate on how many cores the machine has. Each system stands with its cheapest point; one said
//! to be cheaper only with one whose rate it sustained, because what a saturated system leaves undone costs nothing, and with all
//! that the machine did in no process's row, such as interrupts, most of which it causes. Of the other system only its rows count.
//! A kernel that charges processes with interrupts has some of them there: that much its least may be too great.

use record::PointSummary;
use stats::median;

use crate::{
    format::number,
    judge::{
        Ruling,
        died::{self, Died},
        material::{Flaw, Material, Place, Role},
        measure::Measure,
        sides::Side,
    },
    rates::{cpu_ms_per_creation, least_cpu_ms_per_creation, most_cpu_ms_per_creation},
};

/// What a point shows.
struct Cost<'a> {
    point: &'a str,
    /// Milliseconds per cold start, of each repetition that has it.
    values: Vec<(f64, &'a PointSummary)>,
    /// Their median, where each planned repetition has one: of fewer it could be any.
    median: Option<f64>,
    /// The repetitions in which the system said to be better failed there: where there is any it was not sustained in all, whatever
    /// else there is.
    died: Vec<Died>,
    /// What keeps the point from being used.
    flaw: Option<Ruling>,
    /// Whether a planned repetition has no rows.
    incomplete: bool,
    /// Whether its rate was sustained in every repetition that there is; no, if not in one.
    sustained: Option<bool>,
}

/// A system's side: the values of its cheapest point.
pub(super) fn cheapest<'a>(
    material: &Material<'a>,
    measure: &Measure<'_>,
    (system, role): (&'a str, Role),
) -> Result<Side<'a>, Ruling> {
    let tried = material.tried(measure, system)?;
    let costs: Vec<Cost<'_>> = tried.into_iter().map(|(_, place)| Cost::of(material, place, role)).collect();
    // One of which it is not known what it costs could be the cheapest.
    let unknown = costs.iter().filter(|cost| cost.is_unknown(role)).map(|cost| cost.flaw.clone());
    if let Some(flaw) = Ruling::heaviest(unknown.flatten()) {
        return Err(flaw);
    }
    let counts = |cost: &&Cost<'_>| role != Role::Better || cost.sustained == Some(true);
    // One that is flawed and seems cheaper than the others is not left out: that could flatter ours, and hide what is broken.
    let known = costs.iter().filter(counts).filter_map(|cost| Some((cost.median?, cost)));
    let Some((median, cost)) = known.min_by(|(a, _), (b, _)| a.total_cmp(b)) else {
        return Err(none_of(&costs, system));
    };
    match &cost.flaw {
        Some(flaw) => Err(flaw.clone()),
        None if median.is_infinite() => Err(Ruling::not_measured(format!("`{system}` created nothing at any point"))),
        None => {
            let (each, point) = (number(median), cost.point);
            let values = cost.values.iter().map(|(value, summary)| (*value, Some(*summary))).collect();
            let with = if role == Role::Better { in_no_row(&cost.values) } else { String::new() };
            // The cheapest was looked for among all: had it lived at another one, that might be it.
            let died: Vec<Died> = costs.iter().flat_map(|cost| &cost.died).cloned().collect();
            let failed = died::note(system, &died).map_or_else(String::new, |note| format!(" {note}"));
            let note = format!(
                "`{system}` uses least at {point}: {each} ms of CPU time per cold start, in the median.{with}{failed}"
            );
            Ok(Side { note: Some(note), died, ..Side::of_values(system, values) })
        }
    }
}

/// How much of each value is what no process was seen to use, from the least to the greatest; nothing where that is nothing.
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

/// Why a system said to be cheaper has no point to stand with.
fn none_of(costs: &[Cost<'_>], system: &str) -> Ruling {
    let reason = format!("`{system}` sustained no rate tried in every repetition");
    if costs.iter().all(|cost| !cost.died.is_empty()) {
        return Ruling::certainly_not_held(reason);
    }
    if let Some(flaw) = Ruling::heaviest(costs.iter().filter_map(|cost| cost.flaw.clone())) {
        return flaw;
    }
    let failed = costs.iter().any(|cost| cost.sustained == Some(false));
    if failed { Ruling::not_held(reason) } else { Ruling::not_measured(reason) }
}

impl<'a> Cost<'a> {
    fn of(material: &Material<'a>, place: Place<'a>, role: Role) -> Self {
        let (mut values, mut flaws, mut verdicts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut planned, mut incomplete) = (0, false);
        let cost = if role == Role::Better { most_cpu_ms_per_creation } else { least_cpu_ms_per_creation };
        let mut died = Vec::new();
        for number in material.planned() {
            planned += 1;
            if let Some(one) = material.died(place, number, role) {
                died.push(one);
                continue;
            }
            let (summary, flaw) = material.repetition(place, number, role);
            incomplete |= summary.is_none();
            // What the system compared with used up to its end may seem dear: it is not known what it costs.
            let ended = matches!(flaw, Some(Flaw::Ended(_)));
            flaws.extend(flaw.map(Flaw::ruling));
            verdicts.extend(summary.map(|summary| material.sustained(summary, role).0));
            match summary.filter(|_| !ended).map(|summary| (summary, cost(summary))) {
                Some((summary, Some(value))) => values.push((value, summary)),
                Some((summary, None)) => flaws.push(Ruling::not_measured(unknown(summary))),
                None => {}
            }
        }
        let sustained = if !died.is_empty() || verdicts.contains(&Some(false)) {
            Some(false)
        } else {
            let all = !verdicts.is_empty() && verdicts.iter().all(|verdict| *verdict == Some(true));
            all.then_some(true)
        };
        let each: Vec<f64> = values.iter().map(|(value, _)| *value).collect();
        let median = median(&each).filter(|_| each.len() == planned);
        let flaw = Ruling::heaviest(flaws).filter(|_| died.is_empty());
        Self { point: place.point, values, median, died, flaw, incomplete, sustained }
    }

    /// Whether it could be the cheapest point to stand with, and is not known to be.
    fn is_unknown(&self, role: Role) -> bool {
        let may_stand = match role {
            Role::Other | Role::Only => true,
            Role::Better => self.sustained == Some(true) || (self.incomplete && self.sustained.is_none()),
        };
        may_stand && self.median.is_none()
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
