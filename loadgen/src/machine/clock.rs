//! The kernel's monotonic clock, sleeps until an absolute instant of it, and the priority of the thread that sleeps.
//!
//! This is the only file of the load generator that calls the kernel without a safe wrapper: `nix` has none for
//! `sched_setscheduler` and `sched_setattr`. Everything that is timed is timed on the one clock of this file.

use std::{fmt, sync::OnceLock};

use nix::{
    errno::Errno,
    sys::{prctl, time::TimeSpec},
    time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep},
};

/// A monotonic clock that counts nanoseconds from an instant of its own, the run's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin_ns: u64,
    origin_unix_ns: i64,
}

impl Clock {
    /// A clock whose zero is `lead_ns` in the future.
    pub(crate) fn starting_in(lead_ns: u64) -> Self {
        let unix_ns = i64::try_from(raw_ns(ClockId::CLOCK_REALTIME).saturating_add(lead_ns)).unwrap_or(i64::MAX);
        Self { origin_ns: raw_ns(ClockId::CLOCK_MONOTONIC).saturating_add(lead_ns), origin_unix_ns: unix_ns }
    }

    /// Nanoseconds since zero; 0 before it.
    pub(crate) fn now_ns(&self) -> u64 {
        raw_ns(ClockId::CLOCK_MONOTONIC).saturating_sub(self.origin_ns)
    }

    /// Zero of this clock in nanoseconds since the Unix epoch.
    pub(crate) fn origin_unix_ns(&self) -> i64 {
        self.origin_unix_ns
    }

    /// Sleeps until the clock shows `due_ns`; returns at once when it already does.
    pub(crate) fn sleep_until(&self, due_ns: u64) {
        let at = self.origin_ns.saturating_add(due_ns);
        let seconds = i64::try_from(at / NANOS_PER_SECOND).unwrap_or(i64::MAX);
        let nanos = i64::try_from(at % NANOS_PER_SECOND).unwrap_or(0);
        let until = TimeSpec::new(seconds, nanos);
        while clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &until) == Err(Errno::EINTR)
        {
        }
    }
}

/// Nanoseconds in a second.
pub(crate) const NANOS_PER_SECOND: u64 = 1_000_000_000;

fn raw_ns(clock: ClockId) -> u64 {
    // Neither clock can fail on Linux; a zero would show as an absurd lag rather than pass unnoticed.
    let now = clock_gettime(clock).unwrap_or_else(|_| TimeSpec::new(0, 0));
    let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
    seconds.saturating_mul(NANOS_PER_SECOND).saturating_add(u64::try_from(now.tv_nsec()).unwrap_or(0))
}

/// CPU time the calling thread has used, in nanoseconds.
pub(crate) fn thread_cpu_ns() -> u64 {
    raw_ns(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// The threads that ask for real-time priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Realtime {
    /// None.
    Off,
    /// The pacing thread.
    Pacing,
    /// The pacing thread, and those that open connections and read responses: on a busy machine they would otherwise wait
    /// behind the system they measure, and their wait would count as its latency.
    All,
}

impl Realtime {
    /// Priority the pacing thread asks for.
    pub(crate) fn pacing(self) -> Option<i32> {
        (self != Self::Off).then_some(PACING_PRIORITY)
    }

    /// Priority the I/O threads ask for.
    pub(crate) fn io(self) -> Option<i32> {
        (self == Self::All).then_some(IO_PRIORITY)
    }
}

/// The scheduling that the kernel granted a thread that must wake on time.
#[derive(Clone, Debug)]
pub(crate) struct PacingClass {
    scheduler: String,
    slack: String,
}

impl fmt::Display for PacingClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.scheduler, self.slack)
    }
}

/// Real-time priority of the I/O threads: the lowest, above every ordinary thread and below whatever
/// the kernel or an operator placed higher.
const IO_PRIORITY: i32 = 1;

/// Real-time priority of the pacing thread: it preempts the I/O threads, because a late send cannot be made up for.
const PACING_PRIORITY: i32 = 2;

/// The time slice asked for without real-time priority: the shortest that Linux grants. From 6.12 on, a thread with a
/// short slice that wakes goes before those with longer ones, so that it need not wait for the system it measures.
const SLICE_NS: u64 = 100_000;

/// Makes the calling thread wake as promptly as the kernel allows: timer slack 1 ns, and a real-time priority if one is
/// wanted and permitted, else the shortest time slice. What could not be had is said in the result, never an error: lag
/// is measured anyway.
pub(crate) fn request_prompt_wakeups(priority: Option<i32>) -> PacingClass {
    let slack = match prctl::set_timerslack(1).and_then(|()| prctl::get_timerslack()) {
        Ok(slack_ns) => format!("timer slack {slack_ns} ns"),
        Err(error) => format!("default timer slack ({})", error.desc()),
    };
    let why_not = match priority.map(|priority| (priority, set_fifo(priority))) {
        None => "real-time not asked for".to_owned(),
        Some((priority, Ok(()))) => return PacingClass { scheduler: format!("SCHED_FIFO {priority}"), slack },
        Some((_, Err(error))) => format!("real-time refused: {}", error.desc()),
    };
    let slice = match set_slice(SLICE_NS) {
        Ok(()) => format!("slice of {} µs asked for", SLICE_NS / 1000),
        Err(error) => format!("default slice: {}", error.desc()),
    };
    PacingClass { scheduler: format!("SCHED_OTHER ({why_not}; {slice})"), slack }
}

#[allow(unsafe_code, reason = "nix wraps no sched_setscheduler; the one call below is all there is")]
fn set_fifo(priority: i32) -> Result<(), Errno> {
    // SAFETY: `sched_param` is plain data for which all zero bytes are valid (some libcs have more fields than one).
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = priority;
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: 0 means the calling thread; the pointer is to a live, initialised value that the kernel only reads.
    Errno::result(unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) }).map(drop)
}

/// Asks for a time slice; a kernel that knows none ignores it.
#[allow(unsafe_code, reason = "neither libc nor nix wraps sched_getattr and sched_setattr, called here once each")]
fn set_slice(slice_ns: u64) -> Result<(), Errno> {
    let size = size_of::<libc::sched_attr>();
    // SAFETY: plain data for which all zero bytes are valid.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    // SAFETY: 0 means the calling thread and, last, no flags; the kernel writes at most the size stated.
    Errno::result(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) })?;
    attributes.sched_runtime = slice_ns;
    // SAFETY: as above; the kernel reads the size that the value itself states, which it wrote there just now.
    Errno::result(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw mut attributes, 0) }).map(drop)
}

/// The kernel's clock source. With `tsc` the clock is read without a system call; with others that costs a microsecond.
pub(crate) fn clock_source() -> &'static str {
    static SOURCE: OnceLock<String> = OnceLock::new();
    SOURCE.get_or_init(|| {
        std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource")
            .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_ends_at_its_instant_or_after() {
        let clock = Clock::starting_in(0);
        for step in 1..=5 {
            let due = step * 2_000_000;
            clock.sleep_until(due);
            assert!(clock.now_ns() >= due, "woke before {due} ns");
        }
        let before = clock.now_ns();
        clock.sleep_until(0);
        assert!(clock.now_ns() - before < NANOS_PER_SECOND, "a sleep into the past must return at once");
    }

    #[test]
    fn a_clock_shows_zero_until_its_start() {
        assert_eq!(Clock::starting_in(3_600 * NANOS_PER_SECOND).now_ns(), 0);
    }

    #[test]
    fn a_thread_reports_the_scheduling_it_got() {
        let report = std::thread::spawn(|| request_prompt_wakeups(None).to_string()).join().unwrap();
        assert!(report.contains("SCHED_OTHER") && report.contains("timer slack 1 ns"), "{report}");
        assert!(report.contains("slice of 100 µs"), "{report}");
    }
}
