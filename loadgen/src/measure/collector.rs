//! Turns ends into rows on disk, every 100 ms, and decides when a replay is over.
//!
//! It alone writes rows, and it remembers which it has written, so that every scheduled invocation has exactly one.

use std::{path::Path, sync::Arc, time::Duration};

use record::{Invocation, InvocationWriter, Outcome, Phase, RecordError};
use trace::Due;

use crate::{
    http::result::InvocationResult,
    measure::{ledger::Finished, tally::Tally},
    replay::{Replay, stop::Stop},
    signals::Signals,
};

/// Interval between writes of rows, each complete on disk.
pub(crate) const FLUSH: Duration = Duration::from_millis(100);

/// Longest wait for responses in flight after a request to stop.
const GRACE_NS: u64 = 2_000_000_000;

/// Longest time after its time-out in which an invocation may end before it counts as lost in this process.
const LOST_TIMEOUT_NS: u64 = 3_000_000_000;

/// Writes the rows of one replay.
pub(crate) struct Collector {
    replay: Arc<Replay>,
    writer: InvocationWriter,
    written: Vec<bool>,
    ends: Vec<Finished>,
    /// Figures so far.
    pub(crate) tally: Tally,
}

/// The state of the other threads, by which the collector decides whether the replay is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// End of pacing, in nanoseconds from the start.
    pub(crate) paced_ns: Option<u64>,
    /// Time of the first request to stop, in nanoseconds from the start.
    pub(crate) stop_requested_ns: Option<u64>,
}

impl Collector {
    /// Creates the file of rows.
    ///
    /// # Errors
    /// If it cannot be created.
    pub(crate) fn create(path: &Path, replay: Arc<Replay>) -> Result<Self, RecordError> {
        let scheduled = replay.schedule.invocations.len();
        let writer = InvocationWriter::create(path)?;
        let (written, ends, tally) = (vec![false; scheduled], Vec::new(), Tally::new(scheduled));
        Ok(Self { replay, writer, written, ends, tally })
    }

    /// Writes what ended since the last call, complete on disk.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn collect(&mut self) -> Result<(), RecordError> {
        let mut ends = std::mem::take(&mut self.ends);
        self.replay.ledger.drain(&mut ends);
        for finished in ends.drain(..) {
            self.write(finished)?;
        }
        self.ends = ends;
        self.writer.flush()
    }

    /// Returns true if every scheduled invocation has its row.
    pub(crate) fn is_complete(&self) -> bool {
        self.tally.rows == self.written.len() as u64
    }

    /// Returns true if nothing more is to be waited for.
    pub(crate) fn is_over(&self, progress: Progress, stop: &Stop) -> bool {
        let now_ns = self.replay.clock.now_ns();
        let after = |since_ns: Option<u64>, wait_ns: u64| {
            since_ns.is_some_and(|since_ns| now_ns >= since_ns.saturating_add(wait_ns))
        };
        if self.is_complete() || stop.is_immediate() {
            return true;
        }
        let Some(paced_ns) = progress.paced_ns else { return false };
        let idle = || self.in_flight() == 0;
        after(Some(paced_ns), self.replay.target.timeout_ns().saturating_add(LOST_TIMEOUT_NS))
            || (progress.stop_requested_ns.is_some() && (idle() || after(progress.stop_requested_ns, GRACE_NS)))
    }

    /// Invocations sent whose row is not written yet.
    fn in_flight(&self) -> usize {
        let open = |(index, written): (usize, &bool)| !written && self.replay.ledger.sent_ns(index).is_some();
        self.written.iter().enumerate().filter(|row| open(*row)).count()
    }

    /// Writes a row for each invocation that has none: those never sent, and those whose response did not come in time.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn close(&mut self, interrupted: bool) -> Result<(), RecordError> {
        self.collect()?;
        for index in 0..self.written.len() {
            if self.written[index] {
                continue;
            }
            let sent = self.replay.ledger.sent_ns(index).is_some();
            let (outcome, error) = match (sent, interrupted) {
                (true, true) => (Outcome::Error, "interrupted before the response"),
                (false, true) => (Outcome::Unsent, "interrupted before it was due or sent"),
                (true, false) => (Outcome::Error, "lost in the load generator"),
                (false, false) => (Outcome::Unsent, "lost in the load generator"),
            };
            self.write(Finished { done_ns: None, ..Finished::failed(index, 0, outcome, error) })?;
        }
        self.writer.flush()
    }

    fn write(&mut self, finished: Finished) -> Result<(), RecordError> {
        let Some(due) = self.replay.due(finished.index).copied() else { return Ok(()) };
        // An invocation ends once; a second end would be a fault in this process and must not become a second row.
        if std::mem::replace(&mut self.written[finished.index], true) {
            return Ok(());
        }
        let row = self.row(&due, finished);
        self.tally.add(&row);
        self.writer.write(&row)
    }

    fn row(&self, due: &Due, finished: Finished) -> Invocation {
        let Finished { index, first_byte_ns, done_ns, status, signals, result } = finished;
        let Signals { queue_us, cold_us, exec_us, cold, sandbox, attempts, error: kind } = signals;
        let InvocationResult { outcome, executed_us, error } = result;
        let sent_ns = self.replay.ledger.sent_ns(index);
        let words: Vec<&str> = [kind.as_deref(), error.as_deref()].into_iter().flatten().collect();
        Invocation {
            function: self.replay.function_of(index).to_owned(),
            index: index as u64,
            phase: match due.phase {
                trace::Phase::Warmup => Phase::Warmup,
                trace::Phase::Measured => Phase::Measured,
            },
            scheduled_ns: due.due_ns,
            sent_ns,
            first_byte_ns,
            done_ns,
            requested_us: self.replay.requests.requested_us(due),
            memory_mib: due.memory_mib,
            executed_us,
            queue_us,
            cold_us,
            exec_us,
            status,
            outcome,
            cold,
            sandbox: sandbox.map(String::from),
            attempts,
            error: (!words.is_empty()).then(|| words.join("; ")),
            address: sent_ns.and_then(|_| self.replay.address_text(index)),
        }
    }
}
