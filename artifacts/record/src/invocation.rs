//! `invocations.csv.zst`: one row per scheduled invocation, in zstd frames that are complete on disk as they are flushed.

use std::{
    cmp::Ordering,
    fmt,
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{RecordError, table::problem};

/// The end of an invocation, as the client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// 2xx with a valid response.
    Ok,
    /// The system refused it at once (429, 503).
    Refused,
    /// The system's (504) or the client's deadline passed.
    Timeout,
    /// Any other failure.
    Error,
    /// 2xx with a response that is not the function's.
    Invalid,
    /// Never sent: the run ended first.
    Unsent,
}

impl Outcome {
    /// Its name, as in the rows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Error => "error",
            Self::Invalid => "invalid",
            Self::Unsent => "unsent",
        }
    }
}

impl Ord for Outcome {
    /// By name: files and tables list outcomes in this order.
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(other.name())
    }
}

impl PartialOrd for Outcome {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The part of the schedule that an invocation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Excluded from statistics.
    Warmup,
    /// The measured part.
    Measured,
}

/// One scheduled invocation. Times are nanoseconds from the run's one start instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Invocation {
    /// Name of the function invoked.
    pub function: String,
    /// Position in the schedule, from 0.
    pub index: u64,
    /// Warm-up or measured.
    pub phase: Phase,
    /// Instant at which it was due.
    pub scheduled_ns: u64,
    /// Instant at which its request was handed to the kernel; empty if unsent.
    pub sent_ns: Option<u64>,
    /// Instant at which the first byte of the response was read.
    pub first_byte_ns: Option<u64>,
    /// Instant at which the response was complete or the failure known.
    pub done_ns: Option<u64>,
    /// Requested execution time, in microseconds.
    pub requested_us: u64,
    /// Requested memory, in MiB.
    pub memory_mib: u32,
    /// Execution time the function reported, in microseconds.
    pub executed_us: Option<u64>,
    /// Time waited for a slot of an existing sandbox, from Server-Timing, in microseconds.
    pub queue_us: Option<u64>,
    /// Time waited for a new sandbox, from Server-Timing, in microseconds.
    pub cold_us: Option<u64>,
    /// Time in the sandbox as the system saw it, from Server-Timing, in microseconds.
    pub exec_us: Option<u64>,
    /// HTTP status; empty without a response.
    pub status: Option<u16>,
    /// The end of the invocation.
    pub outcome: Outcome,
    /// 1 cold, 0 not, empty when the system does not say.
    pub cold: Option<u8>,
    /// The sandbox that served it, where the system says.
    pub sandbox: Option<String>,
    /// Attempts that the system made, if it reports them.
    pub attempts: Option<u32>,
    /// Error message of a failure.
    pub error: Option<String>,
    /// The address it was sent to, as `IP:PORT`; empty when unsent, and in rows of versions before this column.
    #[serde(default)]
    pub address: Option<String>,
}

impl Invocation {
    /// Done minus scheduled, in nanoseconds: the latency a client of an open system sees.
    #[must_use]
    pub fn latency_ns(&self) -> Option<u64> {
        self.done_ns.map(|done| done.saturating_sub(self.scheduled_ns))
    }

    /// Sent minus scheduled, in nanoseconds: how late the load generator was.
    #[must_use]
    pub fn lag_ns(&self) -> Option<u64> {
        self.sent_ns.map(|sent| sent.saturating_sub(self.scheduled_ns))
    }
}

/// Writes rows; [`InvocationWriter::flush`] ends the current zstd frame, so that all rows so far can be read after a crash.
pub struct InvocationWriter {
    path: PathBuf,
    file: File,
    header_due: bool,
    pending: Vec<u8>,
}

impl InvocationWriter {
    /// Creates the file, replacing one that is there.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create(path: &Path) -> Result<Self, RecordError> {
        let file = File::create(path).map_err(|source| RecordError::File { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file, header_due: true, pending: Vec::new() })
    }

    /// Adds a row; it is on disk after the next flush.
    ///
    /// # Errors
    /// If the row cannot be encoded.
    pub fn write(&mut self, row: &Invocation) -> Result<(), RecordError> {
        // A writer per row, because one that is kept would borrow the buffer that a flush empties.
        let mut csv = csv::WriterBuilder::new().has_headers(self.header_due).from_writer(&mut self.pending);
        let written = csv.serialize(row).map_err(io::Error::other).and_then(|()| csv.flush());
        drop(csv);
        self.header_due = false;
        written.map_err(|source| self.failed(source))
    }

    /// Compresses what was added since the last flush into one complete frame and writes it to the file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn flush(&mut self) -> Result<(), RecordError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let frame = zstd::encode_all(self.pending.as_slice(), COMPRESSION_LEVEL);
        let written = frame.and_then(|frame| io::Write::write_all(&mut self.file, &frame));
        // Also after an error: the file may hold a part of it, and a second attempt would write rows twice.
        self.pending.clear();
        written.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> RecordError {
        RecordError::File { path: self.path.clone(), source }
    }
}

/// Rows are written while load is running: the fastest level costs least.
const COMPRESSION_LEVEL: i32 = 1;

/// Reads rows one by one; a file cut off within its last frame gives every row before the cut.
pub struct InvocationReader {
    path: PathBuf,
    headers: csv::StringRecord,
    rows: csv::DeserializeRecordsIntoIter<zstd::Decoder<'static, BufReader<File>>, Invocation>,
    row: u64,
}

impl InvocationReader {
    /// Opens the file.
    ///
    /// # Errors
    /// If the file cannot be opened, or does not begin with the header of such a file.
    pub fn open(path: &Path) -> Result<Self, RecordError> {
        let failed = |source| RecordError::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let decoder = zstd::Decoder::new(file).map_err(failed)?;
        let mut csv = csv::Reader::from_reader(decoder);
        let headers = match csv.headers() {
            Ok(headers) => headers.clone(),
            // Cut off before its first row.
            Err(error) if cut_off(&error) => csv::StringRecord::new(),
            Err(error) => {
                let problem = format!("no zstd-compressed table of invocations: {error}");
                return Err(RecordError::Row { path: path.to_owned(), row: 1, problem });
            }
        };
        Ok(Self { path: path.to_owned(), headers, rows: csv.into_deserialize(), row: 1 })
    }
}

impl Iterator for InvocationReader {
    type Item = Result<Invocation, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.row += 1;
        match self.rows.next()? {
            Ok(row) => Some(Ok(row)),
            // The load generator was killed: all rows before the last flush count.
            Err(error) if cut_off(&error) => None,
            Err(error) => {
                let problem = problem(&error, &self.headers);
                Some(Err(RecordError::Row { path: self.path.clone(), row: self.row, problem }))
            }
        }
    }
}

/// Returns true if reading ended within a frame, as it does after a crash.
fn cut_off(error: &csv::Error) -> bool {
    matches!(error.kind(), csv::ErrorKind::Io(cause) if cause.kind() == io::ErrorKind::UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(index: u64) -> Invocation {
        Invocation {
            function: format!("f{index}"),
            index,
            phase: Phase::Measured,
            scheduled_ns: 10 * index,
            sent_ns: Some(10 * index + 1),
            first_byte_ns: None,
            done_ns: Some(10 * index + 5),
            requested_us: 7,
            memory_mib: 128,
            executed_us: Some(8),
            queue_us: None,
            cold_us: Some(3),
            exec_us: None,
            status: Some(200),
            outcome: Outcome::Ok,
            cold: Some(1),
            sandbox: Some("1-2".to_owned()),
            attempts: Some(1),
            error: Some("a, \"b\"".to_owned()),
            address: Some("127.0.0.1:8080".to_owned()),
        }
    }

    #[test]
    fn rows_of_several_frames_are_read_back_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("invocations.csv.zst");
        let mut writer = InvocationWriter::create(&path).unwrap();
        for index in 0..5 {
            writer.write(&row(index)).unwrap();
            writer.flush().unwrap();
        }
        let back: Vec<_> = InvocationReader::open(&path).unwrap().map(Result::unwrap).collect();
        assert_eq!(back, (0..5).map(row).collect::<Vec<_>>());
    }

    #[test]
    fn rows_of_versions_without_the_address_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("invocations.csv.zst");
        let columns = "function,index,phase,scheduled_ns,sent_ns,first_byte_ns,done_ns,requested_us,memory_mib,executed_us,\
                       queue_us,cold_us,exec_us,status,outcome,cold,sandbox,attempts,error";
        let text = format!("{columns}\nf3,3,measured,30,31,,35,7,128,8,,3,,200,ok,1,1-2,1,\"a, \"\"b\"\"\"\n");
        std::fs::write(&path, zstd::encode_all(text.as_bytes(), COMPRESSION_LEVEL).unwrap()).unwrap();
        let back: Vec<_> = InvocationReader::open(&path).unwrap().map(Result::unwrap).collect();
        assert_eq!(back, [Invocation { address: None, ..row(3) }]);
    }

    #[test]
    fn outcomes_are_named_as_in_the_rows() {
        for outcome in
            [Outcome::Ok, Outcome::Refused, Outcome::Timeout, Outcome::Error, Outcome::Invalid, Outcome::Unsent]
        {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.name());
        }
    }

    #[test]
    fn outcomes_are_ordered_by_name() {
        let mut outcomes = [Outcome::Unsent, Outcome::Ok, Outcome::Timeout, Outcome::Error, Outcome::Refused];
        outcomes.sort_unstable();
        assert_eq!(outcomes.map(|outcome| outcome.to_string()), ["error", "ok", "refused", "timeout", "unsent"]);
    }

    #[test]
    fn latency_and_lag_count_from_when_a_row_was_due() {
        assert_eq!((row(3).latency_ns(), row(3).lag_ns()), (Some(5), Some(1)));
        let unsent = Invocation { sent_ns: None, done_ns: None, outcome: Outcome::Unsent, ..row(3) };
        assert_eq!((unsent.latency_ns(), unsent.lag_ns()), (None, None));
    }

    #[test]
    fn a_bad_row_is_named_with_its_column_and_the_rows_before_it_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("invocations.csv.zst");
        let mut csv = csv::Writer::from_writer(Vec::new());
        [row(0), row(1)].iter().for_each(|row| csv.serialize(row).unwrap());
        let text =
            String::from_utf8(csv.into_inner().unwrap()).unwrap().replace("f1,1,measured,10", "f1,1,measured,soon");
        std::fs::write(&path, zstd::encode_all(text.as_bytes(), COMPRESSION_LEVEL).unwrap()).unwrap();
        let mut rows = InvocationReader::open(&path).unwrap();
        assert_eq!(rows.next().unwrap().unwrap(), row(0));
        let error = rows.next().unwrap().unwrap_err().to_string();
        assert_eq!(error, format!("{}, row 3: column scheduled_ns: invalid digit found in string", path.display()));
    }

    #[test]
    fn a_file_without_any_complete_frame_has_no_rows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("invocations.csv.zst");
        let mut writer = InvocationWriter::create(&path).unwrap();
        writer.write(&row(0)).unwrap();
        writer.flush().unwrap();
        writer.flush().unwrap();
        File::options().write(true).open(&path).unwrap().set_len(6).unwrap();
        assert_eq!(InvocationReader::open(&path).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_is_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("invocations.csv.zst");
        std::fs::write(&path, "function,index\nf,1\n").unwrap();
        let Err(error) = InvocationReader::open(&path) else { panic!("plain text was read as zstd") };
        assert!(error.to_string().contains("row 1: no zstd-compressed table"), "{error}");
    }

    #[test]
    fn a_file_cut_off_in_its_last_frame_keeps_the_rows_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("invocations.csv.zst");
        let mut writer = InvocationWriter::create(&path).unwrap();
        writer.write(&row(0)).unwrap();
        writer.flush().unwrap();
        let whole = std::fs::metadata(&path).unwrap().len();
        writer.write(&row(1)).unwrap();
        writer.flush().unwrap();
        File::options().write(true).open(&path).unwrap().set_len(whole + 6).unwrap();
        let back: Vec<_> = InvocationReader::open(&path).unwrap().map(Result::unwrap).collect();
        assert_eq!(back, [row(0)]);
    }
}
