//! The rows of one repetition in compact form: read once, streaming, names turned into numbers.

use std::{collections::HashMap, fs::File, io::Read, path::Path};

use record::{ImpossibleRows, Invocation, InvocationReader, Outcome, Phase, RecordError};

use crate::{ReadError, spread::signed};

/// The values of one measured row that statistics need. Times are in nanoseconds from the run's start instant; an
/// impossible row has no times but those at which it was due and sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Place in the schedule.
    pub(crate) index: u64,
    pub(crate) function: u32,
    pub(crate) scheduled_ns: u64,
    pub(crate) sent_ns: Option<u64>,
    pub(crate) done_ns: Option<u64>,
    pub(crate) requested_ns: u64,
    pub(crate) executed_ns: Option<u64>,
    pub(crate) outcome: Outcome,
    pub(crate) cold: Option<bool>,
}

/// Further values of a measured cold row.
#[derive(Clone, Debug)]
pub(crate) struct ColdRow {
    pub(crate) index: u64,
    pub(crate) sandbox: Option<String>,
    pub(crate) sent_ns: Option<u64>,
    pub(crate) wait_us: Option<u64>,
}

/// All rows of one repetition.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// Names, by the number that rows use.
    pub(crate) functions: Vec<String>,
    /// In the order of the schedule, as are `cold`: files have them in the order in which they ended.
    pub(crate) measured: Vec<Row>,
    pub(crate) cold: Vec<ColdRow>,
    /// Rows of either phase that cannot be true.
    pub(crate) impossible: ImpossibleRows,
    pub(crate) warmup: u64,
    /// Ends of ok warm-up rows: some are within the measured window.
    pub(crate) warmup_done_ns: Vec<u64>,
    /// Place of every row in the schedule.
    pub(crate) indexes: Vec<u64>,
    /// Due time of the last row of either phase.
    pub(crate) last_due_ns: u64,
}

/// First bytes of every zstd frame.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Opens a file of rows, refusing one that is not compressed: the reader takes a bad first frame for one that was cut
/// off, and would give no rows. An empty file is a run that ended before its first flush.
pub(crate) fn open(path: &Path) -> Result<InvocationReader, ReadError> {
    let mut head = Vec::new();
    let failed = |source| RecordError::File { path: path.to_owned(), source };
    File::open(path).and_then(|file| file.take(ZSTD_MAGIC.len() as u64).read_to_end(&mut head)).map_err(failed)?;
    if !ZSTD_MAGIC.starts_with(&head) {
        return Err(ReadError::NotZstd(path.to_owned()));
    }
    Ok(InvocationReader::open(path)?)
}

impl Row {
    /// Done minus scheduled.
    pub(crate) fn latency_ns(&self) -> Option<u64> {
        self.done_ns.map(|done| done.saturating_sub(self.scheduled_ns))
    }

    /// Sent minus scheduled.
    pub(crate) fn lag_ns(&self) -> Option<u64> {
        self.sent_ns.map(|sent| sent.saturating_sub(self.scheduled_ns))
    }

    /// Latency minus the execution time the function reported; ok rows only.
    pub(crate) fn scheduling_ns(&self) -> Option<i64> {
        let (latency, executed) = (self.latency_ns()?, self.executed_ns?);
        (self.outcome == Outcome::Ok).then(|| signed(latency) - signed(executed))
    }
}

impl Rows {
    /// Reads a whole file, keeping what statistics need.
    pub(crate) fn read(path: &Path) -> Result<Self, ReadError> {
        let mut rows = Self::default();
        let mut numbers = HashMap::new();
        for (row, invocation) in (2_u64..).zip(open(path)?) {
            let invocation = invocation?;
            if let Some(found) = invocation.cold.filter(|cold| *cold > 1) {
                let (expected, found) = ("1, 0 or nothing", found.to_string());
                return Err(ReadError::Value { path: path.to_owned(), row, column: "cold", expected, found });
            }
            rows.add(invocation, &mut numbers);
        }
        // Calls of one instant keep the order of the schedule, whichever ended first.
        rows.measured.sort_by_key(|row| row.index);
        rows.cold.sort_by_key(|row| row.index);
        Ok(rows)
    }

    fn add(&mut self, mut invocation: Invocation, numbers: &mut HashMap<String, u32>) {
        self.indexes.push(invocation.index);
        self.last_due_ns = self.last_due_ns.max(invocation.scheduled_ns);
        // The row still counts; only its times would distort statistics.
        if self.impossible.note(&invocation) {
            (invocation.done_ns, invocation.executed_us, invocation.cold_us) = (None, None, None);
        }
        if invocation.phase == Phase::Warmup {
            self.warmup += 1;
            let done = invocation.done_ns.filter(|_| invocation.outcome == Outcome::Ok);
            self.warmup_done_ns.extend(done);
            return;
        }
        let function = match numbers.get(&invocation.function) {
            Some(number) => *number,
            None => {
                let number = u32::try_from(self.functions.len()).unwrap_or(u32::MAX);
                self.functions.push(invocation.function.clone());
                numbers.insert(invocation.function, number);
                number
            }
        };
        let cold = invocation.cold.map(|cold| cold == 1);
        if cold == Some(true) {
            let (sandbox, sent_ns, wait_us) = (invocation.sandbox, invocation.sent_ns, invocation.cold_us);
            self.cold.push(ColdRow { index: invocation.index, sandbox, sent_ns, wait_us });
        }
        self.measured.push(Row {
            index: invocation.index,
            function,
            scheduled_ns: invocation.scheduled_ns,
            sent_ns: invocation.sent_ns,
            done_ns: invocation.done_ns,
            requested_ns: invocation.requested_us.saturating_mul(1_000),
            executed_ns: invocation.executed_us.map(|executed| executed.saturating_mul(1_000)),
            outcome: invocation.outcome,
            cold,
        });
    }
}
