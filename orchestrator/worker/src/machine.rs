//! The resources of this machine: the defaults of a worker's node.

use std::fs;

use model::{NodeName, NodeSpec, Resources};

use crate::{Config, config::mib};

/// Assumed if the system does not report its memory.
const FALLBACK_MEMORY_MIB: u64 = 1024;

/// The one node of a worker whose sandboxes run on this machine, named like the worker.
pub(crate) fn node(config: &Config) -> NodeSpec {
    let machine = capacity();
    let capacity = Resources {
        cpu_millicores: config.node.cpu.map_or(machine.cpu_millicores, |cpu| cpu.millicores),
        memory_mib: config.node.memory.map_or(machine.memory_mib, mib),
    };
    NodeSpec { name: NodeName(config.name.as_str().into()), capacity }
}

/// The cores this process may use, and the machine's memory.
fn capacity() -> Resources {
    // The number of cores respects CPU affinity and quotas of control groups. The memory is that of the machine: a
    // worker in a container with a memory limit needs `node.memory`.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory_mib = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_mib(&text));
    Resources {
        cpu_millicores: u64::try_from(cores).unwrap_or(1) * 1000,
        memory_mib: memory_mib.unwrap_or(FALLBACK_MEMORY_MIB),
    }
}

fn total_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_resources() {
        let capacity = capacity();
        assert!(capacity.cpu_millicores >= 1000 && capacity.memory_mib > 0, "{capacity:?}");
        assert_eq!(total_mib("MemTotal:       24576000 kB\nMemFree: 1 kB\n"), Some(24_000));
        assert_eq!(total_mib("nothing"), None);
    }
}
