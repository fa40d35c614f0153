//! Loads of a constant rate: each point of each system over its repetitions, and the lines that points make.

mod reasons;

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand_pcg::Pcg64;
use record::{Estimate, Outcome, PointSummary, ProcessCost, ProcessRole, RateCheck, RatePoint, SustainedRateTest};
use stats::{median, median_interval};

use crate::{
    plan::{BURST, Plan, RATE},
    series::{BOOTSTRAP_SEED, CONFIDENCE, Series},
};

/// Repetitions below which an interval would only repeat the least and the greatest.
const MIN_REPETITIONS: usize = 5;

/// Every point of a run whose load has a constant rate: systems in turn within each point, as they were measured.
pub(crate) fn points(plan: Plan<'_>, series: &[Series<'_>]) -> Vec<RatePoint> {
    if !plan.is_at_rate() {
        return Vec::new();
    }
    let mut ordered: Vec<&Series<'_>> = series.iter().collect();
    ordered.sort_by_key(|one| plan.position(one.point));
    ordered.into_iter().map(|one| point(one, plan.values(one.point))).collect()
}

fn point(series: &Series<'_>, values: BTreeMap<String, String>) -> RatePoint {
    let all: Vec<&PointSummary> = series.repetitions.iter().map(|result| &result.summary).collect();
    let over = |value: &dyn Fn(&PointSummary) -> Option<f64>| {
        estimate(&all.iter().filter_map(|summary| value(summary)).collect::<Vec<_>>())
    };
    let ms = |ns: i64| ns as f64 / 1e6;
    let mut failures: BTreeMap<Outcome, u64> = BTreeMap::new();
    let outcomes = all.iter().flat_map(|summary| &summary.counts.outcomes);
    for (outcome, rows) in outcomes.filter(|(outcome, _)| **outcome != Outcome::Ok) {
        *failures.entry(*outcome).or_default() += rows;
    }
    RatePoint {
        system: series.system.to_owned(),
        point: series.point.to_owned(),
        values,
        repetitions: all.len() as u64,
        valid_repetitions: all.iter().filter(|summary| summary.validity.valid == Some(true)).count() as u64,
        offered_per_s: over(&|summary| Some(summary.rates?.offered_per_s)),
        achieved_per_s: over(&|summary| Some(summary.rates?.achieved_per_s)),
        ok_percent: over(&ok_percent),
        failures,
        latency_p50_ms: over(&|summary| Some(ms(summary.latency_ns?.p50))),
        latency_p99_ms: over(&|summary| Some(ms(summary.latency_ns?.p99))),
        latency_p999_ms: over(&|summary| Some(ms(summary.latency_ns?.p999))),
        cold_percent: over(&|summary| Some(100.0 * summary.cold.share?)),
        overhead_percent: over(&|summary| Some(summary.cold.overhead_permille?.p50 as f64 / 10.0)),
        lag_p99_ms: over(&|summary| Some(ms(summary.lag_ns?.p99))),
        slope_upper_percent_per_min: over(&|summary| summary.rate_test.as_ref()?.slope_upper_percent_per_min),
        block_autocorrelation: over(&|summary| summary.rate_test.as_ref()?.block_autocorrelation),
        processes: processes(&all),
        system_cpu_us: over(&system_cpu_us),
        machine_cpu_us: over(&|summary| cpu_us(summary, is_machine)),
        machine_cores: over(&|summary| {
            let sampled_s = summary.rate_test.as_ref()?.sampled_s.filter(|seconds| *seconds > 0.0)?;
            Some(used_us(summary, is_machine)? as f64 / 1e6 / sampled_s)
        }),
        sustained: in_all(&all, |rate_test| &rate_test.sustained),
        at_objective: in_all(&all, |rate_test| &rate_test.at_objective),
    }
}

fn is_machine(process: &str) -> bool {
    ProcessRole::of(process) == ProcessRole::Machine
}

/// Returns true for the name of a process of the system, false for the harness and the machine.
pub(crate) fn is_of_the_system(process: &str) -> bool {
    ProcessRole::of(process) == ProcessRole::System
}

fn estimate(values: &[f64]) -> Option<Estimate> {
    let interval = median_interval(values, CONFIDENCE, &mut Pcg64::seed_from_u64(BOOTSTRAP_SEED));
    Some(Estimate {
        count: values.len() as u64,
        median: median(values)?,
        min: values.iter().copied().reduce(f64::min)?,
        max: values.iter().copied().reduce(f64::max)?,
        interval: interval.filter(|_| values.len() >= MIN_REPETITIONS).map(|interval| (interval.lower, interval.upper)),
    })
}

fn ok_percent(summary: &PointSummary) -> Option<f64> {
    (summary.counts.measured > 0).then(|| 100.0 * summary.counts.ok() as f64 / summary.counts.measured as f64)
}

/// CPU time per operation of the processes of the wanted roles; `None` if there is no such process, or no operation.
fn cpu_us(summary: &PointSummary, wanted: impl Fn(&str) -> bool) -> Option<f64> {
    let operations = summary.rate_test.as_ref()?.operations.filter(|operations| *operations > 0)?;
    Some(used_us(summary, wanted)? as f64 / operations as f64)
}

/// CPU time of the system's own processes per ok response, in microseconds.
pub(crate) fn system_cpu_us(summary: &PointSummary) -> Option<f64> {
    cpu_us(summary, is_of_the_system)
}

/// CPU time of the system's own processes per creation that became ready meanwhile, in milliseconds: its deletion, and
/// whatever else the system does, included. Without end where it is known that none did.
pub(crate) fn cpu_ms_per_creation(summary: &PointSummary) -> Option<f64> {
    ms_per_creation(summary, used_us(summary, is_of_the_system)?)
}

/// The same, at the most that it may be: busy time of the machine that is in no process's row, such as interrupts, counts as its
/// own. `None` also where that is not on record.
pub(crate) fn most_cpu_ms_per_creation(summary: &PointSummary) -> Option<f64> {
    let in_no_row_us = summary.machine.as_ref()?.in_no_row_us?;
    ms_per_creation(summary, used_us(summary, is_of_the_system)?.saturating_add(in_no_row_us))
}

fn ms_per_creation(summary: &PointSummary, used_us: u64) -> Option<f64> {
    let creations = summary.rate_test.as_ref()?.creations?;
    // Infinite rather than unknown: the CPU time was spent, and nothing came of it.
    Some(if creations == 0 { f64::INFINITY } else { used_us as f64 / 1e3 / creations as f64 })
}

/// A lower bound of it. A warm response saves a creation, but costs CPU time itself, which would make the creations
/// look more expensive. If there are warm responses, each response counts as a creation.
pub(crate) fn least_cpu_ms_per_creation(summary: &PointSummary) -> Option<f64> {
    let each = cpu_ms_per_creation(summary)?;
    let rate_test = summary.rate_test.as_ref()?;
    let (creations, answers) = (rate_test.creations? as f64, rate_test.operations.unwrap_or(0) as f64);
    let is_mixed = summary.cold.known > summary.cold.cold;
    Some(if is_mixed && answers > creations { each * creations / answers } else { each })
}

/// CPU time of the processes of the wanted roles, in microseconds; `None` if there is no such process.
fn used_us(summary: &PointSummary, wanted: impl Fn(&str) -> bool) -> Option<u64> {
    let mut used = summary.processes.iter().filter(|process| wanted(&role(&process.process))).peekable();
    used.peek()?;
    Some(used.map(|process| process.cpu_us).sum())
}

/// The processes of every role, without the whole machine.
fn processes(all: &[&PointSummary]) -> Vec<ProcessCost> {
    let mut roles: Vec<String> = Vec::new();
    for process in all.iter().flat_map(|summary| &summary.processes) {
        let role = role(&process.process);
        if !is_machine(&role) && !roles.contains(&role) {
            roles.push(role);
        }
    }
    let cost = |process: String| {
        let values: Vec<f64> = all.iter().filter_map(|summary| cpu_us(summary, |role| role == process)).collect();
        Some(ProcessCost { cpu_us: estimate(&values)?, process })
    };
    roles.into_iter().filter_map(cost).collect()
}

/// Role of a process: its name without the number among its equals.
fn role(process: &str) -> String {
    let (name, rest) = process.split_once(' ').map_or((process, None), |(name, rest)| (name, Some(rest)));
    let numbered = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
    // `worker-1 sandboxes` is numbered within its name, not at its end.
    let base = name.rsplit_once('-').filter(|(_, number)| numbered(number)).map_or(name, |(base, _)| base);
    rest.map_or_else(|| base.to_owned(), |rest| format!("{base} {rest}"))
}

/// The processes of several points, each once, in the order in which they come.
pub(crate) fn roles<'a>(points: impl Iterator<Item = &'a [ProcessCost]>) -> Vec<&'a str> {
    let mut roles: Vec<&str> = Vec::new();
    for process in points.flatten() {
        if !roles.contains(&process.process.as_str()) {
            roles.push(&process.process);
        }
    }
    roles
}

/// CPU time of a process per operation of a point; `None` if it did not run there.
pub(crate) fn cost_of(processes: &[ProcessCost], role: &str) -> Option<Estimate> {
    processes.iter().find(|process| process.process == role).map(|process| process.cpu_us)
}

/// A check over repetitions: false if it is false in one, true if it is true in all.
fn in_all(all: &[&PointSummary], of: impl Fn(&SustainedRateTest) -> &RateCheck) -> RateCheck {
    let checks: Vec<&RateCheck> = all.iter().filter_map(|summary| summary.rate_test.as_ref()).map(of).collect();
    // One repetition that fails decides; all must be judged before the point is sustained.
    let holds = if checks.iter().any(|one| one.holds == Some(false)) {
        Some(false)
    } else if !checks.is_empty() && checks.len() == all.len() && checks.iter().all(|one| one.holds == Some(true)) {
        Some(true)
    } else {
        None
    };
    let reasons = checks.iter().filter(|one| one.holds == holds).flat_map(|one| &one.reasons);
    let reasons = reasons::together(reasons, all.len());
    RateCheck { holds, reasons }
}

/// Points that differ only in their rate, or in the size of their bursts: a line in a figure, a sentence on the page.
#[derive(Clone, Debug)]
pub(crate) struct Line<'a> {
    /// The system, and what else makes these points different.
    pub(crate) label: String,
    /// In ascending order of their offered rate; each has one.
    pub(crate) points: Vec<&'a RatePoint>,
}

impl<'a> Line<'a> {
    /// The highest rate that was measured well and not found too high, or the lowest when there is none.
    pub(crate) fn highest_kept_up(&self) -> Option<&'a RatePoint> {
        let kept = self.points.iter().rev().find(|point| is_kept_up(point));
        kept.or(self.points.first()).copied()
    }
}

/// All lines, in the order in which their first points are.
pub(crate) fn lines(points: &[RatePoint]) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for point in points.iter().filter(|point| point.offered_per_s.is_some()) {
        let label = label(point);
        match lines.iter_mut().find(|line| line.label == label) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { label, points: vec![point] }),
        }
    }
    for line in &mut lines {
        line.points.sort_by(|a, b| offered(a).total_cmp(&offered(b)));
    }
    lines
}

/// Returns true if all repetitions are valid and none of them failed the sustained-rate test.
pub(crate) fn is_kept_up(point: &RatePoint) -> bool {
    point.sustained.holds != Some(false) && point.valid_repetitions == point.repetitions
}

/// Offered rate, per second; 0 when nothing was measured.
pub(crate) fn offered(point: &RatePoint) -> f64 {
    point.offered_per_s.map_or(0.0, |rate| rate.median)
}

fn label(point: &RatePoint) -> String {
    let others = point.values.iter().filter(|(key, _)| ![RATE, BURST].contains(&key.as_str()));
    others.fold(point.system.clone(), |label, (key, value)| {
        let name = key.rsplit('.').next().unwrap_or(key).replace('_', " ");
        // A count precedes its unit: 64 connections, but delay 40ms.
        let counts = value.bytes().all(|byte| byte.is_ascii_digit());
        if counts { format!("{label}, {value} {name}") } else { format!("{label}, {name} {value}") }
    })
}

#[cfg(test)]
mod tests;
