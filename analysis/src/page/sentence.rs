//! Answers in words, made from the numbers.

use record::{CreationPhase, Spread};

use crate::{
    figure::phases::phase_ms,
    format::{count, number, whole},
    series::Series,
    statistic::Statistic,
};

/// The slowdown of one series; `definition` is `seed` or `artifact`.
pub(super) fn slowdown(series: &Series<'_>, definition: &str) -> Option<String> {
    let p50 = value(series, &format!("slowdown.{definition}.p50"))?;
    let p99 = value(series, &format!("slowdown.{definition}.p99"))?;
    let dropped = value(series, &format!("slowdown.{definition}.p99.drop"))?;
    let functions = series.repetitions.first()?.summary.counts.functions;
    let mut text = format!(
        "{}: half of the {} functions are slowed down at most {} times, 99 % of them at most {} times",
        series.label,
        count(functions),
        number(p50),
        number(p99)
    );
    if number(p99) == number(dropped) {
        text.push_str(", whether failed invocations are penalised or dropped.");
    } else {
        text.push_str(&format!(" with failed invocations penalised, {} times with them dropped.", number(dropped)));
    }
    Some(text)
}

/// The scheduling latency of one series.
pub(super) fn scheduling(series: &Series<'_>) -> Option<String> {
    let [p50, p90, p99] = ["p50", "p90", "p99"].map(|p| value(series, &format!("scheduling.{p}")));
    let count_ok = series.median_of(|result| result.summary.scheduling_ns.map(|spread| spread.count as f64))?;
    Some(format!(
        "{}: of {} ok invocations half spend at most {} ms beyond their own execution, nine in ten at most {} ms, and \
         one in a hundred more than {} ms.",
        series.label,
        whole(count_ok),
        number(p50?),
        number(p90?),
        number(p99?)
    ))
}

/// The phases of one series.
pub(super) fn phases(series: &Series<'_>) -> Option<String> {
    let medians: Vec<(CreationPhase, f64)> = CreationPhase::ALL
        .into_iter()
        .filter_map(|phase| Some((phase, phase_ms(series, phase, |spread: &Spread| spread.p50)?)))
        .collect();
    let of = |wanted: bool| -> f64 {
        medians.iter().filter(|(phase, _)| phase.is_start_of_sandbox() == wanted).map(|(_, ms)| ms).sum()
    };
    let (longest, longest_ms) = medians.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let (start, manager) = (of(true), of(false));
    let share = if start + manager > 0.0 { 100.0 * manager / (start + manager) } else { 0.0 };
    let mut text = format!(
        "{}: by the medians, the sandbox's own start takes {} ms and everything the cluster manager adds {} ms \
         ({} % of both); the longest phase is `{}` with {} ms.",
        series.label,
        number(start),
        number(manager),
        number(share),
        longest.name(),
        number(longest_ms)
    );
    if let Some(found) = series.median_of(|result| {
        let join = result.summary.cold.join.as_ref()?;
        join.residual_own_us.map(|residual| residual.p50 as f64 / 1e3)
    }) {
        text.push_str(&format!(
            " What is left of an invocation's wait, the ways between data plane and control plane, is {} ms in the median.",
            number(found)
        ));
    }
    Some(text)
}

fn value(series: &Series<'_>, id: &str) -> Option<f64> {
    Some(series.shown(Statistic::find(id)?)?.median)
}
