//! Other use of the machine during the measurements, and the runner's marks.

use std::collections::BTreeMap;

use maud::{Markup, html};
use record::{DiskUse, MachineUse};

use super::{
    Page, name,
    text::{not_measured, ticked},
};
use crate::format::number;

/// Bytes in a MiB.
const MIB: f64 = 1_048_576.0;

/// Of the section about whether the numbers can be believed.
pub(super) fn part(page: &Page<'_>) -> Markup {
    let points = &page.summary.points;
    html! {
        h3 id="machine" { "What else used the machine?" }
        @if points.iter().all(|point| point.machine.is_none()) {
            p { (not_measured("nobody sampled the machine")) }
        } @else {
            div.wide { table.points {
                thead { tr {
                    th { "System · point · repetition" } th.n { "System" } th.n { "Load gen." } th.n { "Runner" }
                    th.n { "Others" } th.n { "Interrupts" } th.n { "Stolen" } th.n { "Idle" }
                    th.n { "MiB read" } th.n { "MiB written" } th.n { "Disk busy" }
                } }
                tbody { @for point in points { tr {
                    td { (name(point)) }
                    @match &point.machine {
                        None => td colspan="10" { (not_measured("nobody sampled the machine")) }
                        Some(machine) => (cells(machine))
                    }
                } } }
            } }
            p.note {
                "Percent of the time of all cores over the measured part, in clock ticks. Times of processes are measured, and on some \
                 kernels hold the interrupts that came meanwhile; the machine's are sampled, so that the parts may come to less or more \
                 than the whole. Others: processes that belong neither to the system nor to the measurement, at the least; where \
                 interrupts are in the times of processes, they may have used more, up to the percentage of interrupts. Stolen: time \
                 that the hypervisor gave to other machines. Disks are the machine's physical ones, with all that uses them, the \
                 system included; busy is the busiest one, in percent of the time."
            }
        }
        (marks(page))
    }
}

fn cells(of: &MachineUse) -> Markup {
    let shares = [
        of.system_percent,
        of.generator_percent,
        of.runner_percent,
        of.others_percent,
        of.interrupts_percent,
        of.steal_percent,
        of.idle_percent,
    ];
    let disks = |value: fn(&DiskUse) -> u64| of.disks.as_ref().map(|disks| value(disks) as f64 / MIB);
    html! {
        @for share in shares { td.n { (format!("{share:.1}")) } }
        @for value in [disks(|disks| disks.read_bytes), disks(|disks| disks.written_bytes), of.busiest_disk_percent] {
            td.n { (value.map_or_else(|| "unknown".to_owned(), number)) }
        }
    }
}

/// Each rule that was marked, with the repetitions and what was found there.
fn marks(page: &Page<'_>) -> Markup {
    let mut marked: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for one in page.verification.marked() {
        let detail = if one.detail.is_empty() { String::new() } else { format!(": {}", one.detail) };
        marked.entry(&one.rule).or_default().push(format!("{}{detail}", one.scope));
    }
    let unknown = page.summary.points.iter().filter(|point| page.verification.is_noise_unmeasured(point));
    let unknown: Vec<String> = unknown.map(name).collect();
    html! {
        @if !unknown.is_empty() {
            p { (not_measured(&format!("what else used the machine is not known of: {}", unknown.join("; ")))) }
        }
        @if marked.is_empty() {
            @if unknown.is_empty() { p { "No repetition is marked as noisy." } }
        } @else {
            p { "Marked, which makes nothing invalid:" }
            ul { @for (rule, places) in marked {
                li { span.mark.warn { "marked" } " " (ticked(rule)) " " span.quiet { "(" (places.join("; ")) ")" } }
            } }
        }
    }
}
