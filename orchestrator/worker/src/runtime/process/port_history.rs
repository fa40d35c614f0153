//! A file with the time at which the last sandbox of each port ended, so that a restarted worker gives out the most
//! recently used ports last.
//!
//! Each port has four bytes at an offset of its own, so a change is one write and the file needs no compaction. It is
//! not synced: it survives the process, and after a crash of the machine no connection to those ports is left either.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// Bytes of one port: the time of [`now`] at which its last sandbox ended; 0 if it had none.
const ENTRY_BYTES: usize = 4;
/// The entry of a port whose sandbox has not ended.
const IN_USE: u32 = u32::MAX;

/// The history of one worker.
#[derive(Debug)]
pub(super) struct PortHistory(File);

impl PortHistory {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map(Self)
    }

    /// The ports that sandboxes have had, with the times at which the last ones ended, oldest first. A port that was in
    /// use when the worker before was killed counts as ended now.
    pub(super) fn used(&self) -> io::Result<Vec<(u16, u32)>> {
        let mut bytes = Vec::new();
        (&self.0).read_to_end(&mut bytes)?;
        let (times, _) = bytes.as_chunks::<ENTRY_BYTES>();
        let times = times.iter().map(|bytes| u32::from_le_bytes(*bytes));
        let mut used: Vec<(u16, u32)> = (0..=u16::MAX).zip(times).filter(|(_, time)| *time > 0).collect();
        // Ports in use have the greatest number and so come last.
        used.sort_unstable_by_key(|(port, time)| (*time, *port));
        let ended = used.iter().rev().find(|(_, time)| *time != IN_USE);
        let now = now(ended.map_or(0, |(_, time)| *time));
        for (port, time) in used.iter_mut().filter(|(_, time)| *time == IN_USE) {
            *time = now;
            // Written back, or each further restart would count it as ended only then.
            self.record_end(*port, now);
        }
        Ok(used)
    }

    /// Records that a sandbox uses `port`.
    pub(super) fn record_use(&self, port: u16) {
        self.write(port, IN_USE);
    }

    /// Records that the sandbox of `port` ended at `time`, a time of [`now`].
    pub(super) fn record_end(&self, port: u16, time: u32) {
        self.write(port, time);
    }

    fn write(&self, port: u16, time: u32) {
        // If the write fails, for example on a full disk, the order is lost at the next restart only.
        let _ = self.0.write_all_at(&time.to_le_bytes(), u64::from(port) * ENTRY_BYTES as u64);
    }
}

/// The time in seconds since 1970, never 0. If the clock is behind `newest`, for example because it was reset to 1970,
/// the time is a counter instead, so that later ends still have later times.
pub(super) fn now(newest: u32) -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let clock = u32::try_from(since.as_secs()).unwrap_or(IN_USE);
    if clock < newest { newest.saturating_add(1).min(IN_USE - 1) } else { clock.clamp(1, IN_USE - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_back_in_the_order_in_which_they_became_free() {
        let dir = tempfile::tempdir().unwrap();
        let open = || PortHistory::open(&dir.path().join("ports")).unwrap();
        let history = open();
        let ports =
            |history: PortHistory| -> Vec<u16> { history.used().unwrap().iter().map(|(port, _)| *port).collect() };
        assert_eq!(ports(open()), Vec::<u16>::new());
        history.record_use(7);
        history.write(u16::MAX, 1000);
        history.record_use(0);
        history.write(9, 999);
        let used = open().used().unwrap();
        assert_eq!(used[..2], [(9, 999), (u16::MAX, 1000)]);
        assert_eq!([used[2].0, used[3].0], [0, 7], "those of killed sandboxes last");
        assert!(used[2].1 > 1000 && used[2].1 == used[3].1, "with the time of reading as their end: {used:?}");
        open().write(8, IN_USE - 2);
        assert_eq!(ports(open()), [9, u16::MAX, 0, 7, 8]);
        history.record_use(9);
        assert_eq!(open().used().unwrap().last(), Some(&(9, IN_USE - 1)), "also if the clock is behind");
    }
}
