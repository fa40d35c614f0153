//! Writes `coldstarts.csv`, one row per creation, beside the owner task.

use std::{path::Path, time::SystemTime};

use record::{ColdStart, RecordError, TableWriter};
use service::Clock;
use tokio::{
    sync::mpsc,
    time::{Duration, Instant, interval_at},
};
use tokio_util::sync::CancellationToken;

/// Rows that may wait to be written. Beyond that the owner drops rows and logs it: it must not wait for a disk.
pub(crate) const MAX_WAITING_ROWS: usize = 65_536;
/// Interval at which buffered rows are written to the file.
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);

/// The open file.
pub(crate) struct ColdStartLog {
    table: TableWriter,
    /// The control plane's clock began then, in nanoseconds since the Unix epoch.
    origin_unix_ns: i64,
}

impl ColdStartLog {
    pub(crate) fn create(directory: &Path, clock: Clock) -> Result<Self, RecordError> {
        std::fs::create_dir_all(directory)
            .map_err(|source| RecordError::File { path: directory.to_owned(), source })?;
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let origin = since_epoch.saturating_sub(Duration::from_micros(clock.now_us()));
        let origin_unix_ns = i64::try_from(origin.as_nanos()).unwrap_or(i64::MAX);
        Ok(Self { table: TableWriter::create(&directory.join("coldstarts.csv"))?, origin_unix_ns })
    }

    /// Writes rows until `stop`, and then what is waiting.
    pub(crate) async fn run(mut self, mut rows: mpsc::Receiver<Box<ColdStart>>, stop: CancellationToken) {
        let mut flush = interval_at(Instant::now() + FLUSH_INTERVAL, FLUSH_INTERVAL);
        loop {
            tokio::select! {
                biased;
                row = rows.recv() => match row {
                    Some(row) => self.write(*row),
                    None => break,
                },
                _ = flush.tick() => self.check(|log| log.table.flush()),
                () = stop.cancelled() => break,
            }
        }
        rows.close();
        while let Ok(row) = rows.try_recv() {
            self.write(*row);
        }
        self.check(|log| log.table.flush());
    }

    fn write(&mut self, mut row: ColdStart) {
        row.requested_ns = row.requested_ns.saturating_add(self.origin_unix_ns);
        self.check(|log| log.table.write(&row));
    }

    fn check(&mut self, act: impl FnOnce(&mut Self) -> Result<(), RecordError>) {
        if let Err(error) = act(self) {
            tracing::error!(cause = %error, "cold starts are not being recorded");
        }
    }
}
