//! A command log in memory, for simulated clusters: it survives its control plane, not the process.

use std::{
    future::ready,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Command, Logged, Store, StoreFuture};

/// A command log in memory. Clones share it, so that a restarted control plane finds what the last one wrote.
#[derive(Clone, Default)]
pub struct MemoryStore {
    log: Arc<Mutex<Vec<Command>>>,
}

impl Store for MemoryStore {
    fn load(&mut self) -> StoreFuture<'_, Vec<Logged>> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = log.iter().cloned().zip(1..).map(|(command, index)| Logged { index, command }).collect();
        Box::pin(ready(Ok(entries)))
    }

    fn append(&mut self, commands: Vec<Command>) -> StoreFuture<'_, u64> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let first = log.len() as u64 + 1;
        log.extend(commands);
        Box::pin(ready(Ok(first)))
    }
}
