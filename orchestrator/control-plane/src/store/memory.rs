//! A command log in memory, for simulated clusters: it survives its control plane, not the process. It is compacted
//! when it is read, never while it is written: simulated clusters are restarted often and write little.

use std::{
    collections::BTreeMap,
    future::ready,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    Command, Compacted, Logged, Store, StoreError, StoreFuture,
    compaction::{Entries, Snapshot},
};

/// A command log in memory. Clones share it, so that a restarted control plane finds what the last one wrote.
#[derive(Clone, Default)]
pub struct MemoryStore {
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    entries: BTreeMap<u64, Command>,
    snapshot: Snapshot,
    /// The greatest index used.
    newest: u64,
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn load(&mut self) -> StoreFuture<'_, Vec<Logged>> {
        let mut log = self.lock();
        let loaded = log.compact().map(|()| in_order(log.entries.clone()));
        Box::pin(ready(loaded))
    }

    fn append(&mut self, commands: Vec<Command>) -> StoreFuture<'_, u64> {
        let mut log = self.lock();
        let first = log.newest + 1;
        log.newest += commands.len() as u64;
        log.entries.extend((first..).zip(commands));
        Box::pin(ready(Ok(first)))
    }

    fn compact(&mut self) -> StoreFuture<'_, Compacted> {
        Box::pin(ready(Ok(Compacted::Nothing)))
    }

    fn entries(&self) -> u64 {
        self.lock().entries.len() as u64
    }
}

impl Log {
    fn compact(&mut self) -> Result<(), StoreError> {
        let tail: Vec<_> = self.entries.range(self.snapshot.covers() + 1..).map(|(index, _)| *index).collect();
        for index in tail {
            if let Some(command) = self.entries.get(&index).cloned() {
                let stays = self.snapshot.take(index, &command, &mut self.entries)?;
                if !stays {
                    self.entries.remove(&index);
                }
            }
        }
        Ok(())
    }
}

impl Entries for BTreeMap<u64, Command> {
    fn read(&self, index: u64) -> Result<Option<Command>, StoreError> {
        Ok(self.get(&index).cloned())
    }

    fn write(&mut self, index: u64, command: Command) -> Result<(), StoreError> {
        self.insert(index, command);
        Ok(())
    }

    fn erase(&mut self, index: u64) -> Result<(), StoreError> {
        self.remove(&index);
        Ok(())
    }
}

/// Entries by index as a log.
pub(super) fn in_order(entries: BTreeMap<u64, Command>) -> Vec<Logged> {
    entries.into_iter().map(|(index, command)| Logged { index, command }).collect()
}
