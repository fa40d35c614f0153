//! Facts about the run: experiment, machine, inputs, and the paths of the raw files.

use std::collections::BTreeMap;

use maud::{Markup, html};
use record::Setting;

use super::Page;
use crate::format::count;

pub(super) fn sections(page: &Page<'_>) -> Markup {
    html! {
        section id="facts" {
            h2 { "Run facts" }
            (host(page))
            (systems(page))
            (table("Seed", page.manifest.seeds.iter().map(|(name, seed)| (name.clone(), seed.to_string())).collect()))
            (table("SHA-256 of", page.manifest.checksums.clone()))
            @for note in &page.manifest.notes { p { (note) } }
            details { summary { "The experiment's definition" } pre { (page.manifest.definition) } }
        }
        section id="files" {
            h2 { "Raw files" }
            ul {
                li { a href="../manifest.json" { "manifest.json" } ", " a href="../summary.json" { "summary.json" } ", "
                     a href="../claims.json" { "claims.json" } }
                @for point in &page.summary.points {
                    @let folder = format!("../{}/{}/{}/", point.system, point.point, point.repetition);
                    li {
                        a href=(folder) { (point.system) "/" (point.point) "/" (point.repetition) "/" }
                        ": " code { "invocations.csv.zst" } " (" (count(point.counts.recorded)) " rows), "
                        code { "coldstarts.csv" } ", " code { "processes.csv" } ", " code { "loadgen.json" } ", " code { "logs/" }
                    }
                }
            }
        }
    }
}

fn host(page: &Page<'_>) -> Markup {
    let (manifest, host) = (page.manifest, &page.manifest.host);
    let ended = manifest.ended.clone().unwrap_or_else(|| "not ended".to_owned());
    html! {
        div.wide { table { tbody {
            @for (name, value) in [
                ("Command", manifest.command.join(" ")),
                ("Started", manifest.started.clone()),
                ("Ended", ended),
                ("Revision", manifest.git_revision.clone()),
                ("Analysed with", page.summary.git_revision.clone()),
                ("CPU", format!("{}, {} cores used", host.cpu, host.cores)),
                ("Memory", format!("{} MiB", count(host.memory_mib))),
                ("Kernel", host.kernel.clone()),
                ("Clock", host.clock.clone()),
            ] { tr { th scope="row" { (name) } td { (value) } } }
        } } }
        @if !host.mitigations.is_empty() {
            details { summary { "CPU mitigations" } (table("Vulnerability", host.mitigations.clone())) }
        }
    }
}

fn systems(page: &Page<'_>) -> Markup {
    html! {
        @for (name, facts) in &page.manifest.systems {
            p { code { (name) } ": " (facts.version) }
            @if let Some(settings) = page.settings.get(name) { (otherwise(settings)) }
            @if !facts.binaries.is_empty() { (table("SHA-256 of binary", facts.binaries.clone())) }
            @if !facts.definition.is_empty() { details { summary { (name) " in systems.toml" } pre { (facts.definition) } } }
        }
    }
}

/// The settings of a system that differ from its release.
fn otherwise(settings: &[Setting]) -> Markup {
    html! {
        div.wide { table {
            thead { tr { th { "Set otherwise than released" } th { "" } th { "To" } th { "Because" } } }
            tbody { @for one in settings {
                tr { td { (one.part) } td { code { (one.key) } } td { code { (one.value) } } td { (one.why) } }
            } }
        } }
    }
}

fn table(head: &str, rows: BTreeMap<String, String>) -> Markup {
    if rows.is_empty() {
        return html! {};
    }
    html! {
        div.wide { table {
            thead { tr { th { (head) } th { "" } } }
            tbody { @for (name, value) in rows { tr { td { (name) } td { code { (value) } } } } }
        } }
    }
}
