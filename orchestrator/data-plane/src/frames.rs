//! Follows the frames of an HTTP/2 connection. The HTTP library silently drops the excess of a trailer section, so a
//! field block that it might truncate has to be detected before.

use std::io;

/// Size of a frame header: length, type, flags and stream (RFC 9113, section 4.1).
const HEAD_BYTES: usize = 9;
/// Types of the frames that carry field blocks.
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// Parser state of the frames that one peer sends.
pub(crate) struct Frames {
    /// Longest field block of a trailer section, bytes.
    max_bytes: u64,
    /// Bytes left before the next frame header.
    remaining: usize,
    /// The next frame header, as far as it was received.
    head: [u8; HEAD_BYTES],
    have: usize,
    /// Greatest stream id so far. The first block of a stream is a header section, whose size the HTTP library enforces
    /// itself.
    newest: u32,
    is_trailer: bool,
    /// Bytes of the current field block.
    block: u64,
}

impl Frames {
    /// Starts after `preface` bytes; field blocks of trailers may have `max_bytes`.
    pub(crate) fn new(preface: usize, max_bytes: u64) -> Self {
        Self { max_bytes, remaining: preface, head: [0; HEAD_BYTES], have: 0, newest: 0, is_trailer: false, block: 0 }
    }

    /// Consumes the next received bytes.
    ///
    /// # Errors
    /// Returns an error if the field block of a trailer section is too long.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.remaining > 0 {
                let count = self.remaining.min(bytes.len());
                self.remaining -= count;
                bytes = &bytes[count..];
                continue;
            }
            let count = (HEAD_BYTES - self.have).min(bytes.len());
            self.head[self.have..self.have + count].copy_from_slice(&bytes[..count]);
            self.have += count;
            bytes = &bytes[count..];
            if self.have == HEAD_BYTES {
                self.have = 0;
                self.begin_frame()?;
            }
        }
        Ok(())
    }

    fn begin_frame(&mut self) -> io::Result<()> {
        let [a, b, c, kind, _flags, stream @ ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]);
        self.remaining = length as usize;
        match kind {
            HEADERS => {
                // The first bit of a stream id is reserved.
                let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
                // Stream ids only grow (RFC 9113, section 5.1.1), so a second block on one is its trailer section, or
                // follows an interim response.
                self.is_trailer = stream <= self.newest;
                self.newest = self.newest.max(stream);
                self.block = 0;
            }
            CONTINUATION => {}
            _ => return Ok(()),
        }
        self.block += u64::from(length);
        if self.is_trailer && self.block > self.max_bytes {
            // This kind of error tells `NoResponse` that the message is at fault and not the connection.
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a trailer section is larger than allowed"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: u32, kind: u8, stream: u32) -> Vec<u8> {
        let mut frame = length.to_be_bytes()[1..].to_vec();
        frame.extend([kind, 4]);
        frame.extend(stream.to_be_bytes());
        frame.resize(HEAD_BYTES + length as usize, HEADERS);
        frame
    }

    #[test]
    fn only_long_trailer_blocks_are_refused_however_the_bytes_arrive() {
        let data = |stream| frame(5000, 0, stream);
        let head = [frame(900, HEADERS, 1), frame(900, CONTINUATION, 1), data(1)].concat();
        let short = [frame(500, HEADERS, 1), frame(500, CONTINUATION, 1), frame(0, HEADERS, 3), data(3)].concat();
        let long = [frame(500, HEADERS, 3), frame(501, CONTINUATION, 3)].concat();
        let all = [&b"preface"[..], &head, &short, &long].concat();
        for piece in [1, 7, 100, all.len()] {
            let mut frames = Frames::new(7, 1000);
            let (good, bad) = all.split_at(all.len() - 501 - 1);
            assert!(good.chunks(piece).all(|bytes| frames.pass(bytes).is_ok()), "in pieces of {piece}");
            assert!(frames.pass(bad).is_err(), "in pieces of {piece}");
        }
    }
}
