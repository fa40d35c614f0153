//! Resource use of each process per invocation, and of the whole machine.

use record::{MachineUse, ProcessRole, ProcessSummary, ProcessUsage, SampledWindow};

/// `sent` is the number of measured invocations that were sent.
pub(crate) fn processes(usage: &[ProcessUsage], sent: u64) -> Vec<ProcessSummary> {
    let summary = |process: &ProcessUsage| ProcessSummary {
        process: process.process.clone(),
        cpu_us: process.cpu_us(),
        cpu_us_per_invocation: (sent > 0).then(|| process.cpu_us() as f64 / sent as f64),
        rss_bytes: process.rss_bytes,
        ctx_switches: process.ctx_switches,
    };
    usage.iter().map(summary).collect()
}

/// Use of the machine with `cores` in the window that `usage` covers; `None` if its time is not on record.
pub(crate) fn machine(window: &SampledWindow, usage: &[ProcessUsage], cores: u32) -> Option<MachineUse> {
    let time = &window.machine;
    // Older records have no times of the machine, which reads as zero.
    if time.total_us() == 0 {
        return None;
    }
    let total_us = window.total_us(cores);
    let percent = |us: u64| 100.0 * us as f64 / total_us as f64;
    let of = |role| percent(usage.iter().filter(|row| row.role() == role).map(ProcessUsage::cpu_us).sum());
    let length_us = (window.to_unix_ns - window.from_unix_ns) as f64 / 1e3;
    Some(MachineUse {
        system_percent: of(ProcessRole::System),
        generator_percent: of(ProcessRole::LoadGenerator),
        runner_percent: of(ProcessRole::Runner),
        others_percent: percent(time.of_others_us(usage)),
        interrupts_percent: percent(time.irq_us),
        steal_percent: percent(time.steal_us),
        idle_percent: percent(time.idle_us),
        in_no_row_us: Some(window.in_no_row_us(usage, cores)),
        disks: window.disks,
        busiest_disk_percent: window
            .disks
            .filter(|_| length_us > 0.0)
            .map(|disks| 100.0 * disks.busiest_us as f64 / length_us),
    })
}

#[cfg(test)]
mod tests {
    use record::{DiskUse, MachineTime};

    use super::*;

    #[test]
    fn shares_of_the_machine_are_those_worked_out_by_hand() {
        let row = |process: &str, cpu_user_us| ProcessUsage {
            process: process.to_owned(),
            cpu_user_us,
            cpu_sys_us: 0,
            rss_bytes: 0,
            ctx_switches: 0,
        };
        let usage = [
            row("worker-1", 300_000),
            row("worker-1 sandboxes", 100_000),
            row("load-generator", 200_000),
            row("runner", 20_000),
            row("machine", 800_000),
        ];
        // Two cores for a second.
        let machine =
            MachineTime { user_us: 600_000, sys_us: 100_000, irq_us: 100_000, idle_us: 1_160_000, steal_us: 40_000 };
        let disks = Some(DiskUse { read_bytes: 1, written_bytes: 2, busiest_us: 250_000 });
        let window = SampledWindow { from_unix_ns: 0, to_unix_ns: 1_000_000_000, machine, disks };
        let found = super::machine(&window, &usage, 2).unwrap();
        let shares = [found.system_percent, found.generator_percent, found.runner_percent, found.others_percent];
        assert_eq!(shares, [20.0, 10.0, 1.0, 4.0]);
        assert_eq!([found.interrupts_percent, found.steal_percent, found.idle_percent], [5.0, 2.0, 58.0]);
        assert_eq!((found.in_no_row_us, found.busiest_disk_percent), (Some(180_000), Some(25.0)));
        let unknown = SampledWindow { machine: MachineTime::default(), ..window };
        assert_eq!(super::machine(&unknown, &usage, 2), None);
    }
}
