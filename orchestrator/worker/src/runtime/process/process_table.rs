//! A snapshot of the processes of this machine, with the parent and the memory of each.
//!
//! Reading it costs about 10 µs a process, so it is taken on a timer and never for a single creation.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
};

use nix::unistd::{SysconfVar, sysconf};

/// Size of a page if the system does not report it.
const DEFAULT_PAGE_BYTES: u64 = 4096;
/// Fields of `/proc/PID/stat` after the name (proc_pid_stat(5), where the state is field 3), as indices.
const STATE: usize = 0;
const PARENT: usize = 1;
const GROUP: usize = 2;
const START: usize = 19;
const RESIDENT: usize = 21;

/// A process, at the time of the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: Id,
    pub(super) parent: i32,
    pub(super) group: i32,
    /// Ended and not reaped.
    pub(super) is_zombie: bool,
    /// Pages in memory, shared ones included.
    resident_pages: u64,
}

/// Identifies a process for ever: its number alone is reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id {
    pub(super) pid: i32,
    /// Start time, in clock ticks since the machine's boot.
    start: u64,
}

/// All processes, by number and by parent.
pub(super) struct ProcessTable {
    entries: HashMap<i32, Entry>,
    children: HashMap<i32, Vec<i32>>,
}

impl ProcessTable {
    /// Reads `/proc`. Processes that end while it is read are left out.
    pub(super) fn take() -> io::Result<Self> {
        let numbers = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let mut table = Self { entries: HashMap::new(), children: HashMap::new() };
        for entry in numbers.filter_map(read) {
            table.children.entry(entry.parent).or_default().push(entry.id.pid);
            table.entries.insert(entry.id.pid, entry);
        }
        Ok(table)
    }

    /// The process `root` and all that descend from it.
    pub(super) fn tree(&self, root: i32) -> Vec<Entry> {
        // A number that is reused while `/proc` is read can make a cycle.
        let mut seen = HashSet::from([root]);
        let mut waiting = vec![root];
        let mut tree = Vec::new();
        while let Some(pid) = waiting.pop() {
            tree.extend(self.entries.get(&pid));
            waiting.extend(self.children.get(&pid).into_iter().flatten().filter(|child| seen.insert(**child)));
        }
        tree
    }

    /// The processes whose parent is `parent`.
    pub(super) fn children(&self, parent: i32) -> impl Iterator<Item = Entry> {
        let numbers = self.children.get(&parent).into_iter().flatten();
        numbers.filter_map(|pid| self.entries.get(pid)).copied()
    }
}

impl Entry {
    /// Upper bound of the memory it holds, in bytes.
    pub(super) fn resident_bytes(&self) -> u64 {
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|bytes| u64::try_from(bytes).ok());
        self.resident_pages.saturating_mul(page.unwrap_or(DEFAULT_PAGE_BYTES))
    }

    /// Its proportional share of anonymous and shared memory, in bytes. Slow, because the kernel walks its page tables.
    pub(super) fn held_bytes(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.id.pid)).unwrap_or_default();
        let kib =
            |key| text.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_suffix("kB")?.trim().parse().ok());
        match (kib("Pss_Anon:"), kib("Pss_Shmem:")) {
            // Pages of mapped files are left out: the kernel can reclaim them and read them again.
            (Some(private), Some(shared)) => u64::saturating_add(private, shared).saturating_mul(1024),
            _ => self.resident_bytes(),
        }
    }
}

impl Id {
    /// Returns true if the process still exists, and its number has not been reused.
    pub(super) fn is_current(self) -> bool {
        read(self.pid).is_some_and(|entry| entry.id == self)
    }
}

fn read(pid: i32) -> Option<Entry> {
    parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Parses `/proc/PID/stat`. The name, in parentheses, may itself have spaces and parentheses.
fn parse(pid: i32, stat: &str) -> Option<Entry> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    Some(Entry {
        id: Id { pid, start: fields.get(START)?.parse().ok()? },
        parent: fields.get(PARENT)?.parse().ok()?,
        group: fields.get(GROUP)?.parse().ok()?,
        is_zombie: matches!(*fields.get(STATE)?, "Z" | "X"),
        resident_pages: fields.get(RESIDENT)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_parsed_whatever_its_name() {
        let stat = "7 (a) S 1) (b) Z 3 4 5 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 1000 42 18446744073709551615";
        let entry = parse(7, stat).unwrap();
        let id = Id { pid: 7, start: 12_345 };
        assert_eq!(entry, Entry { id, parent: 3, group: 4, is_zombie: true, resident_pages: 42 });
        assert_eq!(parse(7, "7 (short) S 1 2"), None);
    }

    #[test]
    fn a_tree_has_its_descendants_and_no_others() {
        let entry =
            |pid, parent| Entry { id: Id { pid, start: 0 }, parent, group: pid, is_zombie: false, resident_pages: 1 };
        // 5 and 6 are each other's parents, which only a number used again can cause.
        let entries = [(1, 0), (2, 1), (3, 2), (4, 1), (5, 6), (6, 5)].map(|(pid, parent)| (pid, entry(pid, parent)));
        let children = HashMap::from([(1, vec![2, 4]), (2, vec![3]), (5, vec![6]), (6, vec![5])]);
        let table = ProcessTable { entries: HashMap::from(entries), children };
        let pids = |root| {
            let mut pids: Vec<i32> = table.tree(root).iter().map(|entry| entry.id.pid).collect();
            pids.sort_unstable();
            pids
        };
        assert_eq!((pids(1), pids(2), pids(5), pids(9)), (vec![1, 2, 3, 4], vec![2, 3], vec![5, 6], vec![]));
    }
}
