//! Writes the command log in a task of its own, one batch of commands after the other, and compacts it in between: the
//! owner must not wait for the disk.

use std::sync::Arc;

use service::micros;
use tokio::{
    sync::mpsc::{self, error::TryRecvError},
    time::Instant,
};

use crate::{
    metrics::Metrics,
    state::Origin,
    store::{Command, Compacted, Store, StoreError},
};

/// Commands with their origins, which learn when the batch is durable.
pub(crate) type CommandBatch = Vec<(Command, Origin)>;

/// Index of the batch's first command, or the reason why the batch is not durable.
pub(crate) type Written = Result<(u64, CommandBatch), StoreError>;

/// Has the store, while the owner has the rest.
pub(crate) struct LogWriter {
    store: Box<dyn Store>,
    batches: mpsc::Receiver<CommandBatch>,
    done: mpsc::Sender<Written>,
    metrics: Arc<Metrics>,
    /// A compaction failed: what is written is not affected, and the next start tries again.
    compaction_failed: bool,
}

impl LogWriter {
    /// A writer, the way to hand over a batch, and how one learns that it is durable. One batch at a time.
    pub(crate) fn new(
        store: Box<dyn Store>,
        metrics: Arc<Metrics>,
    ) -> (Self, mpsc::Sender<CommandBatch>, mpsc::Receiver<Written>) {
        let (log, batches) = mpsc::channel(1);
        let (done, written) = mpsc::channel(1);
        (Self { store, batches, done, metrics, compaction_failed: false }, log, written)
    }

    /// Runs until the owner has ended, and writes everything that it passed on.
    pub(crate) async fn run(mut self) {
        self.count_entries();
        let mut compacts = false;
        loop {
            match if compacts { self.batches.try_recv() } else { self.next().await } {
                Ok(batch) => {
                    if !self.write(batch).await {
                        return;
                    }
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
            // Also after each batch, so that a compaction comes to an end however much is written.
            compacts = self.compact().await;
            self.count_entries();
        }
    }

    async fn next(&mut self) -> Result<CommandBatch, TryRecvError> {
        self.batches.recv().await.ok_or(TryRecvError::Disconnected)
    }

    /// Writes a batch. Returns false if the owner has ended.
    async fn write(&mut self, batch: CommandBatch) -> bool {
        let began = Instant::now();
        let commands = batch.iter().map(|(command, _)| command.clone()).collect::<Vec<_>>();
        self.metrics.commands.inc_by(commands.len() as u64);
        let written = self.store.append(commands).await.map(|first| (first, batch));
        self.metrics.commit_seconds.observe_us(micros(began.elapsed()));
        self.done.send(written).await.is_ok()
    }

    /// Does a step of a compaction, if one is worth it; `true` when there are more.
    async fn compact(&mut self) -> bool {
        if self.compaction_failed {
            return false;
        }
        let began = Instant::now();
        let compacted = self.store.compact().await;
        match compacted {
            Ok(Compacted::Nothing) => return false,
            Ok(Compacted::Partly) => {}
            Ok(Compacted::Wholly) => drop(self.metrics.log_compactions.inc()),
            Err(error) => {
                tracing::error!(cause = %error, "the command log cannot be compacted, and grows until the next start");
                self.compaction_failed = true;
                return false;
            }
        }
        self.metrics.compaction_seconds.observe_us(micros(began.elapsed()));
        matches!(compacted, Ok(Compacted::Partly))
    }

    fn count_entries(&self) {
        self.metrics.log_entries.set(i64::try_from(self.store.entries()).unwrap_or(i64::MAX));
    }
}
