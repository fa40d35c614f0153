//! Sentences about the points of one line.

use record::{Estimate, RatePoint};

use crate::{
    format::{self, number},
    plan::BURST,
    rates::{self, Line},
};

/// The highest rate that was kept up with its latency, and the result of the next higher one.
pub(super) fn rate_test(line: &Line<'_>, cold: bool) -> Option<String> {
    let point = line.highest_kept_up()?;
    let what = what(cold);
    let rate = format::rate(rates::offered(point));
    let (p50, p99) = (median(point.latency_p50_ms)?, median(point.latency_p99_ms)?);
    let latency = format!("half of them take at most {} ms and 99 % at most {} ms", number(p50), number(p99));
    let label = &line.label;
    let reasons = point.sustained.reasons.join("; ");
    let mut text = match point.sustained.holds {
        Some(true) => {
            format!(
                "{label}: of the rates tried, {rate} {what} per second is the highest that is sustained; there {latency}."
            )
        }
        Some(false) => {
            format!("{label}: not even {rate} {what} per second, the lowest rate tried, are sustained: {reasons}.")
        }
        None => format!(
            "{label}: of {rate} {what} offered per second {} are achieved; {latency}. That is not called sustained: {reasons}.",
            median(point.achieved_per_s).map_or_else(|| "–".to_owned(), format::rate)
        ),
    };
    let next = line.points.iter().find(|next| rates::offered(next) > rates::offered(point));
    if let Some(next) = next.filter(|_| rates::is_kept_up(point)) {
        let (rate, why) = (format::rate(rates::offered(next)), next.sustained.reasons.join("; "));
        match next.sustained.holds {
            Some(false) => text.push_str(&format!(" At {rate} per second it does not keep up: {why}.")),
            _ => text.push_str(&format!(" At {rate} per second nothing is known: {why}.")),
        }
    }
    Some(text)
}

/// The cluster manager's share of a cold start at each size of a burst.
pub(super) fn overhead(line: &Line<'_>) -> Option<String> {
    let share = |point: &&RatePoint| {
        let (size, share) = (point.values.get(BURST)?, point.overhead_percent?.median);
        Some(format!("{} % of {size} at once", number(share)))
    };
    let shares: Vec<String> = line.points.iter().copied().filter_map(|point| share(&point)).collect();
    (!shares.is_empty()).then(|| format!("{}: the cluster manager's share is {}.", line.label, shares.join(", ")))
}

/// CPU time per operation at the highest rate that the line kept up.
pub(super) fn cost(line: &Line<'_>, cold: bool) -> Option<String> {
    let point = line.highest_kept_up()?;
    let (system, machine) = (median(point.system_cpu_us)?, median(point.machine_cpu_us)?);
    let parts: Vec<String> =
        of_the_system(point).map(|process| format!("{} {}", process.process, number(process.cpu_us.median))).collect();
    Some(format!(
        "{}: at {} {} per second each costs {} CPU-µs in the system's own processes ({}) and {} on the whole machine.",
        line.label,
        format::rate(rates::offered(point)),
        what(cold),
        number(system),
        parts.join(", "),
        number(machine)
    ))
}

/// Two systems at the same points, compared at the highest rate that both kept up.
pub(super) fn comparisons(lines: &[Line<'_>]) -> Vec<String> {
    let pairs =
        lines.iter().enumerate().flat_map(|(place, one)| lines[place + 1..].iter().map(move |other| (one, other)));
    pairs.filter_map(|(one, other)| pair(one, other)).collect()
}

fn pair(one: &Line<'_>, other: &Line<'_>) -> Option<String> {
    let same = |name: &str| other.points.iter().copied().find(|point| point.point == name && rates::is_kept_up(point));
    let kept = one.points.iter().copied().filter(|point| rates::is_kept_up(point));
    let (a, b) = kept.rev().find_map(|point| Some((point, same(&point.point)?)))?;
    let cell = |estimate: Option<Estimate>| Some(number(median(estimate)?));
    Some(format!(
        "{} compared with {} at point {}: {} and {} ms in the median, {} and {} CPU-µs in the systems' own processes.",
        a.system,
        b.system,
        a.point,
        cell(a.latency_p50_ms)?,
        cell(b.latency_p50_ms)?,
        cell(a.system_cpu_us)?,
        cell(b.system_cpu_us)?
    ))
}

fn of_the_system(point: &RatePoint) -> impl Iterator<Item = &record::ProcessCost> {
    point.processes.iter().filter(|process| rates::is_of_the_system(&process.process))
}

fn what(cold: bool) -> &'static str {
    if cold { "cold starts" } else { "invocations" }
}

fn median(estimate: Option<Estimate>) -> Option<f64> {
    estimate.map(|estimate| estimate.median)
}
