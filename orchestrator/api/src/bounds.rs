//! How much one message between parts holds.
//!
//! A batch ends at [`MAX_BATCH_BYTES`], so that a message is never larger than [`MESSAGE_BYTES`]: what is urgent does not
//! wait behind megabytes, and nobody has to refuse a message. Only the first message of a stream, which says what is
//! held, may be larger.

use prost::Message;

use crate::WireError;

/// Largest message but the first one of a stream.
pub const MESSAGE_BYTES: usize = 1024 * 1024;
/// Largest first message accepted: a hello names everything that is held, some 100 bytes each.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
/// A batch of so many bytes gets no further entry. What is left of [`MESSAGE_BYTES`] is room for the last one: a
/// specification is 64 KiB at most.
pub const MAX_BATCH_BYTES: usize = MESSAGE_BYTES / 2;
/// Longest text of an error that is sent, or believed.
pub const MAX_TEXT_BYTES: usize = 1024;

/// Checks a message that is not the first of its stream.
///
/// What this bounds is the work that one message makes: whoever obeys it does so at once, and others wait meanwhile. It
/// does not bound the memory that receiving it takes. A stream's decoder has one limit for all its messages, which is the
/// first one's, [`MAX_MESSAGE_BYTES`]: that much is buffered and decoded before a later message is looked at here and
/// ends its stream. Only a peer that has shown the cluster's token gets as far.
///
/// # Errors
/// When it is larger than [`MESSAGE_BYTES`].
pub fn check_size(message: &impl Message) -> Result<(), WireError> {
    let bytes = message.encoded_len();
    if bytes > MESSAGE_BYTES { Err(WireError::TooLarge(bytes)) } else { Ok(()) }
}

/// Bytes that a batch under construction still takes.
#[derive(Debug)]
pub struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(MAX_BATCH_BYTES)
    }
}

impl Room {
    /// Returns true if another entry may be added.
    #[must_use]
    pub fn is_left(&self) -> bool {
        self.0 > 0
    }

    /// Takes the room of an entry that is added, and gives the entry back.
    pub fn fill<T: Message>(&mut self, entry: T) -> T {
        // Its field number and length take some bytes more.
        self.0 = self.0.saturating_sub(entry.encoded_len() + 6);
        entry
    }
}

/// The text, cut at [`MAX_TEXT_BYTES`] where it is longer.
#[must_use]
pub fn shorten(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES - '…'.len_utf8()));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    #[test]
    fn a_batch_with_room_left_takes_the_largest_entry_and_stays_within_a_message() {
        let largest = wire::RevisionSpec { image: "x".repeat(64 * 1024), ..Default::default() };
        let (mut room, mut message) = (Room::default(), wire::ToWorker::default());
        while room.is_left() {
            message.functions.push(room.fill(largest.clone()));
        }
        assert!((MAX_BATCH_BYTES..=MESSAGE_BYTES).contains(&message.encoded_len()), "{}", message.encoded_len());
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(shorten("short".to_owned()), "short");
        let cut = shorten("ü".repeat(10_000));
        assert!(cut.len() <= MAX_TEXT_BYTES && cut.ends_with("ü…"), "{} bytes", cut.len());
    }
}
