//! Evidence that sandboxes still exist, without which no connection to them is opened.
//!
//! While there is a stream the control plane reports deleted sandboxes, so until the stream ends all are known to
//! exist. But a process that was suspended does not know how long its stream has been over, and what it reads first is
//! stale. So only evidence from before the suspension counts, and the old stream is abandoned for a new one.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::Duration,
};

use api::PORT_REUSE_DELAY;
use tokio::sync::Notify;

use service::micros;

/// Period of the ticks by which a suspension of the process is detected.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// A longer gap between ticks means that the process was suspended: by then a control plane ends its stream.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Input received during a suspension is read within this time of resuming.
const STALE_READ_WINDOW: Duration = Duration::from_secs(2);
/// Trust period: no connection is opened to a sandbox that was last known to exist longer ago. The rest of
/// [`PORT_REUSE_DELAY`] is for noticing the end of the stream and for connecting.
const TRUSTED_FOR: Duration = PORT_REUSE_DELAY.saturating_sub(Duration::from_secs(10));
/// After this time an accepted connection may be another sandbox's that has reused the port.
const KNOWN_FOR: Duration = PORT_REUSE_DELAY.saturating_sub(MAX_PAUSE);

/// Value of `opened_us` without a stream.
const NO_STREAM: u64 = u64::MAX;

/// The times that decide about trust, in microseconds of the data plane's clock.
///
/// All writers may run at once when the process resumes, so no write is ever undone: whether the stream counts follows
/// from two timestamps, in whichever order they are written.
pub(crate) struct Trust {
    /// Time at which the current stream was opened, once its snapshot is complete; [`NO_STREAM`] without one.
    opened_us: AtomicU64,
    /// Time at which the stream was last known to be alive.
    stream_us: AtomicU64,
    /// Last tick.
    awake_us: AtomicU64,
    /// Last tick before the latest suspension, and first tick after it.
    asleep_us: AtomicU64,
    woke_us: AtomicU64,
    /// Start of the newest attempt to have a stream that has ended, established or not.
    attempted_us: AtomicU64,
    stood_still: Notify,
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            opened_us: AtomicU64::new(NO_STREAM),
            stream_us: AtomicU64::default(),
            awake_us: AtomicU64::default(),
            asleep_us: AtomicU64::default(),
            woke_us: AtomicU64::default(),
            attempted_us: AtomicU64::default(),
            stood_still: Notify::default(),
        }
    }
}

impl Trust {
    /// Called when the snapshot of the stream opened at `opened_us` is complete. Returns false if the process was
    /// suspended since: then the stream may be over.
    pub(crate) fn begin(&self, opened_us: u64) -> bool {
        self.opened_us.store(opened_us, SeqCst);
        self.has_stream()
    }

    /// Called when the attempt that began at `opened_us` has failed, or its stream has ended.
    pub(crate) fn end(&self, opened_us: u64, now_us: u64) {
        if self.is_connected(now_us) {
            self.stream_us.store(now_us, SeqCst);
        }
        self.opened_us.store(NO_STREAM, SeqCst);
        self.attempted_us.store(opened_us, SeqCst);
    }

    /// Returns true if there is a stream and the process was not suspended since it was opened.
    pub(crate) fn has_stream(&self) -> bool {
        let opened_us = self.opened_us.load(SeqCst);
        opened_us != NO_STREAM && opened_us >= self.woke_us.load(SeqCst)
    }

    /// Returns true if a stream may be about to report which sandboxes exist: the process was suspended, and no attempt
    /// to have a stream has ended since. Attempts are bounded until the snapshot is complete, and so are the delays
    /// between them.
    pub(super) fn expects_stream(&self) -> bool {
        self.attempted_us.load(SeqCst) < self.woke_us.load(SeqCst)
    }

    /// Completes when the process was suspended after a stream was opened at `opened_us`.
    pub(crate) async fn stood_still_since(&self, opened_us: u64) {
        loop {
            self.stood_still.notified().await;
            if self.woke_us.load(SeqCst) > opened_us {
                return;
            }
        }
    }

    /// Records that the process is running.
    pub(super) fn tick(&self, now_us: u64) {
        if self.is_asleep(now_us) {
            self.asleep_us.store(self.awake_us.load(SeqCst), SeqCst);
            self.woke_us.store(now_us, SeqCst);
            self.stood_still.notify_one();
        } else if self.has_stream() {
            self.stream_us.store(now_us, SeqCst);
        }
        // Stored last, so that a thread that sees the tick also sees the suspension.
        self.awake_us.store(now_us, SeqCst);
    }

    /// Time at which a sandbox was last known to exist, given the last input read as it arrived (`received_us`) and the
    /// last successful probe (`probed_us`).
    pub(super) fn known_us(&self, received_us: u64, probed_us: u64, now_us: u64) -> u64 {
        // Input from during a suspension does not count: the kernel took it while this process could not.
        let received_us = if self.is_doubtful(received_us, now_us) { 0 } else { received_us };
        let stream_us = if self.is_connected(now_us) { now_us } else { self.stream_us.load(SeqCst) };
        received_us.max(probed_us).max(stream_us)
    }

    /// Returns true if there is a stream at `now_us`.
    fn is_connected(&self, now_us: u64) -> bool {
        // In this order: a thread that sees the process running must also see the suspension.
        !self.is_asleep(now_us) && self.has_stream()
    }

    /// Returns true if the last tick is too long ago.
    fn is_asleep(&self, now_us: u64) -> bool {
        now_us.saturating_sub(self.awake_us.load(SeqCst)) > micros(MAX_PAUSE)
    }

    /// Returns true if input read at `at_us` may have arrived during a suspension.
    fn is_doubtful(&self, at_us: u64, now_us: u64) -> bool {
        // Loaded first, for the same reason as in `is_connected`.
        let is_since_asleep = self.is_asleep(now_us) && at_us > self.awake_us.load(SeqCst);
        let current_from_us = self.woke_us.load(SeqCst).saturating_add(micros(STALE_READ_WINDOW));
        is_since_asleep || (at_us > self.asleep_us.load(SeqCst) && at_us < current_from_us)
    }
}

/// Returns true if a connection may be opened to a sandbox last known to exist at `known_us`.
pub(super) fn is_trusted(known_us: u64, now_us: u64) -> bool {
    now_us.saturating_sub(known_us) < micros(TRUSTED_FOR)
}

/// Returns true if an accepted connection is certainly to the sandbox that was known to exist at `known_us`.
pub(super) fn is_the_same(known_us: u64, now_us: u64) -> bool {
    now_us.saturating_sub(known_us) < micros(KNOWN_FOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    /// Ticks each second of `seconds`.
    fn go_on(trust: &Trust, seconds: std::ops::RangeInclusive<u64>) {
        for second in seconds {
            trust.tick(second * SECOND);
        }
    }

    #[test]
    fn a_stream_is_trusted_until_it_ends_however_long_it_is_silent() {
        let trust = Trust::default();
        go_on(&trust, 0..=100);
        let known = |second: u64| trust.known_us(0, 0, second * SECOND) / SECOND;
        assert_eq!(known(100), 0, "there is none yet");
        assert!(trust.begin(100 * SECOND));
        go_on(&trust, 101..=102);
        assert_eq!(known(104), 104);
        trust.end(100 * SECOND, 104 * SECOND);
        go_on(&trust, 105..=200);
        assert_eq!(known(200), 104);
        assert!(is_trusted(104 * SECOND, 153 * SECOND) && !is_trusted(104 * SECOND, 154 * SECOND));
        assert!(is_the_same(104 * SECOND, 158 * SECOND) && !is_the_same(104 * SECOND, 159 * SECOND));
    }

    #[test]
    fn a_suspended_process_trusts_nothing_that_it_reads_on_resuming() {
        let trust = Trust::default();
        trust.begin(0);
        go_on(&trust, 0..=10);
        let known = |observed_alive: u64, now: u64| trust.known_us(observed_alive * SECOND, 0, now * SECOND) / SECOND;
        // Whatever comes first: a request, a response that came meanwhile, the end of the stream, the tick.
        assert_eq!((known(0, 110), known(9, 110), known(110, 110)), (10, 10, 10));
        trust.end(0, 110 * SECOND);
        assert_eq!(known(110, 110), 10);
        go_on(&trust, 110..=110);
        assert_eq!((known(110, 110), known(111, 111)), (10, 10), "old responses may still be read");
        go_on(&trust, 111..=113);
        assert_eq!(known(113, 113), 113);
        assert!(!trust.begin(109 * SECOND), "it was opened before, and so may be over");
        assert_eq!(known(0, 113), 10);
        assert!(trust.begin(111 * SECOND));
        assert_eq!(known(0, 113), 113);
    }

    #[tokio::test]
    async fn the_stream_from_before_a_suspension_is_abandoned() {
        let trust = Trust::default();
        trust.begin(0);
        go_on(&trust, 0..=5);
        let mut gives_up = is_done(trust.stood_still_since(0));
        assert!(!gives_up());
        trust.tick(100 * SECOND);
        assert!(!trust.has_stream() && gives_up());
        trust.end(0, 100 * SECOND);
        assert!(trust.expects_stream(), "a new one may begin");
        trust.end(100 * SECOND, 101 * SECOND);
        assert!(!trust.expects_stream(), "none does");
    }

    #[test]
    fn a_stream_that_begins_while_a_suspension_is_detected_does_not_count() {
        // The threads run independently, so one is delayed by varying times to meet the other at many moments.
        const ROUNDS: u64 = 50_000;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        let (trust, begun, ended) = (Trust::default(), AtomicU64::new(0), AtomicU64::new(0));
        let woke_us = |round: u64| round * 100 * SECOND;
        let wait_for = |counter: &AtomicU64, round: u64| {
            let mut probes: u32 = 0;
            while counter.load(SeqCst) < round {
                probes += 1;
                // The other one may have no processor.
                if probes.is_multiple_of(10_000) { std::thread::yield_now() } else { std::hint::spin_loop() }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..=ROUNDS {
                    wait_for(&begun, round);
                    trust.begin(woke_us(round) - SECOND);
                    ended.store(round, SeqCst);
                }
            });
            let mut counted = 0;
            for round in 1..=ROUNDS {
                begun.store(round, SeqCst);
                for _ in 0..round % 128 {
                    std::hint::spin_loop();
                }
                trust.tick(woke_us(round));
                wait_for(&ended, round);
                counted += u64::from(trust.has_stream());
                if tokio::time::Instant::now() > deadline {
                    begun.store(ROUNDS, SeqCst);
                    break;
                }
            }
            assert_eq!(counted, 0, "it was opened before, and so may be over");
        });
    }

    fn is_done(future: impl Future<Output = ()>) -> impl FnMut() -> bool {
        let mut future = Box::pin(future);
        move || future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
    }
}
