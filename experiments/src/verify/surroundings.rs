//! Surroundings of a repetition: the system lived, nothing was left behind, and the machine was quiet.

use record::{Finding, Invariant, PointDir, ProcessRole, ProcessUsage, Weight, read_table};

use crate::{run::repetition::RepetitionFacts, verify::invariant::Findings};

/// Greatest share of the machine that processes of others may use.
const MAX_OTHERS_SHARE: f64 = 0.10;
/// Greatest share of the machine that its hypervisor may take.
const MAX_STEAL_SHARE: f64 = 0.02;
/// Greatest share of its cores that the load generator may use.
const MAX_GENERATOR_SHARE: f64 = 0.70;

/// Checks the runner's observations.
pub fn check(point: &PointDir, facts: Option<&RepetitionFacts>, cores: u32, to: &mut Findings) {
    let Some(facts) = facts else {
        to.validity(Invariant::ENDED, false, "there is no repetition.json");
        return;
    };
    to.validity(Invariant::ENDED, !facts.interrupted, if facts.interrupted { "interrupted" } else { "" });
    to.validity(Invariant::LIVED, facts.early_exits.is_empty(), facts.early_exits.join("; "));
    let left = [facts.killed.as_slice(), facts.orphans.as_slice()].concat();
    to.add("everything stopped when told to", Weight::Mark, Finding::of(left.is_empty()), left.join("; "));
    let usage: Option<Vec<ProcessUsage>> = read_table(&point.processes()).ok();
    let used = usage.zip(facts.window);
    let generator = used.as_ref().and_then(|(usage, _)| {
        usage.iter().find(|row| row.role() == ProcessRole::LoadGenerator).map(ProcessUsage::cpu_us)
    });
    // Some kernels charge interrupts to the running process, which makes the remainder for other processes too small. Hence
    // a range.
    let others =
        used.as_ref().map(|(usage, window)| (window.machine.of_others_us(usage), window.in_no_row_us(usage, cores)));
    let steal = used.as_ref().map(|(_, window)| window.machine.steal_us);
    let total_us = used.as_ref().map_or(1, |(_, window)| window.total_us(cores).max(1)) as f64;
    let mut add = |rule, used_us: Option<(u64, u64)>, of: &str, less_than: f64| {
        let share = |us: u64| us as f64 / total_us;
        to.share(rule, used_us.map(|(least, most)| (share(least), share(most))), less_than, of);
    };
    let exactly = |us: u64| (us, us);
    let [of_others, of_hypervisor, of_generator] = Invariant::NOISE;
    add(of_others, others, "", MAX_OTHERS_SHARE);
    add(of_hypervisor, steal.map(exactly), "", MAX_STEAL_SHARE);
    add(of_generator, generator.map(exactly), &format!(" of {cores} cores"), MAX_GENERATOR_SHARE);
}
