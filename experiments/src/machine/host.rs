//! Facts about this machine, for the manifest and for `doctor`.

use std::{collections::BTreeMap, fs, path::Path, thread};

use nix::sys::utsname::uname;
use record::HostFacts;

/// Gathers the facts; one that the system does not tell stays empty.
#[must_use]
pub fn facts() -> HostFacts {
    HostFacts {
        cpu: cpu_model(&read("/proc/cpuinfo")),
        cores: thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX)),
        memory_mib: memory_mib(&read("/proc/meminfo")),
        kernel: uname()
            .map(|name| format!("{} {}", name.sysname().display(), name.release().display()))
            .unwrap_or_default(),
        mitigations: mitigations(Path::new("/sys/devices/system/cpu/vulnerabilities")),
        clock: read("/sys/devices/system/clocksource/clocksource0/current_clocksource").trim().to_owned(),
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn cpu_model(cpuinfo: &str) -> String {
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    // Machines other than x86 have no model name.
    field("model name").or_else(|| field("CPU part")).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn memory_mib(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn mitigations(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?;
            Some((entry.file_name().to_string_lossy().into_owned(), text.trim().to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_texts_are_read() {
        let cpuinfo = "processor\t: 0\nvendor_id\t: X\nmodel name\t: Example CPU @ 2.00GHz\nflags\t\t: a b\n";
        assert_eq!(cpu_model(cpuinfo), "Example CPU @ 2.00GHz");
        assert_eq!(memory_mib("MemTotal:       24684000 kB\nMemFree: 1 kB\n"), 24_105);
    }

    #[test]
    fn this_machine_has_cores_memory_and_a_kernel() {
        let facts = facts();
        assert!(facts.cores >= 1 && facts.memory_mib > 0 && facts.kernel.contains(' '), "{facts:?}");
    }
}
