//! The resources of one process as the kernel counts them: descriptors, connections, threads and memory.

use std::fs;

use anyhow::Context;

use crate::daemon::Daemon;

/// One sample of a process, or the mean of several.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// Open file descriptors.
    pub(crate) descriptors: f64,
    /// Established TCP connections.
    pub(crate) connections: f64,
    pub(crate) threads: f64,
    /// Resident anonymous memory, in KiB.
    pub(crate) memory_kib: f64,
}

impl Usage {
    /// Samples a daemon.
    ///
    /// # Errors
    /// If it has ended.
    pub(crate) fn of(daemon: &Daemon) -> anyhow::Result<Self> {
        let process = format!("/proc/{}", daemon.pid());
        let entries = fs::read_dir(format!("{process}/fd")).context("a daemon's descriptors")?;
        // A descriptor that is closed while they are listed is left out.
        let targets = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        let targets: Vec<_> = targets.map(|target| target.display().to_string()).collect();
        let table = fs::read_to_string(format!("{process}/net/tcp")).context("a daemon's connections")?;
        let threads = fs::read_dir(format!("{process}/task")).context("a daemon's threads")?.count();
        Ok(Self {
            descriptors: targets.len() as f64,
            // The table has the connections of the whole network namespace.
            connections: established(&table).filter(|socket| targets.contains(socket)).count() as f64,
            threads: threads as f64,
            memory_kib: daemon.memory_kib()? as f64,
        })
    }

    /// The mean of `all`; 0 without any.
    pub(crate) fn mean(all: &[Self]) -> Self {
        let mean = |of: fn(&Self) -> f64| all.iter().map(of).sum::<f64>() / all.len().max(1) as f64;
        Self {
            descriptors: mean(|usage| usage.descriptors),
            connections: mean(|usage| usage.connections),
            threads: mean(|usage| usage.threads),
            memory_kib: mean(|usage| usage.memory_kib),
        }
    }
}

/// The established connections of a network namespace, as the link of a descriptor names them. The state is the fourth
/// field (01: established), the inode the tenth (`proc_pid_net(5)`).
fn established(table: &str) -> impl Iterator<Item = String> {
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|fields| fields.get(3) == Some(&"01")).filter_map(|fields| Some(format!("socket:[{}]", fields.get(9)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_established_connections_are_listed() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 17 1 0 100 0 0 10 0\n\
            1: 0100007F:1F90 0100007F:A0B2 01 00000000:00000000 00:00000000 00000000     0        0 18 1 0 20 4 30 10 -1\n";
        assert_eq!(established(table).collect::<Vec<_>>(), ["socket:[18]"]);
    }

    #[test]
    fn a_mean_is_taken_of_each_resource() {
        let one = Usage { descriptors: 1.0, connections: 2.0, threads: 3.0, memory_kib: 4.0 };
        let other = Usage { descriptors: 3.0, connections: 2.0, threads: 5.0, memory_kib: 8.0 };
        let mean = Usage { descriptors: 2.0, connections: 2.0, threads: 4.0, memory_kib: 6.0 };
        assert_eq!(Usage::mean(&[one, other]), mean);
    }

    #[test]
    fn incomplete_rows_are_skipped_and_a_mean_of_nothing_is_0() {
        assert_eq!(established("header\n 0: 0100007F:1F90 0100007F:A0B2 01\n\n").count(), 0);
        assert_eq!(Usage::mean(&[]), Usage::default());
    }
}
