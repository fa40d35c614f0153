//! The timeline of one invocation, and its Server-Timing header.

use http::HeaderValue;

/// Timestamps of one invocation, in microseconds of the data plane's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeline {
    /// The request head was read.
    pub(crate) arrived_us: u64,
    /// The slot that served it was acquired.
    pub(crate) taken_us: u64,
    /// The sandbox of that slot became ready.
    pub(crate) ready_us: u64,
    /// The response head was read.
    pub(crate) responded_us: u64,
}

impl Timeline {
    /// Returns true if the serving sandbox became ready after the arrival.
    pub(crate) fn is_cold(&self) -> bool {
        self.ready_us > self.arrived_us
    }

    /// Time from arrival to slot.
    pub(crate) fn waited_us(&self) -> u64 {
        self.taken_us.saturating_sub(self.arrived_us)
    }

    /// Time from slot to response head.
    pub(crate) fn executed_us(&self) -> u64 {
        self.responded_us.saturating_sub(self.taken_us)
    }

    /// The value of `Server-Timing`. A wait counts as either `cold` or `queue`.
    pub(crate) fn server_timing(&self) -> HeaderValue {
        let waited_us = self.waited_us();
        let (queue_us, cold_us) = if self.is_cold() { (0, waited_us) } else { (waited_us, 0) };
        let mut text = Text::new();
        text.push(b"queue;dur=");
        text.push_millis(queue_us);
        text.push(b", cold;dur=");
        text.push_millis(cold_us);
        text.push(b", exec;dur=");
        text.push_millis(self.executed_us());
        HeaderValue::from_bytes(text.bytes()).expect("digits and separators are visible ASCII")
    }
}

/// Three names (31 bytes) and three numbers of at most 17 + 4 digits.
const MAX_TEXT: usize = 31 + 3 * 21;

/// A short text on the stack, because this runs once per invocation.
struct Text {
    bytes: [u8; MAX_TEXT],
    length: usize,
}

impl Text {
    fn new() -> Self {
        Self { bytes: [0; MAX_TEXT], length: 0 }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    /// Milliseconds with three decimals.
    fn push_millis(&mut self, us: u64) {
        let mut digits = [b'0'; 21];
        let mut begin = digits.len();
        let mut rest = us;
        let mut written = 0;
        while rest > 0 || written < 4 {
            if written == 3 {
                begin -= 1;
                digits[begin] = b'.';
            }
            begin -= 1;
            digits[begin] = b'0' + u8::try_from(rest % 10).expect("a remainder by ten is a digit");
            rest /= 10;
            written += 1;
        }
        self.push(&digits[begin..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_cold_if_the_sandbox_became_ready_after_the_arrival() {
        let warm = Timeline { arrived_us: 5_000, taken_us: 5_000, ready_us: 10, responded_us: 6_234 };
        assert_eq!(warm.server_timing(), "queue;dur=0.000, cold;dur=0.000, exec;dur=1.234");
        let queued = Timeline { taken_us: 5_070, ..warm };
        assert_eq!(queued.server_timing(), "queue;dur=0.070, cold;dur=0.000, exec;dur=1.164");
        let cold = Timeline { ready_us: 105_000, taken_us: 105_010, responded_us: 205_010, ..warm };
        assert!(cold.is_cold() && !queued.is_cold());
        assert_eq!(cold.server_timing(), "queue;dur=0.000, cold;dur=100.010, exec;dur=100.000");
    }

    #[test]
    fn the_greatest_numbers_fit() {
        let longest = Timeline { arrived_us: 0, taken_us: u64::MAX, ready_us: 0, responded_us: u64::MAX };
        assert_eq!(longest.server_timing(), "queue;dur=18446744073709551.615, cold;dur=0.000, exec;dur=0.000");
    }
}
