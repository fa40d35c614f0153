//! `processes.csv` and `nodes.csv`: resource use of each process and each node, and the interval of measurement.

use serde::{Deserialize, Serialize};

use crate::ProcessRole;

/// Resource use of one process over the measured part of a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessUsage {
    /// Its name, for example `control-plane`; the whole machine is `machine`.
    pub process: String,
    /// CPU time in user mode, in microseconds.
    pub cpu_user_us: u64,
    /// CPU time in the kernel, in microseconds.
    pub cpu_sys_us: u64,
    /// Greatest resident memory, in bytes.
    pub rss_bytes: u64,
    /// Context switches, voluntary and not.
    pub ctx_switches: u64,
}

/// Resources held by one node at the end of a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeUsage {
    /// Its name.
    pub node: String,
    /// `ready`, `suspect`, `dead` or `draining`.
    pub state: String,
    /// Sandboxes on it.
    pub sandboxes: u64,
    /// CPU reserved, in millicores.
    pub cpu_reserved_millicores: u64,
    /// Memory reserved, in MiB.
    pub memory_reserved_mib: u64,
}

impl ProcessUsage {
    /// Name of the row of the whole machine.
    pub const MACHINE: &str = "machine";
    /// Name of the load generator's row.
    pub const LOAD_GENERATOR: &str = "load-generator";
    /// Name of the row of the program that runs the experiment.
    pub const RUNNER: &str = "runner";

    /// Role of the process.
    #[must_use]
    pub fn role(&self) -> ProcessRole {
        ProcessRole::of(&self.process)
    }

    /// CPU time, user and kernel, in microseconds.
    #[must_use]
    pub fn cpu_us(&self) -> u64 {
        self.cpu_user_us.saturating_add(self.cpu_sys_us)
    }
}

/// The part of `repetition.json` that readers of `processes.csv` need; the runner writes more into the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampledRepetition {
    /// The interval that `processes.csv` is the difference over; empty if too few samples were taken.
    pub window: Option<SampledWindow>,
}

/// The interval between the two samples of process resources that a repetition is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampledWindow {
    /// Its beginning, in nanoseconds since the Unix epoch.
    pub from_unix_ns: i64,
    /// Its end, in nanoseconds since the Unix epoch.
    pub to_unix_ns: i64,
    /// Time of all cores of the machine by use.
    #[serde(default)]
    pub machine: MachineTime,
    /// Activity of the disks; absent if it cannot be determined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disks: Option<DiskUse>,
}

/// Time of all cores of a machine by use, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineTime {
    /// User mode.
    pub user_us: u64,
    /// Kernel on behalf of processes.
    pub sys_us: u64,
    /// Interrupts.
    pub irq_us: u64,
    /// Idle.
    pub idle_us: u64,
    /// Taken by the hypervisor for other machines.
    pub steal_us: u64,
}

impl MachineTime {
    /// All of it.
    #[must_use]
    pub fn total_us(&self) -> u64 {
        self.user_us + self.sys_us + self.irq_us + self.idle_us + self.steal_us
    }

    /// The least CPU time of processes that are not among the rows. Interrupts belong to no process and are left out.
    /// On a kernel that accounts interrupts to processes, those charged to the processes of the rows are missing from
    /// it.
    #[must_use]
    pub fn of_others_us(&self, rows: &[ProcessUsage]) -> u64 {
        (self.user_us + self.sys_us).saturating_sub(of_rows_us(rows))
    }
}

impl SampledWindow {
    /// The time of `cores` over the interval, in microseconds. Ticks may miss some, or exceed the real time; they are
    /// used if the length or the number of cores is not on record.
    #[must_use]
    pub fn total_us(&self, cores: u32) -> u64 {
        let length_us = u64::try_from(self.to_unix_ns.saturating_sub(self.from_unix_ns) / 1000).unwrap_or(0);
        match length_us.saturating_mul(u64::from(cores)) {
            0 => self.machine.total_us(),
            total_us => total_us,
        }
    }

    /// The most CPU time of processes that are not among the rows: all busy time, interrupts included, that is in none
    /// of them. Busy time is the greater of the busy ticks and the time that was not idle.
    #[must_use]
    pub fn in_no_row_us(&self, rows: &[ProcessUsage], cores: u32) -> u64 {
        let MachineTime { user_us, sys_us, irq_us, idle_us, steal_us } = self.machine;
        let not_idle_us = self.total_us(cores).saturating_sub(idle_us + steal_us);
        (user_us + sys_us + irq_us).max(not_idle_us).saturating_sub(of_rows_us(rows))
    }
}

/// CPU time of the processes of the rows, without the row of the whole machine.
fn of_rows_us(rows: &[ProcessUsage]) -> u64 {
    rows.iter().filter(|row| row.role() != ProcessRole::Machine).map(ProcessUsage::cpu_us).sum()
}

/// Activity of all physical disks of a machine over a period, by any process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUse {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Time in which the busiest disk had requests in flight, in microseconds.
    pub busiest_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_what_is_left_of_processes_without_interrupts() {
        let row = |process: &str, cpu_user_us| ProcessUsage {
            process: process.to_owned(),
            cpu_user_us,
            cpu_sys_us: 5,
            rss_bytes: 0,
            ctx_switches: 0,
        };
        let machine = MachineTime { user_us: 100, sys_us: 50, irq_us: 7, idle_us: 900, steal_us: 3 };
        let rows = [row("worker-1", 60), row(ProcessUsage::LOAD_GENERATOR, 20), row(ProcessUsage::MACHINE, 150)];
        assert_eq!(machine.of_others_us(&rows), 60);
        assert_eq!(machine.of_others_us(&[row("worker-1", 400)]), 0, "clock ticks are coarse");
        let charged = [row("worker-1", 147)];
        let window =
            |length_us: i64| SampledWindow { from_unix_ns: 7, to_unix_ns: 7 + 1000 * length_us, machine, disks: None };
        assert_eq!(window(530).in_no_row_us(&rows, 2), 67);
        assert_eq!(
            (machine.of_others_us(&charged), window(530).in_no_row_us(&charged, 2)),
            (0, 5),
            "152 of 157 are known"
        );
        assert_eq!((machine.total_us(), window(530).total_us(2), window(550).total_us(2)), (1_060, 1_060, 1_100));
        assert_eq!(window(550).in_no_row_us(&charged, 2), 45, "ticks missed 40, and the idle time tells it");
        assert_eq!(window(510).in_no_row_us(&charged, 2), 5, "ticks found 40 more than there is");
        assert_eq!(
            (window(550).in_no_row_us(&charged, 0), window(0).total_us(2)),
            (5, 1_060),
            "nothing but ticks tells"
        );
    }

    #[test]
    fn a_window_of_earlier_runs_is_read() {
        let text = r#"{"window":{"from_unix_ns":1,"to_unix_ns":2,"machine":{"user_us":9,"steal_us":4}},"started":"x"}"#;
        let window = serde_json::from_str::<SampledRepetition>(text).unwrap().window.unwrap();
        assert_eq!((window.machine.user_us, window.machine.steal_us, window.disks), (9, 4, None));
    }
}
