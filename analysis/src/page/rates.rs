//! Loads of a constant rate: latency and CPU time against the rate, and a table with every point.

use std::collections::BTreeMap;

use maud::{Markup, html};
use record::{Estimate, RateCheck, RatePoint};

use super::{
    Page, answers, rate_sentence,
    text::{not_measured, ticked},
};
use crate::{
    FigureName,
    format::{count, number},
    rates::{self, Line},
};

pub(super) fn sections(page: &Page<'_>) -> Markup {
    let lines = rates::lines(&page.summary.rates);
    let cold = page.plan.is_cold();
    let mut cost: Vec<String> = lines.iter().filter_map(|line| rate_sentence::cost(line, cold)).collect();
    cost.extend(rate_sentence::comparisons(&lines));
    html! {
        @if page.plan.is_in_bursts() { (bursts(page, &lines)) } @else { (at_rates(page, &lines)) }
        section id="cpu" {
            h2 { "What does an invocation cost in CPU time?" }
            (sentences(&cost, "no repetition has both CPU times and ok responses"))
            (answers::figure(page, FigureName::Cpu,
                "CPU time per ok response, user and kernel, by process: the operating system's accounting between two samples at the \
                 ends of the measured window over the ok responses between them; median over repetitions. Cold starts include the \
                 deletion of their sandboxes. The whole machine, with interrupts and whatever else ran, is in the table."))
            (costs(&page.summary.rates))
        }
    }
}

/// So many at once: what of their latency is the cluster manager's.
fn bursts(page: &Page<'_>, lines: &[Line<'_>]) -> Markup {
    let shares: Vec<String> = lines.iter().flat_map(rate_sentence::overhead).collect();
    html! {
        section id="overhead" {
            h2 { "What share of a cold start is the cluster manager's?" }
            (sentences(&shares, "no cold start of a burst succeeded"))
            (answers::figure(page, FigureName::Overhead,
                "The cluster manager's share of a cold start: 1 − the time that a sandbox is modelled to take / end-to-end latency \
                 without execution. Median over the cold starts of a point, then over repetitions. The modelled time is the same \
                 constant for every system; what a system adds to it before, after or around is its own."))
            (overhead_table(&page.summary.rates))
        }
    }
}

fn overhead_table(points: &[RatePoint]) -> Markup {
    html! {
        div.wide { table.points {
            thead { tr {
                th { "System · point" } th.n { "Cluster manager, %" } th.n { "p50, ms" } th.n { "p99, ms" } th.n { "ok, %" }
                th.n { "Cold, %" } th { "Valid" }
            } }
            tbody { @for point in points { tr {
                td { (point.system) br; (point.point) }
                (cell(point.overhead_percent)) (cell(point.latency_p50_ms)) (cell(point.latency_p99_ms))
                (plain(point.ok_percent)) (plain(point.cold_percent))
                td { (point.valid_repetitions) " of " (point.repetitions) }
            } } }
        } }
        p.note { (spread_note(points)) }
    }
}

/// Rates: which are kept up, at what latency.
fn at_rates(page: &Page<'_>, lines: &[Line<'_>]) -> Markup {
    let cold = page.plan.is_cold();
    let rate_test: Vec<String> = lines.iter().filter_map(|line| rate_sentence::rate_test(line, cold)).collect();
    let question = if cold {
        "How many cold starts per second are sustained, and at what latency?"
    } else {
        "At which rates of warm invocations does the system keep up, and at what latency?"
    };
    html! {
        section id="rates" {
            h2 { (question) }
            (sentences(&rate_test, "no repetition has an ok response"))
            (answers::figure(page, FigureName::Latency,
                "Latency of ok invocations against the offered rate, both axes logarithmic: from the instant an invocation was \
                 due to its complete response. Circles and line: median. Triangles and the band below them: 99th percentile. Each \
                 is the median over repetitions."))
            (table(&page.summary.rates))
            p.note {
                "Sustained: at least 95 % of the offered rate was achieved, fewer than 1 % failed, the repetition is valid, and the \
                 upper 95 % bound of the latency's slope stays below 5 % of the median per minute, over windows of at least 60 s \
                 and 100 rows, in every repetition. The slope is that of Theil and Sen over means of blocks of rows; its bound allows for \
                 blocks that depend on each other by their autocorrelation φ. At objective: also a 99th percentile of at most 1 s with failures penalised. "
                "Cores: those of the machine that were in use, load generator included. "
                (spread_note(&page.summary.rates))
            }
            (reasons(&page.summary.rates))
        }
    }
}

fn sentences(sentences: &[String], reason: &str) -> Markup {
    html! {
        @for text in sentences { p.answer { (ticked(text)) } }
        @if sentences.is_empty() { p.answer { (not_measured(reason)) } }
    }
}

fn spread_note(points: &[RatePoint]) -> &'static str {
    let most = points.iter().map(|point| point.repetitions).max().unwrap_or(0);
    match most {
        0 | 1 => "One repetition: nothing is known about spread.",
        2..=4 => "Median over repetitions, below it the least and the greatest.",
        _ => {
            "Median over repetitions, below it the least and the greatest, and in brackets the 95 % bootstrap interval."
        }
    }
}

fn cell(estimate: Option<Estimate>) -> Markup {
    let Some(found) = estimate else { return html! { td.n.quiet { "–" } } };
    let narrower = found.interval.filter(|(lower, upper)| *lower > found.min || *upper < found.max);
    html! {
        td.n {
            (number(found.median))
            @if found.count > 1 { br; span.note { (number(found.min)) " to " (number(found.max)) } }
            @if let Some((lower, upper)) = narrower { br; span.note { "[" (number(lower)) ", " (number(upper)) "]" } }
        }
    }
}

/// A number whose spread over repetitions says nothing that its neighbours do not.
fn plain(estimate: Option<Estimate>) -> Markup {
    html! { td.n { (estimate.map_or_else(|| "–".to_owned(), |found| number(found.median))) } }
}

fn table(points: &[RatePoint]) -> Markup {
    html! {
        div.wide { table.points {
            thead { tr {
                th { "System · point" } th.n { "Offered /s" } th.n { "Achieved /s" } th.n { "ok, %" }
                th.n { "p50, ms" } th.n { "p99, ms" } th.n { "p99.9, ms" } th.n { "Cold, %" } th.n { "Lag p99, ms" }
                th.n { "Slope's bound, %/min" } th.n { "Cores" } th { "Sustained" }
            } }
            tbody { @for point in points { tr {
                td { (point.system) br; (point.point) }
                (plain(point.offered_per_s)) (cell(point.achieved_per_s))
                td.n {
                    (point.ok_percent.map_or_else(|| "–".to_owned(), |found| number(found.median)))
                    @for (outcome, rows) in &point.failures { br; span.note { (count(*rows)) " " (outcome) } }
                }
                (cell(point.latency_p50_ms)) (cell(point.latency_p99_ms)) (cell(point.latency_p999_ms))
                (plain(point.cold_percent)) (plain(point.lag_p99_ms))
                td.n {
                    (point.slope_upper_percent_per_min.map_or_else(|| "–".to_owned(), |found| number(found.median)))
                    @if let Some(phi) = point.block_autocorrelation { br; span.note { "φ " (format!("{:.2}", phi.median)) } }
                }
                (cell(point.machine_cores))
                td { (check_cell(&point.sustained)) br; span.note { (small_print(point)) } }
            } } }
        } }
    }
}

/// Small print of a test's result: the number of repetitions, and the result at the objective.
fn small_print(point: &RatePoint) -> String {
    let objective = word(point.at_objective.holds);
    format!("{} of {} valid; at objective: {objective}", point.valid_repetitions, point.repetitions)
}

fn word(holds: Option<bool>) -> &'static str {
    match holds {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not judged",
    }
}

fn check_cell(check: &RateCheck) -> Markup {
    let class = match check.holds {
        Some(true) => "mark good",
        Some(false) => "mark bad",
        None => "mark quiet",
    };
    html! { span class=(class) { (word(check.holds)) } }
}

/// Every reason once, with the points that it is about.
fn reasons(points: &[RatePoint]) -> Markup {
    let mut about: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for point in points {
        for reason in &point.sustained.reasons {
            about.entry(reason).or_default().push(format!("{} · {}", point.system, point.point));
        }
    }
    html! {
        @if !about.is_empty() {
            details {
                summary { "Why points are not called sustained" }
                ul { @for (reason, names) in about { li { (reason) " " span.quiet { "(" (names.join(", ")) ")" } } } }
            }
        }
    }
}

fn costs(points: &[RatePoint]) -> Markup {
    let roles = rates::roles(points.iter().map(|point| &point.processes[..]));
    if roles.is_empty() {
        return html! {};
    }
    html! {
        div.wide { table.points {
            thead { tr {
                th { "CPU-µs per operation" }
                @for role in &roles { th.n { (role) } }
                th.n { "System" } th.n { "Whole machine" }
            } }
            tbody { @for point in points { tr {
                td { (point.system) " · " (point.point) }
                @for role in &roles { (cell(rates::cost_of(&point.processes, role))) }
                (cell(point.system_cpu_us)) (cell(point.machine_cpu_us))
            } } }
        } }
    }
}
