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

/// Bytes of one port: the second in which its last sandbox ended, since 1970; 0 where there was none.
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

    /// The ports that sandboxes have had, the one whose last sandbox ended first in front. The last ones are those that
    /// the worker before had at its own end.
    pub(super) fn used(&self) -> io::Result<Vec<u16>> {
        let mut bytes = Vec::new();
        (&self.0).read_to_end(&mut bytes)?;
        let (times, _) = bytes.as_chunks::<ENTRY_BYTES>();
        let times = times.iter().map(|bytes| u32::from_le_bytes(*bytes));
        let mut used: Vec<(u32, u16)> = times.zip(0..=u16::MAX).filter(|(time, _)| *time > 0).collect();
        used.sort_unstable();
        for (_, port) in used.iter().filter(|(time, _)| *time == IN_USE) {
            self.ended(*port);
        }
        Ok(used.into_iter().map(|(_, port)| port).collect())
    }

    /// A sandbox has this port from now on.
    pub(super) fn begun(&self, port: u16) {
        self.note(port, IN_USE);
    }

    /// The sandbox with this port has ended.
    pub(super) fn ended(&self, port: u16) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.note(port, u32::try_from(since.as_secs()).unwrap_or(IN_USE).clamp(1, IN_USE - 1));
    }

    fn note(&self, port: u16, time: u32) {
        // Where that fails, for example for want of room, the port rests no longer than this process lives.
        let _ = self.0.write_all_at(&time.to_le_bytes(), u64::from(port) * ENTRY_BYTES as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_found_again_in_the_order_in_which_they_came_free() {
        let dir = tempfile::tempdir().unwrap();
        let open = || PortHistory::open(&dir.path().join("ports")).unwrap();
        let history = open();
        assert_eq!(history.used().unwrap(), Vec::<u16>::new());
        history.begun(7);
        history.note(u16::MAX, 1000);
        history.begun(0);
        history.note(9, 999);
        assert_eq!(open().used().unwrap(), [9, u16::MAX, 0, 7], "those of killed sandboxes last");
        open().note(8, IN_USE - 1);
        assert_eq!(open().used().unwrap(), [9, u16::MAX, 0, 7, 8], "which have ended when that was found");
    }
}
