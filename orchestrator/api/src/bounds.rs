//! Bounds on the size of messages between components.
//!
//! A batch takes no further entry once it has [`MAX_BATCH_BYTES`], so that no message exceeds
//! [`MAX_LATER_MESSAGE_BYTES`]: an urgent message never waits behind megabytes, and no receiver has to refuse one. Only
//! the first message of a stream, which lists everything that the sender holds, may be larger.

use prost::Message;

use crate::WireError;

/// Maximum size of every message of a stream except the first one (bytes).
pub const MAX_LATER_MESSAGE_BYTES: usize = 1024 * 1024;
/// Maximum size of the first message of a stream (bytes): a hello lists everything that its sender holds, some 100
/// bytes per entry.
pub const MAX_FIRST_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
/// Size at which a batch takes no further entry (bytes). The rest of [`MAX_LATER_MESSAGE_BYTES`] is room for the last
/// entry: the largest one, a specification, has at most 64 KiB.
pub const MAX_BATCH_BYTES: usize = MAX_LATER_MESSAGE_BYTES / 2;
/// Maximum length of an error text that is sent, and of one that is kept when received (bytes).
pub const MAX_TEXT_BYTES: usize = 1024;

/// Checks the size of a message that is not the first of its stream.
///
/// This bounds the work that one message causes: its receiver handles a message as a whole, and other peers wait
/// meanwhile. It does not bound the memory that receiving it takes. A stream's decoder has one limit for all its
/// messages, [`MAX_FIRST_MESSAGE_BYTES`]: that much is buffered and decoded before a later message is checked here.
/// Only a peer that has sent the cluster's token gets that far.
///
/// # Errors
/// If the message is larger than [`MAX_LATER_MESSAGE_BYTES`].
pub fn check_size(message: &impl Message) -> Result<(), WireError> {
    let bytes = message.encoded_len();
    if bytes > MAX_LATER_MESSAGE_BYTES { Err(WireError::TooLarge(bytes)) } else { Ok(()) }
}

/// Bytes left in a batch under construction.
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

    /// Subtracts the size of an entry that is added, and returns the entry.
    pub fn fill<T: Message>(&mut self, entry: T) -> T {
        // The entry's field number and length prefix take at most six more bytes.
        self.0 = self.0.saturating_sub(entry.encoded_len() + 6);
        entry
    }
}

/// Truncates `text` to [`MAX_TEXT_BYTES`]; an ellipsis marks the end of a truncated text.
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
    fn a_batch_with_room_left_takes_the_largest_entry_without_exceeding_the_message_size() {
        let largest = wire::RevisionSpec { image: "x".repeat(64 * 1024), ..Default::default() };
        let (mut room, mut message) = (Room::default(), wire::ToWorker::default());
        while room.is_left() {
            message.functions.push(room.fill(largest.clone()));
        }
        assert!(
            (MAX_BATCH_BYTES..=MAX_LATER_MESSAGE_BYTES).contains(&message.encoded_len()),
            "{}",
            message.encoded_len()
        );
    }

    #[test]
    fn a_long_text_is_truncated_at_a_character_boundary() {
        assert_eq!(shorten("short".to_owned()), "short");
        let cut = shorten("ü".repeat(10_000));
        assert!(cut.len() <= MAX_TEXT_BYTES && cut.ends_with("ü…"), "{} bytes", cut.len());
    }
}
