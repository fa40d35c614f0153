//! Whether the repetition went undisturbed: the system lived, nothing was left behind, and the machine was quiet.

use record::{Finding, PointDir, ProcessUsage, Weight, read_table};

use crate::{run::repetition::RepetitionFacts, verify::invariant::Findings};

/// Greatest share of the machine that processes of others may use.
const OTHERS_SHARE_MAX: f64 = 0.10;
/// Greatest share of the machine that its hypervisor may take.
const STEAL_SHARE_MAX: f64 = 0.02;
/// Greatest share of its cores that the load generator may use.
const GENERATOR_SHARE_MAX: f64 = 0.70;

/// Judges what the runner saw.
pub fn judge(point: &PointDir, facts: Option<&RepetitionFacts>, cores: u32, to: &mut Findings) {
    let Some(facts) = facts else {
        to.validity("the repetition ended", false, "there is no repetition.json");
        return;
    };
    to.validity("the repetition ended", !facts.interrupted, if facts.interrupted { "interrupted" } else { "" });
    to.validity("every process of the system lived", facts.deaths.is_empty(), facts.deaths.join("; "));
    let left = [facts.killed.as_slice(), facts.orphans.as_slice()].concat();
    to.add("everything stopped when told to", Weight::Mark, Finding::of(left.is_empty()), left.join("; "));
    let rule = "processes of others used less than 10 %";
    let usage: Option<Vec<ProcessUsage>> = read_table(&point.processes()).ok();
    let (Some(usage), Some(window)) = (usage, facts.window) else {
        to.add(rule, Weight::Mark, Finding::NotMeasured, "there is no processes.csv");
        return;
    };
    let total_us = window.machine.total_us().max(1) as f64;
    let others = window.machine.of_others_us(&usage) as f64 / total_us;
    to.add(rule, Weight::Mark, Finding::of(others < OTHERS_SHARE_MAX), format!("{:.1} %", others * 100.0));
    let steal = window.machine.steal_us as f64 / total_us;
    let verdict = Finding::of(steal < STEAL_SHARE_MAX);
    to.add("the hypervisor took less than 2 %", Weight::Mark, verdict, format!("{:.1} %", steal * 100.0));
    if let Some(generator) = usage.iter().find(|row| row.process == ProcessUsage::LOAD_GENERATOR) {
        let share = generator.cpu_us() as f64 / total_us;
        let detail = format!("{:.1} % of {cores} cores", share * 100.0);
        let rule = "the load generator used less than 70 % of the cores";
        to.add(rule, Weight::Mark, Finding::of(share < GENERATOR_SHARE_MAX), detail);
    }
}
