//! The requests, admissions and store changes of a cold start, of systems that record them.

use maud::{Markup, html};
use record::{Anatomy, PerColdStart};

use super::{Page, answers};
use crate::{FigureName, figure::anatomy::anatomy, format::number};

/// Bytes in a kilobyte as they are shown.
const KB: f64 = 1_000.0;

/// Nothing where no system recorded it.
pub(super) fn section(page: &Page<'_>) -> Markup {
    let Some((system, anatomy)) = anatomy(page.series) else { return html! {} };
    html! {
        section id="anatomy" {
            h2 { "What do the components of " (system) " do for a cold start?" }
            p.answer { (sentence(anatomy)) }
            (answers::figure(page, FigureName::Anatomy,
                "Requests to the API server in a cold start on an otherwise idle system, in the order in which they begin, coloured \
                 by who makes them: those that at least half of the cold starts make, at their median offsets and durations, until \
                 twice the median latency. The dashed line is the median response. From the API server's own log."))
            (table("Requests to the API server, by who makes them", &anatomy.requests,
                &[("of these writes", |one| one.writes), ("conflicts", |one| one.conflicts)]))
            @if !anatomy.admissions.is_empty() {
                (table("Objects shown to webhooks before they are stored, by kind", &anatomy.admissions, &[]))
            }
            (table("Changes in the store, by kind of object", &anatomy.changes, &[("KB of a cycle", kb)]))
            p.note {
                "Averages over " (anatomy.cold_starts) " successful cold starts until their response, and over " (anatomy.cycles)
                " whole cycles from one invocation of a function to the next, with the end of its sandbox. Watches and leases are left out, \
                 and what cannot be told to belong to one function."
            }
        }
    }
}

fn sum(of: &[PerColdStart], value: impl Fn(&PerColdStart) -> Option<f64>) -> Option<f64> {
    of.iter().map(value).fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value.unwrap_or(0.0)))
}

fn sentence(anatomy: &Anatomy) -> String {
    let (requests, changes) = (&anatomy.requests, &anatomy.changes);
    let until = |of: &[PerColdStart]| sum(of, |one| Some(one.until_answer)).map_or_else(|| "–".to_owned(), number);
    let mut text = format!(
        "Until the response of a cold start, the components send {} requests to the API server and change objects in the store {} times.",
        until(requests),
        until(changes)
    );
    let whole = (sum(requests, |one| one.cycle), sum(requests, |one| one.writes), sum(requests, |one| one.conflicts));
    let calls = sum(&anatomy.admissions, |one| one.cycle);
    let stored = (sum(changes, |one| one.cycle), sum(changes, |one| one.bytes));
    if let ((Some(requests), Some(writes), Some(conflicts)), (Some(changes), Some(bytes)), true) =
        (whole, stored, anatomy.cycles > 0)
    {
        text.push_str(&format!(
            " With all that follows, the end of the sandbox included, these are {} requests, {} of which write and {} are refused \
             because somebody else had changed the object,{} and {} changes of {} KB in all.",
            number(requests),
            number(writes),
            number(conflicts),
            calls.map_or_else(String::new, |calls| format!(" {} calls of webhooks,", number(calls))),
            number(changes),
            number(bytes / KB)
        ));
    }
    text
}

/// A further column: its head and its value.
type Column = (&'static str, fn(&PerColdStart) -> Option<f64>);

fn table(head: &str, rows: &[PerColdStart], columns: &[Column]) -> Markup {
    let cell = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), number);
    html! {
        div.wide { table {
            thead { tr {
                th { (head) } th.n { "until the response" } th.n { "a whole cycle" }
                @for (head, _) in columns { th.n { (head) } }
            } }
            tbody { @for row in rows { tr {
                td { (row.name) }
                td.n { (number(row.until_answer)) } td.n { (cell(row.cycle)) }
                @for (_, value) in columns { td.n { (cell(value(row))) } }
            } } }
        } }
    }
}

fn kb(of: &PerColdStart) -> Option<f64> {
    of.bytes.map(|bytes| bytes / KB)
}
