//! Accounting of the operating system under `/proc`: pure parsers of its text files, and a function that reads each.

use std::{fs, io};

/// One line of `/proc/PID/stat`. Times are in clock ticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Process id.
    pub pid: i32,
    /// The program's name, cut to 15 bytes by the kernel.
    pub name: String,
    /// `R`, `S`, `D`, `Z` …
    pub state: char,
    /// Process id of the parent.
    pub parent: i32,
    /// CPU time in user mode.
    pub user_ticks: u64,
    /// CPU time in the kernel.
    pub sys_ticks: u64,
    /// The same of children that ended and were waited for, with theirs.
    pub children_user_ticks: u64,
    /// The same of children that ended and were waited for, with theirs.
    pub children_sys_ticks: u64,
}

impl Stat {
    /// Parses the line; `None` when it is not of the expected form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // The name is in parentheses and may itself contain spaces and parentheses, so its end is the last one.
        let (head, tail) = text.rsplit_once(')')?;
        let (pid, name) = head.split_once('(')?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse().ok();
        Some(Self {
            pid: pid.trim().parse().ok()?,
            name: name.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            user_ticks: number(11)?,
            sys_ticks: number(12)?,
            // The kernel prints these two as signed numbers; they are never negative.
            children_user_ticks: number(13)?,
            children_sys_ticks: number(14)?,
        })
    }

    /// Reads the line of a process; `None` when there is no such process any more.
    #[must_use]
    pub fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Reads the lines of all processes.
    ///
    /// # Errors
    /// If `/proc` cannot be listed.
    pub fn read_all() -> io::Result<Vec<Self>> {
        let entries = fs::read_dir("/proc")?;
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Ok(pids.filter_map(Self::read).collect())
    }
}

/// The lines of `/proc/PID/status` that are used. Memory is that of the process, context switches those of one thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Greatest resident memory so far, in bytes.
    pub peak_rss_bytes: u64,
    /// Resident memory now, in bytes.
    pub rss_bytes: u64,
    /// Context switches so far, voluntary and not.
    pub ctx_switches: u64,
}

impl Status {
    /// Parses the text; a line that is missing, as for a zombie, counts as 0.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let field = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Self {
            peak_rss_bytes: field("VmHWM") * 1024,
            rss_bytes: field("VmRSS") * 1024,
            ctx_switches: field("voluntary_ctxt_switches") + field("nonvoluntary_ctxt_switches"),
        }
    }

    /// Reads the text of a process, with the context switches of all its threads; `None` when there is no such process
    /// any more.
    #[must_use]
    pub fn read(pid: i32) -> Option<Self> {
        let process = Self::parse(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?);
        let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.filter_map(Result::ok);
        let statuses = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
        Some(Self { ctx_switches: statuses.map(|text| Self::parse(&text).ctx_switches).sum(), ..process })
    }
}

/// The whole machine's line and the switches of `/proc/stat`. Times are in clock ticks, summed over all cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// User mode, niced or not.
    pub user_ticks: u64,
    /// Kernel on behalf of processes.
    pub sys_ticks: u64,
    /// Interrupts, hard and soft: attributed to no process.
    pub irq_ticks: u64,
    /// Idle.
    pub idle_ticks: u64,
    /// Taken by the hypervisor for other machines.
    pub steal_ticks: u64,
    /// Context switches.
    pub ctx_switches: u64,
}

impl Machine {
    /// Parses the text; `None` when it is not of the expected form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
        let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = ticks[..] else { return None };
        let switches = text.lines().find_map(|line| line.strip_prefix("ctxt "))?.trim().parse().ok()?;
        Some(Self {
            user_ticks: user + nice,
            sys_ticks: system,
            irq_ticks: irq + softirq,
            idle_ticks: idle + iowait,
            steal_ticks: steal,
            ctx_switches: switches,
        })
    }

    /// Reads the text.
    ///
    /// # Errors
    /// If the file cannot be read or is not of the expected form.
    pub fn read() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        Self::parse(&text).ok_or_else(|| io::Error::other("/proc/stat is not of the expected form"))
    }
}

/// The descendants of `ancestor` in `all`, without those in `apart` and their descendants.
#[must_use]
pub fn descendants<'a>(all: &'a [Stat], ancestor: i32, apart: &[i32]) -> Vec<&'a Stat> {
    let mut family = vec![ancestor];
    let mut found: Vec<&'a Stat> = Vec::new();
    // The loop ends: a process is added once, because it has one parent.
    while let Some(parent) = family.pop() {
        for child in
            all.iter().filter(|stat| stat.parent == parent && stat.pid != ancestor && !apart.contains(&stat.pid))
        {
            family.push(child.pid);
            found.push(child);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    // Recorded on Linux 6.8.
    const STAT: &str = "4242 (tokio (rt) w) S 4200 4242 4242 0 -1 4194304 1524 900 3 0 \
        157 43 12 5 20 0 9 0 8812345 1239408640 2731 18446744073709551615 1 1 0 0 0 0 0 4096 17663 0 0 0 17 1 0 0 0 0 0";
    const STATUS: &str = "Name:\tdirigent\nUmask:\t0022\nState:\tS (sleeping)\nPid:\t4242\nVmPeak:\t 1210360 kB\n\
        VmHWM:\t   11204 kB\nVmRSS:\t   10924 kB\nThreads:\t9\nvoluntary_ctxt_switches:\t1200\n\
        nonvoluntary_ctxt_switches:\t34\n";
    const MACHINE: &str = "cpu  1000 20 300 40000 50 6 70 8 0 0\ncpu0 500 10 150 20000 25 3 35 4 0 0\n\
        intr 12345 0 0\nctxt 987654\nbtime 1700000000\nprocesses 4321\n";

    #[test]
    fn a_process_line_is_read_whatever_its_name() {
        let stat = Stat::parse(STAT).unwrap();
        assert_eq!((stat.pid, stat.name.as_str(), stat.state, stat.parent), (4242, "tokio (rt) w", 'S', 4200));
        assert_eq!((stat.user_ticks, stat.sys_ticks), (157, 43));
        assert_eq!((stat.children_user_ticks, stat.children_sys_ticks), (12, 5));
        assert_eq!(Stat::parse("4242 (cut) S 1"), None);
    }

    #[test]
    fn memory_and_switches_are_read_and_a_zombie_has_none() {
        let status = Status::parse(STATUS);
        let expected = Status { peak_rss_bytes: 11_204 * 1024, rss_bytes: 10_924 * 1024, ctx_switches: 1234 };
        assert_eq!(status, expected);
        assert_eq!(Status::parse("Name:\tgone\nState:\tZ (zombie)\n"), Status::default());
    }

    #[test]
    fn the_machine_is_the_line_of_all_cores() {
        let expected = Machine {
            user_ticks: 1020,
            sys_ticks: 300,
            irq_ticks: 76,
            idle_ticks: 40_050,
            steal_ticks: 8,
            ctx_switches: 987_654,
        };
        assert_eq!(Machine::parse(MACHINE), Some(expected));
        assert_eq!(Machine::parse("cpu  1 2 3\nctxt 1\n"), None);
    }

    #[test]
    fn descendants_are_found_over_generations() {
        let process = |pid, parent| Stat { pid, parent, ..Stat::parse(STAT).unwrap() };
        let all = [process(2, 1), process(3, 2), process(4, 3), process(5, 1), process(6, 5)];
        let found: Vec<i32> = descendants(&all, 2, &[]).iter().map(|stat| stat.pid).collect();
        assert_eq!(found, [3, 4]);
        assert!(descendants(&all, 2, &[3]).is_empty(), "what stands apart has its own family");
    }

    #[test]
    fn this_very_process_and_machine_can_be_read() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert_eq!(Stat::read(pid).unwrap().pid, pid);
        assert!(Status::read(pid).unwrap().peak_rss_bytes > 0);
        assert!(Machine::read().unwrap().ctx_switches > 0);
    }

    #[test]
    fn switches_of_every_thread_are_counted() {
        let (mut near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
        let echo = std::thread::spawn(move || io::copy(&mut far.try_clone().unwrap(), &mut far));
        let mut byte = [1];
        for _ in 0..100 {
            io::Write::write_all(&mut near, &byte).unwrap();
            io::Read::read_exact(&mut near, &mut byte).unwrap();
        }
        let main_thread = Status::parse(&fs::read_to_string("/proc/self/status").unwrap()).ctx_switches;
        let all = Status::read(i32::try_from(std::process::id()).unwrap()).unwrap().ctx_switches;
        drop(near);
        echo.join().unwrap().unwrap();
        assert!(all >= main_thread + 50, "two threads waited a hundred times for each other: {all}, {main_thread}");
    }
}
