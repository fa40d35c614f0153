//! How the numbers were made, and what differs from the published set-up.

use std::collections::BTreeSet;

use maud::{Markup, html};
use record::PointSummary;

use super::{Page, setup, text::ticked};
use crate::format::{count, duration_ns};

/// The definitions that every reader needs, in words.
const METHOD: [&str; 6] = [
    "Open load: each invocation is sent at its own instant, without waiting for earlier answers. Latency is done minus due, \
     so a late send counts against the system, and the run is invalid when sends are late.",
    "`seed`: per function, arithmetic mean over invocations of end-to-end / execution time reported. `artifact`: per function, \
     geometric mean of end-to-end / requested time, ratios below 1 dropped, time-outs kept. `mean-kept`: per function, \
     arithmetic mean of end-to-end / requested time, time-outs and functions invoked once dropped. `tail`: per function the \
     99th percentile of end-to-end / execution time reported, then the geometric mean over functions.",
    "Percentiles are exact, from rows, and always a value that occurred: the least that a given share of rows does not \
     exceed.",
    "A failure is any outcome but ok. Penalised, it counts with the time-out as its latency over the requested time; \
     dropped, it does not count. A claim must hold both ways.",
    "Cold: the serving sandbox became ready after the invocation arrived. The system's word is joined by sandbox to its \
     record of creations.",
    "A difference between systems needs five repetitions of each, a 95 % bootstrap interval of the ratio of medians clear of \
     1, and a Mann-Whitney p below 0.01.",
];

/// Of a constant rate: what stands in the place of slowdown, which is about execution times.
const METHOD_AT_RATE: [&str; 3] = [
    "The schedule is made before the run, one call after the other at equal gaps; cold starts call as many functions in turn \
     as a cool-down needs in which each has lost its sandbox again.",
    "A repetition goes through all points before the next one begins, and systems take turns within a point. Every one starts \
     the system afresh and registers the functions before the load.",
    "CPU time is that of the operating system's accounting, in clock ticks, between two samples near the ends of the measured \
     window, over the ok answers between the two. What it costs to keep up with failures counts too.",
];

/// The place of the definitions of slowdown in [`METHOD`].
const SLOWDOWN: usize = 1;

fn texts(at_rate: bool) -> Vec<&'static str> {
    let kept = METHOD.iter().enumerate().filter(|(place, _)| !(at_rate && *place == SLOWDOWN)).map(|(_, text)| *text);
    kept.chain(METHOD_AT_RATE.into_iter().filter(|_| at_rate)).collect()
}

/// Each time-out of the points, with where it comes from.
fn timeouts(points: &[PointSummary]) -> String {
    let each: BTreeSet<_> = points.iter().map(|point| (point.timeout_ns, point.timeout_from.as_str())).collect();
    let text = |(ns, from): (u64, &str)| format!("{} ({from})", duration_ns(i64::try_from(ns).unwrap_or(i64::MAX)));
    each.into_iter().map(text).collect::<Vec<_>>().join(" or, by the point, ")
}

pub(super) fn section(page: &Page<'_>) -> Markup {
    let first = page.summary.points.first();
    html! {
        section id="method" {
            h2 { "Method" }
            ul {
                @for text in texts(page.design.at_rate) { li { (ticked(text)) } }
                @if let Some(point) = first {
                    li {
                        "The time-out that a penalised failure counts with is "
                        (ticked(&timeouts(&page.summary.points)))
                        ". Of each repetition, warm-up rows are left out: "
                        (count(point.counts.warmup)) " of " (count(point.counts.recorded)) " in the first."
                    }
                }
            }
        }
        section id="differences" {
            h2 { "What differs from the published set-up" }
            ul { @for text in setup::differences(page.manifest, page.design.at_rate) { li { (text) } } }
        }
    }
}
