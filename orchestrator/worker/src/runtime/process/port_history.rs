//! When sandboxes had which port, in a file, so that a worker that is started again lets those of the one before rest, too.
//!
//! Each port has four bytes at a place of its own: a change is one write, and nothing has to be tidied up. What is written
//! outlives the process; what a machine loses that crashes costs no more than the rest of these ports.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// Bytes of one port: when its last sandbox ended, as [`now`] says it; 0 where there was none.
const ENTRY_BYTES: usize = 4;
/// Stands for the time of a sandbox that has not ended.
const IN_USE: u32 = u32::MAX;

/// The file of one worker.
#[derive(Debug)]
pub(super) struct PortHistory(File);

impl PortHistory {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map(Self)
    }

    /// The ports that sandboxes have had, each with when its last one ended, the first of these in front. The last ones are
    /// those that the worker before had at its own end, which counts as now.
    pub(super) fn used(&self) -> io::Result<Vec<(u16, u32)>> {
        let mut bytes = Vec::new();
        (&self.0).read_to_end(&mut bytes)?;
        let (times, _) = bytes.as_chunks::<ENTRY_BYTES>();
        let times = times.iter().map(|bytes| u32::from_le_bytes(*bytes));
        let mut used: Vec<(u16, u32)> = (0..=u16::MAX).zip(times).filter(|(_, time)| *time > 0).collect();
        used.sort_unstable_by_key(|(port, time)| (*time, *port));
        let ended = used.iter().rev().find(|(_, time)| *time != IN_USE);
        let now = now(ended.map_or(0, |(_, time)| *time));
        for (port, time) in used.iter_mut().filter(|(_, time)| *time == IN_USE) {
            *time = now;
            self.ended(*port, now);
        }
        Ok(used)
    }

    /// A sandbox has this port from now on.
    pub(super) fn begun(&self, port: u16) {
        self.note(port, IN_USE);
    }

    /// The sandbox with this port has ended, at a time of [`now`].
    pub(super) fn ended(&self, port: u16, time: u32) {
        self.note(port, time);
    }

    fn note(&self, port: u16, time: u32) {
        // Where that fails, for example for want of room, the port rests no longer than this process lives.
        let _ = self.0.write_all_at(&time.to_le_bytes(), u64::from(port) * ENTRY_BYTES as u64);
    }
}

/// The time in seconds since 1970, never 0. Where the clock is behind the `newest` one that is known, for example because
/// it began at 1970, times only count: whatever ends is later than what ended before.
pub(super) fn now(newest: u32) -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let clock = u32::try_from(since.as_secs()).unwrap_or(IN_USE);
    if clock < newest { newest.saturating_add(1).min(IN_USE - 1) } else { clock.clamp(1, IN_USE - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_found_again_in_the_order_in_which_they_came_free() {
        let dir = tempfile::tempdir().unwrap();
        let open = || PortHistory::open(&dir.path().join("ports")).unwrap();
        let history = open();
        let ports =
            |history: PortHistory| -> Vec<u16> { history.used().unwrap().iter().map(|(port, _)| *port).collect() };
        assert_eq!(ports(open()), Vec::<u16>::new());
        history.begun(7);
        history.note(u16::MAX, 1000);
        history.begun(0);
        history.note(9, 999);
        let used = open().used().unwrap();
        assert_eq!(used[..2], [(9, 999), (u16::MAX, 1000)]);
        assert_eq!([used[2].0, used[3].0], [0, 7], "those of killed sandboxes last");
        assert!(used[2].1 > 1000 && used[2].1 == used[3].1, "which have ended when that was found: {used:?}");
        open().note(8, IN_USE - 2);
        assert_eq!(ports(open()), [9, u16::MAX, 0, 7, 8]);
        history.begun(9);
        assert_eq!(open().used().unwrap().last(), Some(&(9, IN_USE - 1)), "also where the clock is behind");
    }
}
