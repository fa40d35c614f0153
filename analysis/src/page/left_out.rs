//! Missing systems and repetitions, and rows left out of the statistics.

use maud::{Markup, html};
use record::PointSummary;

use super::{
    Page,
    text::{not_measured, ticked},
};
use crate::format::count;

/// Of the section about whether the numbers can be believed.
pub(super) fn part(page: &Page<'_>) -> Markup {
    let (manifest, summary) = (page.manifest, page.summary);
    let points = &summary.points;
    let said = [stopped(points), ended_early(page), invalid(page), impossible(points), warmup(points)];
    html! {
        h3 { "What was left out" }
        @if !summary.not_measured.is_empty() {
            ul { @for (system, reason) in &summary.not_measured { li { code { (system) } ": " (not_measured(reason)) } } }
        }
        @if !manifest.failures.is_empty() {
            div.wide { table.points {
                thead { tr { th { "Repetition that failed" } th { "Why" } } }
                tbody { @for failure in &manifest.failures { tr {
                    td { (failure.system) " · " (failure.point) " · " (failure.repetition) }
                    td {
                        @for line in failure.reason.lines() { div { (line) } }
                        @if failure.untried { div.quiet { "This says nothing about the system." } }
                    }
                } } }
            } }
            p.note {
                "A repetition that failed has no rows. Of the system that a claim says is better it counts as having sustained nothing, \
                 unless it was not even tried, or what measures the system failed; of any other system a claim that needs it is not \
                 judged."
            }
        }
        @if !manifest.discarded.is_empty() {
            div.wide { table.points {
                thead { tr { th { "A try that was discarded" } th { "When" } th { "Why" } } }
                tbody { @for one in &manifest.discarded { tr {
                    td { (one.system) " · " (one.point) " · " (one.repetition) } td { (one.at) } td { (one.reason) }
                } } }
            } }
        }
        ul { @for text in said.into_iter().flatten() { li { (ticked(&text)) } } }
    }
}

/// Names of the repetitions for which a predicate holds.
fn those(points: &[PointSummary], is_so: impl Fn(&PointSummary) -> bool) -> Option<String> {
    let names: Vec<String> = points.iter().filter(|point| is_so(point)).map(super::name).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn stopped(points: &[PointSummary]) -> Option<String> {
    let names = those(points, |point| point.validity.interrupted)?;
    Some(format!(
        "Stopped before the end of the load, and left out of medians where the point has other repetitions: {names}."
    ))
}

/// Repetitions in which a process of the system ended early; these are invalid as well.
fn ended_early(page: &Page<'_>) -> Option<String> {
    let names = those(&page.summary.points, |point| page.verification.early_end(point).is_some())?;
    Some(format!(
        "In the tables and medians of this page, although a process of the system ended before it was stopped: {names}. Of the system \
         that a claim says is better such a repetition counts as having sustained nothing; no other claim uses it."
    ))
}

fn invalid(page: &Page<'_>) -> Option<String> {
    let is_so = |point: &PointSummary| {
        let is_left = !point.validity.interrupted && page.verification.early_end(point).is_none();
        point.validity.valid == Some(false) && is_left
    };
    let names = those(&page.summary.points, is_so)?;
    Some(format!("Invalid, and yet in the tables and medians of this page, but in no claim: {names}."))
}

fn impossible(points: &[PointSummary]) -> Option<String> {
    let rows: u64 = points.iter().map(|point| point.counts.impossible).sum();
    let names = those(points, |point| point.counts.impossible > 0)?;
    Some(format!("{} rows cannot be true; their times are in no statistic: {names}.", count(rows)))
}

fn warmup(points: &[PointSummary]) -> Option<String> {
    let rows = || points.iter().map(|point| point.counts.warmup);
    match (rows().min()?, rows().max()?) {
        (0, 0) => Some("No row was left out as warm-up.".to_owned()),
        (least, most) if least == most => Some(format!("Rows of the warm-up, {} in each repetition.", count(least))),
        (least, most) => Some(format!("Rows of the warm-up, {} to {} in each repetition.", count(least), count(most))),
    }
}
