//! The newest output of one sandbox, bounded.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Most characters of a line in a message: it travels to the control plane and is shown in one row.
const MAX_LINE_CHARACTERS: usize = 500;

/// Output and errors in the order written; the oldest bytes make room for the newest.
#[derive(Debug)]
pub(super) struct Log {
    bytes: Mutex<VecDeque<u8>>,
    bound: usize,
}

impl Log {
    /// Keeps `bound` bytes.
    pub(super) fn new(bound: usize) -> Self {
        Self { bytes: Mutex::new(VecDeque::new()), bound }
    }

    pub(super) fn append(&self, new: &[u8]) {
        let new = &new[new.len().saturating_sub(self.bound)..];
        let mut bytes = self.lock();
        let surplus = (bytes.len() + new.len()).saturating_sub(self.bound);
        bytes.drain(..surplus);
        bytes.extend(new);
    }

    /// All that is kept. A character cut in half is shown as such.
    pub(super) fn text(&self) -> String {
        let bytes: Vec<u8> = self.lock().iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last line that is not blank, as part of a message: the beginning of a long one, as far as the log still has it.
    pub(super) fn last_line(&self) -> Option<String> {
        let text = self.text();
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
        Some(match line.char_indices().nth(MAX_LINE_CHARACTERS) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line.to_owned(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_newest_bytes_are_kept(pieces in prop::collection::vec("[a-z\n]{0,12}", 0..20), bound in 0usize..32) {
            let log = Log::new(bound);
            for piece in &pieces {
                log.append(piece.as_bytes());
            }
            let all = pieces.concat();
            prop_assert_eq!(log.text(), &all[all.len().saturating_sub(bound)..]);
        }
    }

    #[test]
    fn the_last_line_is_the_last_that_says_something() {
        let log = Log::new(100);
        assert_eq!(log.last_line(), None);
        log.append(b"first\n  second \n\n");
        assert_eq!(log.last_line().as_deref(), Some("second"));
        let endless = Log::new(100_000);
        (0..1000).for_each(|_| endless.append("ü".repeat(100).as_bytes()));
        assert_eq!(endless.last_line().unwrap(), format!("{}…", "ü".repeat(500)), "one endless line");
    }
}
