//! The live view of a replay: one line that changes on a terminal, one line every ten seconds elsewhere.

use std::{
    io::{IsTerminal, stderr},
    time::Duration,
};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    machine::clock::NANOS_PER_SECOND,
    measure::{summary::time, tally::Tally},
    replay::Replay,
};

/// Interval between updates on a terminal: short enough to look alive, long enough to cost nothing.
const TERMINAL_NS: u64 = 500_000_000;

/// Interval between lines elsewhere.
const PLAIN_NS: u64 = 10 * NANOS_PER_SECOND;

/// The live view, on standard error.
pub(crate) struct View {
    bar: Option<ProgressBar>,
    shown_ns: u64,
    rows_before: u64,
    due: usize,
    due_before: usize,
}

impl View {
    /// A view of a schedule of `scheduled` rows.
    pub(crate) fn new(scheduled: u64) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(scheduled), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{bar:20} {percent:>3} % {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { bar, shown_ns: 0, rows_before: 0, due: 0, due_before: 0 }
    }

    /// Shows the figures so far, if it is time to.
    pub(crate) fn update(&mut self, replay: &Replay, tally: &mut Tally) {
        let now_ns = replay.clock.now_ns();
        let period_ns = if self.bar.is_some() { TERMINAL_NS } else { PLAIN_NS };
        if now_ns < self.shown_ns.saturating_add(period_ns) {
            return;
        }
        let line = self.line(replay, tally, now_ns);
        match &self.bar {
            Some(bar) => {
                bar.set_position(tally.rows);
                bar.set_message(line);
            }
            None => terminal::note!("{line}"),
        }
        (self.shown_ns, self.rows_before, self.due_before) = (now_ns, tally.rows, self.due);
        tally.recent_lag_us.reset();
    }

    /// Takes the view off the terminal.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&mut self, replay: &Replay, tally: &Tally, now_ns: u64) -> String {
        let invocations = &replay.schedule.invocations;
        while invocations.get(self.due).is_some_and(|due| due.due_ns <= now_ns) {
            self.due += 1;
        }
        let gap_ms = (now_ns - self.shown_ns) / 1_000_000;
        let offered = per_second((self.due - self.due_before) as u64, gap_ms);
        let achieved = per_second(tally.rows - self.rows_before, gap_ms);
        let in_flight = (self.due as u64).saturating_sub(tally.rows);
        let at = |q| time(tally.latency_us.value_at_quantile(q).saturating_mul(1000));
        let slowdown = slowdown_p99(&tally.slowdown_percent);
        let measured = if tally.latency_us.is_empty() {
            "nothing measured yet".to_owned()
        } else {
            let (p50, p99) = (at(0.5), at(0.99));
            format!("latency p50 {p50} p99 {p99}, {slowdown}")
        };
        let lag = time(tally.recent_lag_us.value_at_quantile(0.99).saturating_mul(1000));
        let cold = match tally.cold.saturating_mul(100).checked_div(tally.coldness_known) {
            Some(percent) => format!("{percent} % cold"),
            None => "coldness not told".to_owned(),
        };
        let left = Duration::from_secs(replay.schedule.span_ns.saturating_sub(now_ns) / NANOS_PER_SECOND);
        format!(
            "{offered} offered, {achieved} answered, {in_flight} in flight, lag p99 {lag}, {} failed, {cold}, \
             {measured}, {} left",
            tally.failures,
            humantime::format_duration(left)
        )
    }
}

/// A rate; a low one, as of a trace whose functions are called each minute, keeps a digit of its fraction.
fn per_second(count: u64, gap_ms: u64) -> String {
    let tenths = count.saturating_mul(10_000).saturating_add(gap_ms / 2) / gap_ms.max(1);
    if tenths < 100 {
        format!("{}.{}/s", tenths / 10, tenths % 10)
    } else {
        format!("{}/s", tenths.saturating_add(5) / 10)
    }
}

/// The 99th percentile of slowdowns in hundredths; a system may report no execution time to compute any from.
fn slowdown_p99(percent: &Histogram<u64>) -> String {
    if percent.is_empty() {
        return "slowdown unknown".to_owned();
    }
    format!("slowdown p99 {}", hundredths(percent.value_at_quantile(0.99)))
}

/// A number of hundredths, without the digits that say nothing of a large one.
fn hundredths(number: u64) -> String {
    match number {
        ..10_000 => format!("{}.{:02}", number / 100, number % 100),
        _ => (number.saturating_add(50) / 100).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::histogram::latency_histogram;

    #[test]
    fn no_slowdown_is_shown_where_none_can_be_computed() {
        let mut percent = latency_histogram();
        assert_eq!(slowdown_p99(&percent), "slowdown unknown");
        percent.saturating_record(105);
        assert_eq!(slowdown_p99(&percent), "slowdown p99 1.05");
    }

    #[test]
    fn low_rates_keep_their_fraction_and_high_numbers_do_not() {
        let rates = [(0, 500), (1, 10_000), (3, 10_000), (99, 10_000), (100, 10_000), (1_999, 500)];
        let shown = rates.map(|(count, gap_ms)| per_second(count, gap_ms));
        assert_eq!(shown, ["0.0/s", "0.1/s", "0.3/s", "9.9/s", "10/s", "3998/s"]);
        assert_eq!(per_second(1, 0), "1000/s", "no time at all is a millisecond");
        assert_eq!([105, 9_999, 10_000, 6_234_111].map(hundredths), ["1.05", "99.99", "100", "62341"]);
    }
}
