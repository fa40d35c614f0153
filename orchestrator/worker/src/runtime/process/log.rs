//! The newest output of one sandbox, bounded.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Longest line in a message, which is sent to the control plane and shown in one row.
const MAX_LINE_CHARACTERS: usize = 500;

/// Bytes kept of the beginning, in addition to the newest ones: a failing program usually prints the reason first, and
/// thousands of lines may follow.
const HEAD_BYTES: usize = 4096;
/// Words of lines that report an error, in lower case.
const ERROR_WORDS: [&str; 6] = ["error", "exception", "fatal", "panic", "cannot", "failed"];

/// Output and errors in the order written; the oldest bytes make room for the newest.
#[derive(Debug)]
pub(super) struct Log {
    bound: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    head: Vec<u8>,
    newest: VecDeque<u8>,
    /// Bytes that were removed from `newest`.
    dropped: u64,
}

impl Log {
    /// Keeps `bound` bytes.
    pub(super) fn new(bound: usize) -> Self {
        Self { bound, kept: Mutex::default() }
    }

    pub(super) fn append(&self, new: &[u8]) {
        let mut kept = self.lock();
        let room = HEAD_BYTES - kept.head.len();
        kept.head.extend(&new[..new.len().min(room)]);
        // Counted before `new` is cut, since it may exceed the bound by itself.
        let surplus = (kept.newest.len() + new.len()).saturating_sub(self.bound);
        kept.dropped += surplus as u64;
        let new = &new[new.len().saturating_sub(self.bound)..];
        let surplus = (kept.newest.len() + new.len()).saturating_sub(self.bound);
        kept.newest.drain(..surplus);
        kept.newest.extend(new);
    }

    /// The newest output, and the number of bytes before it that are no longer kept. An incomplete character at the
    /// beginning becomes U+FFFD.
    pub(super) fn text(&self) -> (String, u64) {
        let kept = self.lock();
        let bytes: Vec<u8> = kept.newest.iter().copied().collect();
        (String::from_utf8_lossy(&bytes).into_owned(), kept.dropped)
    }

    /// The line that most likely explains why the program failed: the first one with a word of [`ERROR_WORDS`], or else
    /// the last one that is not blank. Long lines are truncated.
    pub(super) fn cause(&self) -> Option<String> {
        let head = String::from_utf8_lossy(&self.lock().head).into_owned();
        let (text, _) = self.text();
        let lines = || head.lines().chain(text.lines()).map(str::trim);
        let is_error = |line: &&str| {
            let line = line.to_lowercase();
            ERROR_WORDS.iter().any(|word| line.contains(word))
        };
        let last = || text.lines().rev().map(str::trim).find(|line| !line.is_empty());
        // From the beginning, because later errors often only follow from the first one.
        let line = lines().find(is_error).or_else(last)?;
        Some(match line.char_indices().nth(MAX_LINE_CHARACTERS) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line.to_owned(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
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
            let (dropped, kept) = all.split_at(all.len().saturating_sub(bound));
            prop_assert_eq!(log.text(), (kept.to_owned(), dropped.len() as u64));
        }
    }

    #[test]
    fn the_first_line_that_reports_an_error_is_the_cause() {
        let log = Log::new(100);
        assert_eq!(log.cause(), None);
        log.append(b"first\n  second \n\n");
        assert_eq!(log.cause().as_deref(), Some("second"), "the last one if none reports an error");
        log.append(b"ValueError: no database\n");
        (0..100).for_each(|_| log.append(b"error: and what follows from it\n"));
        assert_eq!(log.cause().as_deref(), Some("ValueError: no database"), "whatever follows");
        let endless = Log::new(100_000);
        (0..1000).for_each(|_| endless.append("ü".repeat(100).as_bytes()));
        assert_eq!(endless.cause().unwrap(), format!("{}…", "ü".repeat(500)), "one endless line");
    }
}
