//! `doctor`: whether this machine can run the experiments, and the one command that provides what is missing.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use clap::Args;
use nix::{
    sys::{
        resource::{Resource, getrlimit},
        time::TimeSpec,
    },
    time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep},
};
use stats::quantile;
use terminal::{FormatOption, Table};

use crate::{
    checkout::Checkout,
    exit::Exit,
    machine::{disk, host},
    system::{Systems, needs},
};

/// Fewer cores cannot be shared by load generator and system without one delaying the other.
const MIN_CORES: u32 = 2;
/// Memory below which the main experiment does not fit, in MiB.
const MIN_MEMORY_MIB: u64 = 4096;
/// Disk space that builds and runs need, in MiB.
const MIN_DISK_MIB: u64 = 8192;
/// File descriptors that a daemon needs for the main experiment.
const MIN_OPEN_FILES: u64 = 8192;
/// Sleeping later than this at p99 makes short runs invalid, in nanoseconds.
const MAX_OVERSLEEP_NS: i64 = 1_000_000;
/// Real-time priority of the load generator.
const REAL_TIME: u64 = 2;
/// The capability that permits it whatever the limit, as a bit of `CapEff` (`CAP_SYS_NICE`).
const NICE: u64 = 1 << 23;
/// Number of sleeps tried.
const SLEEPS: usize = 500;
/// Length of each sleep.
const SLEEP: Duration = Duration::from_millis(1);

/// Arguments of the subcommand.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  repro doctor\n  repro doctor --out /mnt/large/runs --format json")]
pub struct Arguments {
    /// Directory that a run would be written to (`repro run --out`), whose disk is checked; default: artifacts/runs
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    #[command(flatten)]
    output: FormatOption,
}

/// One property of the machine.
struct Finding {
    what: String,
    found: String,
    /// Remedy; empty if there is no problem.
    fix: String,
    /// True if nothing can be run without it.
    fatal: bool,
}

impl Finding {
    fn new(what: &str, found: impl Into<String>, good: bool, fix: &str) -> Self {
        let fix = if good { String::new() } else { fix.to_owned() };
        Self { what: what.to_owned(), found: found.into(), fix, fatal: false }
    }

    fn fatal(self) -> Self {
        Self { fatal: true, ..self }
    }
}

/// Examines the machine and prints the findings; fails if a requirement of every experiment is missing.
///
/// # Errors
/// If `systems.toml` is wrong.
pub fn run(arguments: &Arguments, checkout: &Checkout) -> anyhow::Result<Exit> {
    let runs = arguments.out.clone().unwrap_or_else(|| checkout.runs());
    let mut findings = hardware(&[("disk of the checkout", checkout.root()), ("disk of the runs", &runs)]);
    findings.extend([sleeping(), real_time(), ports(), descriptors()]);
    findings.extend(toolchain());
    for (name, system) in Systems::read(&checkout.systems())?.0 {
        let missing = needs::missing(&system);
        let found = if missing.is_empty() { "can run here".to_owned() } else { "cannot run here".to_owned() };
        findings.push(Finding::new(&format!("system {name}"), found, missing.is_empty(), &missing.join("; ")));
    }
    let mut table = Table::new(["check", "found", "fix"]);
    for finding in &findings {
        table.row([finding.what.clone(), finding.found.clone(), finding.fix.clone()]);
    }
    table.print(arguments.output.format)?;
    let broken = findings.iter().any(|finding| finding.fatal && !finding.fix.is_empty());
    Ok(if broken { Exit::Failed } else { Exit::Done })
}

fn hardware(disks: &[(&str, &Path)]) -> Vec<Finding> {
    let host = host::facts();
    let vulnerable: Vec<&str> = host
        .mitigations
        .iter()
        .filter(|(_, state)| state.starts_with("Mitigation"))
        .map(|(name, _)| name.as_str())
        .collect();
    let mitigations = if vulnerable.is_empty() { "none active".to_owned() } else { vulnerable.join(", ") };
    let clock_good = matches!(host.clock.as_str(), "tsc" | "kvm-clock" | "arch_sys_counter" | "");
    let clock_fix = "a slow clock source makes every time-stamp a system call: see /sys/devices/system/clocksource";
    let memory = format!("{} MiB", host.memory_mib);
    let disk = |(what, folder): &(&str, &Path)| {
        let free_mib = disk::free_mib(folder);
        let found = format!("{free_mib} MiB free for {}", folder.display());
        Finding::new(what, found, free_mib >= MIN_DISK_MIB, "free some disk space, or use another disk: --out DIR")
    };
    let mut findings = vec![
        Finding::new("processor", host.cpu, true, ""),
        Finding::new("cores", host.cores.to_string(), host.cores >= MIN_CORES, "use a machine with two cores or more"),
        Finding::new("memory", memory, host.memory_mib >= MIN_MEMORY_MIB, "sample fewer functions: --functions N"),
        Finding::new("kernel", host.kernel, true, ""),
        Finding::new("clock source", host.clock, clock_good, clock_fix),
        Finding::new("mitigations", mitigations, true, ""),
    ];
    findings.extend(disks.iter().map(disk));
    findings
}

/// Lateness of this machine's timers.
fn sleeping() -> Finding {
    let mut late_ns = Vec::with_capacity(SLEEPS);
    for _ in 0..SLEEPS {
        late_ns.extend(oversleep_ns());
    }
    late_ns.sort_unstable();
    let (Some(median), Some(p99)) = (quantile(&late_ns, 0.5), quantile(&late_ns, 0.99)) else {
        return Finding::new("sleeping", "cannot sleep on the monotonic clock", false, "use Linux").fatal();
    };
    let us = |ns: i64| ns as f64 / 1e3;
    let found = format!("late by {:.0} µs (median), {:.0} µs (p99)", us(median), us(p99));
    let fix = "stop other programs: load will be sent late, and a late run is invalid";
    Finding::new("sleeping", found, p99 <= MAX_OVERSLEEP_NS, fix)
}

/// Sleeps once until an absolute instant; returns how much later this thread ran.
fn oversleep_ns() -> Option<i64> {
    let clock = ClockId::CLOCK_MONOTONIC;
    let ns = |time: TimeSpec| Duration::from(time).as_nanos();
    let until = clock_gettime(clock).ok()? + TimeSpec::from(SLEEP);
    clock_nanosleep(clock, ClockNanosleepFlags::TIMER_ABSTIME, &until).ok()?;
    i64::try_from(ns(clock_gettime(clock).ok()?).saturating_sub(ns(until))).ok()
}

/// Permission of the load generator to have priority over the measured system.
fn real_time() -> Finding {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limit = getrlimit(Resource::RLIMIT_RTPRIO).map_or(0, |(soft, _)| soft);
    let permitted = may_be_real_time(&status, limit);
    let found = if permitted { "permitted" } else { "not permitted" };
    let fix = "at thousands of invocations per second the load generator may be late: permit it with a line \
               `USER - rtprio 2` in /etc/security/limits.conf (as root), and log in again";
    Finding::new("real-time priority", found, permitted, fix)
}

/// By the capability, as the text of `/proc/self/status` says, or by the limit.
fn may_be_real_time(status: &str, limit: u64) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    effective & NICE != 0 || limit >= REAL_TIME
}

fn ports() -> Finding {
    let free = TcpListener::bind(("127.0.0.1", 0)).is_ok();
    let found = if free { "can be taken on loopback" } else { "cannot be taken on loopback" };
    Finding::new("ports", found, free, "bring up the loopback device: ip link set lo up").fatal()
}

fn descriptors() -> Finding {
    let hard = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard);
    let fix = format!("raise the hard limit: ulimit -Hn {MIN_OPEN_FILES}");
    Finding::new("open files", format!("{hard} per process at most"), hard >= MIN_OPEN_FILES, &fix)
}

fn toolchain() -> Vec<Finding> {
    let tool = |what, program: &str, fix| {
        let found = version(program);
        Finding::new(what, found.clone().unwrap_or_else(|| "missing".to_owned()), found.is_some(), fix)
    };
    vec![
        tool("cargo", "cargo", "install Rust: https://rustup.rs").fatal(),
        tool("C compiler", "cc", "install one, for example: apt-get install gcc"),
        tool("git", "git", "install it, for example: apt-get install git"),
    ]
}

/// The first line that a program prints as its version.
fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned();
    output.status.success().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_time_priority_is_permitted_by_the_capability_or_by_the_limit() {
        let status = |bits: &str| format!("Name:\trepro\nCapPrm:\tffffffffffffffff\nCapEff:\t{bits}\n");
        assert!(may_be_real_time(&status("000001fffeffffff"), 0));
        assert!(!may_be_real_time(&status("000001ffff7fffff"), 1), "all but this one");
        assert!(may_be_real_time(&status("0000000000000000"), 2));
        assert!(!may_be_real_time("", 0));
    }
}
