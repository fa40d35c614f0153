//! The figures, each with its question, a sentence from the numbers, and a caption.

use maud::{Markup, PreEscaped, html};
use record::CreationPhase;

use super::{
    Page, sentence, setup,
    text::{not_measured, ticked},
};
use crate::{
    FigureName,
    figure::{MAX_SERIES, phases::phase_ms},
    format::number,
    series::Series,
};

pub(super) fn sections(page: &Page<'_>) -> Markup {
    html! {
        (slowdown(page))
        (phases(page))
    }
}

fn slowdown(page: &Page<'_>) -> Markup {
    html! {
        section id="slowdown" {
            h2 { "How much slower than its own execution is a function, end to end?" }
            (answers(page, |series| sentence::slowdown(series, "seed"), "no function has a slowdown"))
            (figure(page, FigureName::Slowdown,
                "Slowdown of each function, definition `seed`: arithmetic mean over its invocations of end-to-end latency / \
                 execution time reported; failed invocations count with the time-out over the requested time. One line per \
                 repetition, log axis."))
            (figure(page, FigureName::SlowdownArtifact,
                "The same run under definition `artifact`, the one the published artifact draws: geometric mean of end-to-end \
                 latency / requested time, ratios below 1 dropped. Hollow points are published values, measured elsewhere; \
                 their sources stand under the table."))
        }
        section id="scheduling" {
            h2 { "How long does an invocation wait beyond its own execution?" }
            (answers(page, sentence::scheduling, "no ok invocation reports its execution time"))
            (figure(page, FigureName::Scheduling,
                "Scheduling latency of each ok invocation: end-to-end latency from the instant it was due, minus the execution \
                 time its function reported. One line per repetition, log axis; below 1 µs drawn at 1 µs. Hollow points are \
                 published values, which include their warm-up."))
        }
    }
}

/// Durations of the phases of cold starts.
pub(super) fn phases(page: &Page<'_>) -> Markup {
    html! {
        section id="phases" {
            h2 { "Where does a cold start spend its time?" }
            (answers(page, sentence::phases, "no system recorded the phases of its cold starts"))
            (figure(page, FigureName::Phases,
                "Phases of ready creations, p50 and p99 of each phase stacked: the length of a bar is the sum of the phases' \
                 quantiles, not the quantile of the sum. Each phase is timed on the machine that performs it."))
            (figure(page, FigureName::PhasesManager,
                "The same without `create` and `ready`, the sandbox's own start: what the cluster manager and its network add."))
            (phase_table(page))
        }
    }
}

fn answers(page: &Page<'_>, of: impl Fn(&Series<'_>) -> Option<String>, reason: &str) -> Markup {
    let sentences: Vec<String> = page.series.iter().filter_map(of).collect();
    html! {
        @for text in &sentences { p.answer { (ticked(text)) } }
        @if sentences.is_empty() { p.answer { (not_measured(reason)) } }
    }
}

/// A figure with its caption, or why there is none.
pub(super) fn figure(page: &Page<'_>, name: FigureName, caption: &str) -> Markup {
    let svg = match page.figure(name) {
        Ok(svg) => svg,
        Err(reason) => return html! { p.note { "No figure " code { (name.as_str()) } ": " (reason) "." } },
    };
    html! {
        figure id={ "figure-" (name.as_str()) } {
            (PreEscaped(svg))
            figcaption {
                (ticked(caption))
                (setup::caption(page.plan))
                @if page.series.len() > MAX_SERIES {
                    " The first " (MAX_SERIES) " of " (page.series.len()) " series are drawn; all are in summary.json."
                }
                " " a href={ "figures/" (name.as_str()) ".svg" } { "As a file for a paper" } "."
            }
        }
    }
}

fn phase_table(page: &Page<'_>) -> Markup {
    let is_measured = |phase: &CreationPhase| {
        page.series.iter().any(|series| phase_ms(series, *phase, |spread| spread.p50).is_some())
    };
    let measured: Vec<CreationPhase> = CreationPhase::ALL.into_iter().filter(is_measured).collect();
    if measured.is_empty() {
        return html! {};
    }
    let cell = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), number);
    html! {
        div.wide { table {
            thead { tr {
                th { "Phase, ms" }
                @for series in page.series { th.n { (series.label) " p50" } th.n { "p99" } th.n { "greatest" } }
            } }
            tbody { @for phase in measured { tr {
                td { code { (phase.name()) } }
                @for series in page.series {
                    td.n { (cell(phase_ms(series, phase, |spread| spread.p50))) }
                    td.n { (cell(phase_ms(series, phase, |spread| spread.p99))) }
                    td.n { (cell(phase_ms(series, phase, |spread| spread.max))) }
                }
            } } }
        } }
    }
}
