//! The beginning of a request body, retained while a retry may need it.

use bytes::{Bytes, BytesMut};

/// The whole body so far, or nothing once it is too long. Pieces, which may be a byte each, are copied together, so
/// that the memory is that of the bytes and the receive buffers are released at once.
pub(super) struct Retained {
    bytes: BytesMut,
    /// Bytes that may be retained; 0 retains nothing.
    max_bytes: u64,
    is_whole: bool,
}

impl Retained {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { bytes: BytesMut::new(), max_bytes, is_whole: max_bytes > 0 }
    }

    /// Returns true if the whole body so far is retained.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Adds the next bytes of a body of `expected` bytes in total, if known.
    pub(super) fn push(&mut self, data: &[u8], expected: Option<u64>) {
        let length = (self.bytes.len() + data.len()) as u64;
        if !self.is_whole || length > self.max_bytes {
            // No retry is possible any more, so the rest of a long upload keeps no memory for one.
            self.is_whole = false;
            self.bytes = BytesMut::new();
            return;
        }
        if self.bytes.is_empty() {
            let expected = expected.unwrap_or(0).clamp(length, self.max_bytes);
            self.bytes.reserve(usize::try_from(expected).unwrap_or(0));
        }
        self.bytes.extend_from_slice(data);
    }

    /// The bytes after the first `sent`. A copy, because more may be added; only retries need it.
    pub(super) fn after(&self, sent: u64) -> Bytes {
        let remaining = usize::try_from(sent).ok().and_then(|sent| self.bytes.get(sent..)).unwrap_or_default();
        Bytes::copy_from_slice(remaining)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retained_body_costs_its_size_in_however_many_pieces_it_arrives() {
        const MAX_BYTES: u64 = 65_536;
        for expected in [None, Some(MAX_BYTES)] {
            let mut retained = Retained::new(MAX_BYTES);
            for index in 0..MAX_BYTES {
                retained.push(&index.to_le_bytes()[..1], expected);
            }
            assert!(retained.is_whole());
            assert!(retained.bytes.capacity() as u64 <= 2 * MAX_BYTES, "{} bytes held", retained.bytes.capacity());
            assert_eq!(&retained.after(MAX_BYTES - 2)[..], [254, 255]);
            retained.push(b"x", expected);
            assert!(!retained.is_whole(), "longer than may be held");
            assert_eq!((retained.bytes.capacity(), retained.after(0).len()), (0, 0));
        }
    }

    #[test]
    fn nothing_is_retained_where_nothing_may_be() {
        let mut retained = Retained::new(0);
        assert!(!retained.is_whole());
        retained.push(b"x", None);
        assert_eq!(retained.bytes.capacity(), 0);
        let mut short = Retained::new(4);
        short.push(b"abc", Some(1 << 40));
        assert!(short.bytes.capacity() < 1024, "what a client announces is not believed");
    }
}
