//! Facts about this machine, for the manifest and for `doctor`.

use std::{collections::BTreeMap, fmt::Display, fs, path::Path, thread};

use nix::sys::utsname::uname;
use record::HostFacts;

/// Gathers the facts; an unknown one stays empty.
#[must_use]
pub fn facts() -> HostFacts {
    HostFacts {
        cpu: cpu_model(&read("/proc/cpuinfo")),
        cores: thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX)),
        memory_mib: memory_mib(&read("/proc/meminfo"), "MemTotal:"),
        kernel: uname()
            .map(|name| format!("{} {}", name.sysname().display(), name.release().display()))
            .unwrap_or_default(),
        mitigations: mitigations(Path::new("/sys/devices/system/cpu/vulnerabilities")),
        clock: read("/sys/devices/system/clocksource/clocksource0/current_clocksource").trim().to_owned(),
    }
}

/// Share by which the memory of one machine may differ between boots: the kernel reserves a varying part.
const MEMORY_TOLERANCE: f64 = 0.02;

/// Differences between two machines, each with both values; empty if they count as the same.
#[must_use]
pub fn differences(before: &HostFacts, now: &HostFacts) -> Vec<String> {
    let mut found = Vec::new();
    let mut add = |what: &str, before: &dyn Display, now: &dyn Display| {
        let (before, now) = (before.to_string(), now.to_string());
        found.extend((before != now).then(|| format!("{what} ({before}, now {now})")));
    };
    add("CPU", &before.cpu, &now.cpu);
    add("cores", &before.cores, &now.cores);
    add("kernel", &before.kernel, &now.kernel);
    add("clock source", &before.clock, &now.clock);
    let differs = before.memory_mib.abs_diff(now.memory_mib) as f64;
    if differs > MEMORY_TOLERANCE * before.memory_mib as f64 {
        add("memory in MiB", &before.memory_mib, &now.memory_mib);
    }
    if before.mitigations != now.mitigations {
        found.push("mitigations".to_owned());
    }
    found
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

/// Available memory, in MiB; 0 if unknown.
#[must_use]
pub fn available_mib() -> u64 {
    memory_mib(&read("/proc/meminfo"), "MemAvailable:")
}

fn memory_mib(meminfo: &str, key: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key));
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
        let meminfo = "MemTotal:       24684000 kB\nMemFree: 1 kB\nMemAvailable:   2048 kB\n";
        assert_eq!(["MemTotal:", "MemAvailable:", "Other:"].map(|key| memory_mib(meminfo, key)), [24_105, 2, 0]);
    }

    #[test]
    fn a_machine_is_known_by_its_facts_and_a_little_memory_more_or_less() {
        let one = facts();
        let other = HostFacts { cores: one.cores + 1, memory_mib: one.memory_mib + 1, ..one.clone() };
        assert_eq!(differences(&one, &one), [""; 0]);
        assert_eq!(differences(&one, &other), [format!("cores ({}, now {})", one.cores, other.cores)]);
        assert_eq!(differences(&one, &HostFacts { memory_mib: 2 * one.memory_mib, ..one.clone() }).len(), 1);
    }

    #[test]
    fn this_machine_has_cores_memory_and_a_kernel() {
        let facts = facts();
        assert!(facts.cores >= 1 && facts.memory_mib > 0 && facts.kernel.contains(' '), "{facts:?}");
    }
}
