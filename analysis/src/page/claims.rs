//! First section of the page: each claim with its outcome, then each statistic next to published figures.

use std::collections::BTreeMap;

use maud::{Markup, html};
use record::{ClaimOutcome, EvaluatedClaim, SecondaryRatio};

use super::{Page, text::ticked};
use crate::{
    format::{number, published, with_unit},
    published::Published,
    series::Series,
    statistic::{STATISTICS, Statistic},
};

pub(super) fn section(page: &Page<'_>) -> Markup {
    html! {
        section id="claims" {
            h2 { "Claims" }
            (claims(page))
            h3 { "Statistics" }
            (statistics(page))
        }
    }
}

/// The claims alone.
pub(super) fn claims_section(page: &Page<'_>) -> Markup {
    html! { section id="claims" { h2 { "Claims" } (claims(page)) } }
}

fn claims(page: &Page<'_>) -> Markup {
    if page.claims.claims.is_empty() {
        return html! { p { "No published claim is about " code { (page.manifest.experiment) } "." } };
    }
    html! {
        div.wide { table {
            thead { tr { th { "Claim" } th { "Published" } th { "This run" } th { "Verdict" } } }
            tbody { @for claim in &page.claims.claims { (row(claim)) } }
        } }
    }
}

fn row(claim: &EvaluatedClaim) -> Markup {
    let class = match claim.outcome {
        ClaimOutcome::Held => "good",
        ClaimOutcome::NotHeld | ClaimOutcome::Invalid => "bad",
        ClaimOutcome::Inconclusive => "warn",
        ClaimOutcome::NotMeasured => "quiet",
    };
    html! {
        tr {
            td { (claim.sentence) br; span.note { code { (claim.statistic) } } }
            td.quiet {
                (claim.published) br; span.note { (claim.source) }
                @if !claim.criterion.is_empty() { br; span.note { "Judged here: " (ticked(&claim.criterion)) } }
            }
            td { (measured(claim)) @if !claim.note.is_empty() { br; span.note { (ticked(&claim.note)) } } @for ratio in &claim.secondary { br; span.note { (ticked(&secondary(ratio))) } } }
            td { span class={ "mark " (class) } { (claim.outcome.as_str()) } @if !claim.reason.is_empty() { br; span.note { (ticked(&claim.reason)) } } }
        }
    }
}

fn measured(claim: &EvaluatedClaim) -> String {
    let Some(found) = claim.found else { return "–".to_owned() };
    let p = claim.p.map(|p| format!(", p = {}", number(p)));
    format!("{} {}{}{}", number(found), claim.unit, interval(claim.interval), p.unwrap_or_default())
}

fn interval(interval: Option<(f64, f64)>) -> String {
    interval.map(|(lower, upper)| format!(" [{}, {}]", number(lower), number(upper))).unwrap_or_default()
}

/// The same ratio against another form of the system compared with.
fn secondary(ratio: &SecondaryRatio) -> String {
    match ratio.ratio {
        Some(found) => format!("against `{}`: {} times{}", ratio.against, number(found), interval(ratio.interval)),
        None => format!("against `{}`: not measured: {}", ratio.against, ratio.reason),
    }
}

fn statistics(page: &Page<'_>) -> Markup {
    let sources = Sources::of(page.published);
    let repetitions = page.series.iter().map(|series| series.repetitions.len()).max().unwrap_or(0);
    html! {
        div.wide { table.statistics {
            thead { tr {
                th { "Statistic" } th { "Failures" }
                @for series in page.series { th.n { (series.label) } }
                th { "Published (measured elsewhere)" }
            } }
            tbody {
                @for statistic in &STATISTICS { tr {
                    td { (ticked(statistic.label)) }
                    td.quiet { (statistic.failures()) }
                    @for series in page.series { td.n { (cell(series, statistic)) } }
                    td { @for row in page.published.iter().filter(|row| row.statistic.as_deref() == Some(statistic.id)) {
                        div.published { (published(row.value)) " " (statistic.unit.symbol()) " " (row.system) sup { (sources.number(row)) } }
                    } }
                } }
            }
        } }
        p.note {
            @if repetitions > 1 { "Median over repetitions with its 95 % bootstrap interval. " }
            "Published figures come from other machines; they stand here for orientation and are not compared with ours."
        }
        @if !sources.0.is_empty() {
            ol.note { @for (system, setup, source, how) in sources.0.keys() {
                li { (system) ", " (setup) ": " (source) " (" (how) ")" }
            } }
        }
    }
}

fn cell(series: &Series<'_>, statistic: &Statistic) -> Markup {
    match series.shown(statistic) {
        Some(value) => html! {
            (with_unit(value.median, statistic.unit))
            @if let Some(interval) = value.interval { br; span.note { (number(interval.lower)) " to " (number(interval.upper)) } }
        },
        None => html! { abbr.quiet title=(statistic.missing) { "not measured" } },
    }
}

/// Footnote numbers of the sources of published values.
struct Sources<'a>(BTreeMap<(&'a str, &'a str, &'a str, &'a str), usize>);

impl<'a> Sources<'a> {
    fn of(published: &'a [Published]) -> Self {
        let shown = published.iter().filter(|row| row.statistic.is_some());
        let mut numbers: BTreeMap<_, usize> = shown.map(|row| (Self::key(row), 0)).collect();
        for (place, number) in numbers.values_mut().enumerate() {
            *number = place + 1;
        }
        Self(numbers)
    }

    fn key(row: &'a Published) -> (&'a str, &'a str, &'a str, &'a str) {
        (&row.system, &row.setup, &row.source, &row.how_known)
    }

    fn number(&self, row: &'a Published) -> usize {
        self.0.get(&Self::key(row)).copied().unwrap_or(0)
    }
}
