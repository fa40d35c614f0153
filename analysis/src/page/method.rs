//! Method of the measurements, and differences from the published set-up.

use std::collections::BTreeSet;

use maud::{Markup, html};
use record::PointSummary;

use super::{Page, setup, text::ticked};
use crate::format::duration_ns;

/// Method of an open load, the same on every page.
const OPEN_LOAD: &str = "Open load: each invocation is sent at its own instant, without waiting for earlier responses. Latency is \
     done minus due, so a late send counts against the system, and the run is invalid when sends are late.";
const PERCENTILES: &str = "Percentiles are exact, from rows, and always a value that occurred: the least that a given share of \
     rows does not exceed.";
const COLD: &str = "Cold: the serving sandbox became ready after the invocation arrived. The system's word is joined by sandbox \
     to its record of creations.";
const CLAIMS: &str = "A claim needs five repetitions of each system, in a run that is not a quick one, and every invariant of the \
     repetitions it uses. It is held when the lower end of the 95 % bootstrap interval over repetitions reaches the bound, and of a \
     ratio also when it is clear of 1 with a Mann-Whitney p below 0.01; an interval that contains the bound is inconclusive. It is not \
     held by repetitions in one of which the system said to be better failed.";

/// Of a trace: slowdown, and where failures are penalised.
const SLOWDOWN: &str = "`seed`: per function, arithmetic mean over invocations of end-to-end / execution time reported. \
     `artifact`: per function, geometric mean of end-to-end / requested time, ratios below 1 dropped, time-outs kept. `mean-kept`: \
     per function, arithmetic mean of end-to-end / requested time, time-outs and functions invoked once dropped. `tail`: per \
     function the 99th percentile of end-to-end / execution time reported, then the geometric mean over functions.";
const FAILURES: &str = "A failure is any outcome but ok. Penalised, it counts with the time-out as its latency over the requested \
     time; dropped, it does not count. Slowdowns are penalised unless they say otherwise, and a claim about one must hold both \
     ways. Latencies are those of ok invocations: a failure is not seen in them. The table says of each statistic how failures count.";

/// Of a constant rate: likewise.
const FAILURES_AT_RATE: &str = "A failure is any outcome but ok. Latencies and their slope are those of ok invocations: failures are \
     not penalised in them, and count against ok, achieved and sustained. They are penalised in one place, the 99th percentile that \
     the objective is judged by: there each counts with the time-out.";
const AT_EQUAL_GAPS: &str = "The schedule is made before the run, one invocation after the other at equal gaps.";
const IN_BURSTS: &str = "The schedule is made before the run: all invocations of a burst are due at the same instant.";
const COOL_DOWN: &str = "So many functions are invoked in turn that each loses its sandbox before it is invoked again.";
const REPETITIONS: &str = "A repetition goes through all points before the next one begins.";
const SYSTEMS: &str = "Systems take turns within a point.";
const ANOTHER_FIRST: &str = "With each repetition another system is first.";
const AFRESH: &str = "Each measurement begins afresh, with the functions registered before the load.";
const CPU: &str = "CPU time is that of the operating system's accounting, in clock ticks, between two samples near the ends of the \
     measured window, over the ok responses between the two; what failures cost is in it. Claims about CPU time divide by the creations \
     that became ready instead.";

/// Order of the measurements in this run, if it has several.
fn interleaving(page: &Page<'_>) -> impl Iterator<Item = &'static str> {
    let order = page.verification.order();
    let all = [
        (order.repetitions_followed_each_other(), REPETITIONS),
        (order.systems_were_interleaved(), SYSTEMS),
        (order.another_was_first(), ANOTHER_FIRST),
        (true, AFRESH),
    ];
    all.into_iter().filter_map(|(is_so, text)| is_so.then_some(text))
}

fn texts(page: &Page<'_>) -> Vec<&'static str> {
    let plan = page.plan;
    if !plan.is_at_rate() {
        return vec![OPEN_LOAD, SLOWDOWN, PERCENTILES, FAILURES, COLD, CLAIMS];
    }
    let schedule = if plan.is_in_bursts() { IN_BURSTS } else { AT_EQUAL_GAPS };
    let mut texts = vec![OPEN_LOAD, schedule];
    if plan.is_cold() {
        texts.extend([COOL_DOWN, COLD]);
    }
    texts.extend(interleaving(page));
    texts.extend([PERCENTILES, FAILURES_AT_RATE, CPU, CLAIMS]);
    texts
}

/// Each time-out of the points, with its origin.
fn timeouts(points: &[PointSummary]) -> String {
    let each: BTreeSet<_> = points.iter().map(|point| (point.timeout_ns, point.timeout_from.as_str())).collect();
    let text = |(ns, from): (u64, &str)| format!("{} ({from})", duration_ns(i64::try_from(ns).unwrap_or(i64::MAX)));
    each.into_iter().map(text).collect::<Vec<_>>().join(" or, by the point, ")
}

pub(super) fn section(page: &Page<'_>) -> Markup {
    html! {
        section id="method" {
            h2 { "Method" }
            ul {
                @for text in texts(page) { li { (ticked(text)) } }
                @if !page.summary.points.is_empty() {
                    li {
                        "The time-out that a penalised failure counts with is "
                        (ticked(&timeouts(&page.summary.points)))
                        "."
                    }
                }
            }
        }
        section id="differences" {
            h2 { "What differs from the published set-up" }
            ul { @for text in setup::differences(page.manifest, page.plan) { li { (ticked(&text)) } } }
        }
    }
}
