//! Can the numbers be believed: rows accounted for, lateness of the generator, proof of coldness, CPU used.

use std::collections::BTreeMap;

use maud::{Markup, html};
use record::{ColdJoin, PointSummary};

use super::{
    Page, left_out, machine, name,
    text::{not_measured, ticked},
};
use crate::format::{count, duration_ns, number};

pub(super) fn section(page: &Page<'_>) -> Markup {
    let points = &page.summary.points;
    html! {
        section id="validity" {
            h2 { "Can this be believed?" }
            h3 { "Every scheduled row, and how late the load generator was" }
            (rows(points))
            (lag(points))
            (reasons(points))
            (left_out::part(page))
            h3 { "Are the cold starts cold?" }
            (coldness(points))
            (machine::part(page))
            // Of a constant rate, CPU time has a section of its own, by point and not by repetition.
            @if !page.plan.is_at_rate() { h3 { "CPU and memory" } (usage(points)) }
        }
    }
}

fn rows(points: &[PointSummary]) -> Markup {
    let number_or = |value: Option<u64>| value.map_or_else(|| "unknown".to_owned(), count);
    html! {
        div.wide { table.points {
            thead { tr {
                th { "System · point · repetition" } th.n { "Scheduled" } th.n { "Missing" } th.n { "Warm-up" }
                th.n { "Measured" } th { "Outcomes" } th.n { "Offered, 1/s" } th.n { "Achieved, 1/s" }
            } }
            tbody { @for point in points { tr {
                td { (name(point)) }
                td.n { (number_or(point.counts.scheduled)) }
                td.n { (number_or(point.counts.unaccounted)) }
                td.n { (count(point.counts.warmup)) }
                td.n { (count(point.counts.measured)) }
                td { @for (outcome, rows) in &point.counts.outcomes { div { (count(*rows)) " " (outcome) } } }
                td.n { (point.rates.map_or_else(|| "–".to_owned(), |rates| number(rates.offered_per_s))) }
                td.n { (point.rates.map_or_else(|| "–".to_owned(), |rates| number(rates.achieved_per_s))) }
            } } }
        } }
    }
}

fn lag(points: &[PointSummary]) -> Markup {
    html! {
        div.wide { table.points {
            thead { tr {
                th { "System · point · repetition" } th.n { "Lag p50" } th.n { "p99" } th.n { "greatest" }
                th.n { "Reading late, p99" } th.n { "Bound of both p99" } th.n { "Machine's floor" } th.n { "Generator's cores" } th { "Valid" }
            } }
            tbody { @for point in points { tr {
                td { (name(point)) }
                @for value in [point.lag_ns.map(|lag| lag.p50), point.lag_ns.map(|lag| lag.p99), point.lag_ns.map(|lag| lag.max)] {
                    td.n { (value.map_or_else(|| "–".to_owned(), duration_ns)) }
                }
                td.n { (point.validity.reading_p99_ns.map_or_else(|| "unknown".to_owned(), |ns| format!("{} ms", number(ns as f64 / 1e6)))) }
                td.n { (number(point.validity.lag_bound_ns as f64 / 1e6)) " ms" }
                td.n { (point.validity.machine_floor_p99_ns.map_or_else(|| "unknown".to_owned(), |ns| format!("{} ms", number(ns as f64 / 1e6)))) }
                td.n { (point.validity.generator_cores.map_or_else(|| "unknown".to_owned(), number)) }
                td { (valid(point.validity.valid)) }
            } } }
        } }
        p.note {
            "Lag is sent minus due. Its bound is the greater of 1 ms and 2 % of the median latency, the lower one of those of \
             successes and of all that ended. A repetition is invalid when lag's p99 exceeds it, when more than 0.1 % of the rows \
             exceed ten times or one row a hundred times the bound, when the threads that read responses woke later than it at \
             p99, when less than 99.5 % of the measured rows were sent, when nothing succeeded, when a row cannot be true, or \
             when a scheduled row is not on record. The machine's \
             floor is the p99 by which it oversleeps a bare absolute sleep."
        }
    }
}

fn valid(valid: Option<bool>) -> Markup {
    match valid {
        Some(true) => html! { span.mark.good { "valid" } },
        Some(false) => html! { span.mark.bad { "invalid" } },
        None => html! { span.mark.warn { "unknown" } },
    }
}

/// Every reason and note once, with the repetitions that it is about.
fn reasons(points: &[PointSummary]) -> Markup {
    let mut about: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for point in points {
        for said in point.validity.reasons.iter().chain(&point.notes) {
            about.entry(said).or_default().push(name(point));
        }
    }
    html! {
        ul { @for (said, names) in about {
            li {
                (ticked(said)) " "
                span.quiet { @if names.len() == points.len() && names.len() > 1 { "(every repetition)" } @else { "(" (names.join(", ")) ")" } }
            }
        } }
    }
}

fn coldness(points: &[PointSummary]) -> Markup {
    html! {
        div.wide { table.points {
            thead { tr {
                th { "System · point · repetition" } th.n { "Cold rows" } th.n { "of" } th.n { "Creation on record" }
                th.n { "none" } th.n { "Sandbox seen before" } th.n { "Begun earlier" } th.n { "Residual least, ms" }
                th.n { "p50" } th.n { "p99" }
            } }
            tbody { @for point in points { tr {
                td { (name(point)) }
                @match (point.cold.known, &point.cold.join) {
                    (0, _) => td colspan="9" { (not_measured("the system does not say which rows are cold")) }
                    (known, join) => {
                        td.n { (count(point.cold.cold)) }
                        td.n { (count(known)) }
                        @match join {
                            None => td colspan="7" { (not_measured("cold rows cannot be joined to creations")) }
                            Some(join) => (joined(join))
                        }
                    }
                }
            } } }
        } }
        p.note {
            "Cold rows are joined by sandbox to the system's record of creations. Begun earlier: the creation had begun before \
             the row was sent, so that it waited for less than a whole creation. Residual, over the others: the wait for a new \
             sandbox minus the sum of the creation's phases, without " code { "net_dataplane" } ": that one holds the way back of an \
             acknowledgement, which no invocation waits for."
        }
    }
}

fn joined(join: &ColdJoin) -> Markup {
    let residual = join.residual_own_us;
    html! {
        @for rows in [join.joined, join.unjoined, join.repeated, join.begun_earlier] { td.n { (count(rows)) } }
        @for us in [residual.map(|r| r.min), residual.map(|r| r.p50), residual.map(|r| r.p99)] {
            td.n { (us.map_or_else(|| "–".to_owned(), |us| number(us as f64 / 1e3))) }
        }
    }
}

fn usage(points: &[PointSummary]) -> Markup {
    if points.iter().all(|point| point.processes.is_empty()) {
        return html! { p { (not_measured("there is no processes.csv")) } };
    }
    html! {
        div.wide { table.points {
            thead { tr {
                th { "System · point · repetition" } th { "Process" } th.n { "CPU-µs per invocation" } th.n { "CPU, s" }
                th.n { "Memory, MiB" } th.n { "Context switches" }
            } }
            tbody { @for point in points { @for process in &point.processes { tr {
                td { (name(point)) }
                td { (process.process) }
                td.n { (process.cpu_us_per_invocation.map_or_else(|| "–".to_owned(), number)) }
                td.n { (number(process.cpu_us as f64 / 1e6)) }
                td.n { (number(process.rss_bytes as f64 / f64::from(1_u32 << 20))) }
                td.n { (count(process.ctx_switches)) }
            } } } }
        } }
        p.note { "CPU time, user and kernel, from the operating system's accounting over the measured part, divided by measured \
                  invocations sent." }
    }
}
