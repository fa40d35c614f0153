//! Every figure that others published about the experiment, with the machines it is of, how it is known, and its source.

use maud::{Markup, html};

use super::Page;
use crate::{format::published, published::Published};

pub(super) fn section(page: &Page<'_>) -> Markup {
    if page.published.is_empty() {
        return html! {};
    }
    html! {
        section id="published" {
            h2 { "What others published" }
            p { "Measured elsewhere, on other machines: for orientation, and compared with ours only where a claim does so." }
            div.wide { table {
                thead { tr {
                    th { "System" } th { "Measured on" } th { "Quantity" } th.n { "Value" } th { "Source" }
                } }
                tbody { @for row in page.published { (entry(row, &page.manifest.experiment)) } }
            } }
        }
    }
}

fn entry(row: &Published, experiment: &str) -> Markup {
    html! {
        tr {
            td { (row.system) }
            td { (row.setup) }
            td { (row.metric) @if row.experiment != experiment { br; span.note { "of the published experiment " (row.experiment) } } }
            td.n { (value(row)) }
            td.quiet { (row.source) br; span.note { (row.how_known) } }
        }
    }
}

fn value(row: &Published) -> String {
    match row.unit.as_str() {
        "ratio" => published(row.value),
        unit => format!("{} {unit}", published(row.value)),
    }
}
