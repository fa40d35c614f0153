//! Resource use of every process over the measured part of a point: sampled during the load, cut to the window
//! afterwards.
//!
//! The window is known only once the load generator has reported its start, so all samples are kept until then.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::unistd::{SysconfVar, sysconf};
use record::{MachineTime, ProcessRole, ProcessUsage};

use crate::machine::{
    disk::{self, Transfers},
    proc::{Machine, Stat, Status, descendants},
};

/// Time between two samples: short compared with any window, and long compared with the millisecond that reading all of
/// `/proc` takes.
const INTERVAL: Duration = Duration::from_secs(1);

/// Poll interval of the sampler for its end.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Name of the whole machine's row.
pub const MACHINE: &str = ProcessUsage::MACHINE;
/// Name of the load generator's row.
pub const LOAD_GENERATOR: &str = ProcessUsage::LOAD_GENERATOR;
/// Name of this program's own row.
pub const RUNNER: &str = ProcessUsage::RUNNER;

/// Suffix of a role that includes all processes that it started.
const FAMILY: &str = " sandboxes";

/// Returns true for a role that the runner assigns itself: no process of a system may have it.
#[must_use]
pub fn is_reserved(role: &str) -> bool {
    ProcessRole::of(role) != ProcessRole::System || role.ends_with(FAMILY)
}

/// Resources that a process had used up to an instant. Times are in clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// CPU time in user mode.
    pub user_ticks: u64,
    /// CPU time in the kernel.
    pub sys_ticks: u64,
    /// Greatest resident memory, in bytes.
    pub peak_rss_bytes: u64,
    /// Context switches.
    pub ctx_switches: u64,
}

/// Resource usage of everything at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Instant of the sample, in nanoseconds since the Unix epoch.
    pub unix_ns: i64,
    /// The whole machine.
    pub machine: Machine,
    /// Its physical disks, by name.
    pub disks: BTreeMap<String, Transfers>,
    /// Processes by role; what a process started counts as `ROLE sandboxes`.
    pub processes: BTreeMap<String, Used>,
}

/// Takes samples until it is stopped.
#[derive(Debug)]
pub struct Sampler {
    samples: Arc<Mutex<Vec<Sample>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Begins to sample the processes given by role and id.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(processes: Vec<(String, i32)>) -> std::io::Result<Self> {
        let samples = Arc::<Mutex<Vec<Sample>>>::default();
        let end = Arc::new(AtomicBool::new(false));
        let (kept, ending) = (Arc::clone(&samples), Arc::clone(&end));
        let thread = thread::Builder::new().name("sampler".to_owned()).spawn(move || {
            let mut watch = Watch { processes, disks: disk::physical(), last: BTreeMap::new() };
            let mut due = 0;
            let looks_per_sample = INTERVAL.as_millis() / POLL_INTERVAL.as_millis();
            while !ending.load(Ordering::SeqCst) {
                if due == 0 {
                    kept.lock().unwrap_or_else(PoisonError::into_inner).extend(watch.sample());
                    due = looks_per_sample;
                }
                due -= 1;
                thread::sleep(POLL_INTERVAL);
            }
            kept.lock().unwrap_or_else(PoisonError::into_inner).extend(watch.sample());
        })?;
        Ok(Self { samples, end, thread: Some(thread) })
    }

    /// Takes a last sample and returns all of them.
    #[must_use]
    pub fn finish(mut self) -> Vec<Sample> {
        self.end();
        std::mem::take(&mut *self.samples.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn end(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // After a failed sample the earlier ones are still valid.
            let _ = thread.join();
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.end();
    }
}

/// The processes watched and what is known of them; an ended process keeps its last values.
struct Watch {
    processes: Vec<(String, i32)>,
    disks: Vec<String>,
    last: BTreeMap<String, Used>,
}

impl Watch {
    fn sample(&mut self) -> Option<Sample> {
        let all = Stat::read_all().ok()?;
        let machine = Machine::read().ok()?;
        let watched: Vec<i32> = self.processes.iter().map(|(_, pid)| *pid).collect();
        for (role, pid) in &self.processes {
            let Some(own) = all.iter().find(|stat| stat.pid == *pid && stat.state != 'Z') else { continue };
            let status = Status::read(*pid).unwrap_or_default();
            let used = Used {
                user_ticks: own.user_ticks,
                sys_ticks: own.sys_ticks,
                peak_rss_bytes: status.peak_rss_bytes,
                ctx_switches: status.ctx_switches,
            };
            self.last.insert(role.clone(), used);
            let family = if *role == RUNNER { Vec::new() } else { descendants(&all, *pid, &watched) };
            let role = format!("{role}{FAMILY}");
            if !family.is_empty() || self.last.contains_key(&role) {
                let before = self.last.get(&role).copied().unwrap_or_default();
                self.last.insert(role, children(own, &family, before));
            }
        }
        let unix_ns = i64::try_from(jiff::Timestamp::now().as_nanosecond()).ok()?;
        Some(Sample { unix_ns, machine, disks: disk::transfers(&self.disks), processes: self.last.clone() })
    }
}

/// Resources used by the children of `own`: of live ones, and of ended ones that were waited for. The context switches
/// of an ended child are no longer known, so that the count never falls but may miss some.
fn children(own: &Stat, family: &[&Stat], before: Used) -> Used {
    let statuses: Vec<Status> = family.iter().filter_map(|stat| Status::read(stat.pid)).collect();
    let live_user: u64 = family.iter().map(|stat| stat.user_ticks + stat.children_user_ticks).sum();
    let live_sys: u64 = family.iter().map(|stat| stat.sys_ticks + stat.children_sys_ticks).sum();
    let rss: u64 = statuses.iter().map(|status| status.rss_bytes).sum();
    let switches: u64 = statuses.iter().map(|status| status.ctx_switches).sum();
    Used {
        user_ticks: (own.children_user_ticks + live_user).max(before.user_ticks),
        sys_ticks: (own.children_sys_ticks + live_sys).max(before.sys_ticks),
        peak_rss_bytes: rss.max(before.peak_rss_bytes),
        ctx_switches: switches.max(before.ctx_switches),
    }
}

/// The samples nearest to the two ends of a window; `None` if there are fewer than two.
#[must_use]
pub fn window(samples: &[Sample], from_unix_ns: i64, to_unix_ns: i64) -> Option<(&Sample, &Sample)> {
    let nearest = |at: i64| samples.iter().min_by_key(|sample| sample.unix_ns.abs_diff(at));
    let (first, last) = (nearest(from_unix_ns)?, nearest(to_unix_ns)?);
    (first.unix_ns < last.unix_ns).then_some((first, last))
}

/// The rows of `processes.csv`: usage between two samples.
#[must_use]
pub fn rows(first: &Sample, last: &Sample) -> Vec<ProcessUsage> {
    let mut rows: Vec<ProcessUsage> = last
        .processes
        .iter()
        .map(|(role, end)| {
            let begin = first.processes.get(role).copied().unwrap_or_default();
            ProcessUsage {
                process: role.clone(),
                cpu_user_us: ticks_us(end.user_ticks.saturating_sub(begin.user_ticks)),
                cpu_sys_us: ticks_us(end.sys_ticks.saturating_sub(begin.sys_ticks)),
                rss_bytes: end.peak_rss_bytes,
                ctx_switches: end.ctx_switches.saturating_sub(begin.ctx_switches),
            }
        })
        .collect();
    let spent = machine_time(first, last);
    rows.push(ProcessUsage {
        process: MACHINE.to_owned(),
        cpu_user_us: spent.user_us,
        cpu_sys_us: spent.sys_us + spent.irq_us,
        rss_bytes: 0,
        ctx_switches: last.machine.ctx_switches.saturating_sub(first.machine.ctx_switches),
    });
    rows
}

/// Time of all cores by use between two samples.
#[must_use]
pub fn machine_time(first: &Sample, last: &Sample) -> MachineTime {
    let (a, b) = (first.machine, last.machine);
    MachineTime {
        user_us: ticks_us(b.user_ticks.saturating_sub(a.user_ticks)),
        sys_us: ticks_us(b.sys_ticks.saturating_sub(a.sys_ticks)),
        irq_us: ticks_us(b.irq_ticks.saturating_sub(a.irq_ticks)),
        idle_us: ticks_us(b.idle_ticks.saturating_sub(a.idle_ticks)),
        steal_us: ticks_us(b.steal_ticks.saturating_sub(a.steal_ticks)),
    }
}

/// Clock ticks in microseconds.
fn ticks_us(ticks: u64) -> u64 {
    const USUAL_HZ: u64 = 100;
    let hz = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|hz| u64::try_from(hz).ok()).filter(|hz| *hz > 0);
    ticks * 1_000_000 / hz.unwrap_or(USUAL_HZ)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(unix_ns: i64, ticks: u64) -> Sample {
        let used = Used { user_ticks: ticks, sys_ticks: ticks / 2, peak_rss_bytes: ticks + 7, ctx_switches: ticks };
        let machine = Machine { user_ticks: 10 * ticks, irq_ticks: ticks, ..Machine::default() };
        let disks = BTreeMap::new();
        Sample { unix_ns, machine, disks, processes: BTreeMap::from([("worker-1".to_owned(), used)]) }
    }

    #[test]
    fn a_window_is_cut_by_the_nearest_samples() {
        let samples: Vec<Sample> = (0u32..10).map(|i| sample(i64::from(i) * 1000, u64::from(i) * 100)).collect();
        let (first, last) = window(&samples, 2400, 8600).unwrap();
        assert_eq!((first.unix_ns, last.unix_ns), (2000, 9000));
        let rows = rows(first, last);
        assert_eq!(rows[0].process, "worker-1");
        assert_eq!((rows[0].cpu_user_us, rows[0].cpu_sys_us), (ticks_us(700), ticks_us(350)));
        assert_eq!((rows[0].rss_bytes, rows[0].ctx_switches), (907, 700));
        assert_eq!((rows[1].process.as_str(), rows[1].cpu_user_us), (MACHINE, ticks_us(7000)));
        assert_eq!(window(&samples[..1], 0, 1000), None, "one sample is no window");
    }

    #[test]
    fn the_cpu_of_children_that_ended_is_kept() {
        let text = "7 (worker) S 1 7 7 0 -1 0 0 0 0 0 10 5 300 100 20 0 1 0 1 1 1 1";
        let own = Stat::parse(text).unwrap();
        let used = children(&own, &[], Used { user_ticks: 200, ctx_switches: 9, ..Used::default() });
        assert_eq!((used.user_ticks, used.sys_ticks, used.ctx_switches), (300, 100, 9));
    }

    #[test]
    fn a_sampler_sees_the_process_it_watches() {
        let own = i32::try_from(std::process::id()).unwrap();
        let samples = Sampler::start(vec![("self".to_owned(), own)]).unwrap().finish();
        let last = samples.last().expect("a last sample is taken when it ends");
        assert!(last.processes["self"].peak_rss_bytes > 0, "{last:?}");
        assert_eq!(last.disks.is_empty(), disk::physical().is_empty(), "{last:?}");
    }
}
