//! The command log in a local redb file: one transaction, and so one flush to disk, per batch of commands.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Command, Logged, Store, StoreError, StoreFuture};

/// Index → command as JSON, which a person can read and later versions can extend.
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// Memory for the file's pages. The log is read once and then only added to, so more would only hold what nobody reads.
const CACHE_BYTES: usize = 8 * 1024 * 1024;
/// Name of the file within the data directory.
const FILE: &str = "commands.redb";

/// A command log in a file.
pub struct RedbStore {
    log: Arc<LogFile>,
}

struct LogFile {
    database: Database,
    path: PathBuf,
}

impl RedbStore {
    /// Opens or creates the log in `directory`.
    ///
    /// # Errors
    /// When the directory or file cannot be used, for example because another control plane has it open.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let refused = |source| StoreError::Directory { path: directory.display().to_string(), source };
        fs::create_dir_all(directory).map_err(refused)?;
        let path = directory.join(FILE);
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(&path);
        let database = database.map_err(|error| database_error(&path, error))?;
        let log = LogFile { database, path };
        log.create_table()?;
        Ok(Self { log: Arc::new(log) })
    }
}

impl Store for RedbStore {
    fn load(&mut self) -> StoreFuture<'_, Vec<Logged>> {
        let log = self.log.clone();
        Box::pin(blocking(move || log.load()))
    }

    fn append(&mut self, commands: Vec<Command>) -> StoreFuture<'_, u64> {
        let log = self.log.clone();
        Box::pin(blocking(move || log.append(&commands)))
    }
}

impl LogFile {
    fn create_table(&self) -> Result<(), StoreError> {
        let write = self.database.begin_write().map_err(|error| self.error(error))?;
        write.open_table(LOG).map_err(|error| self.error(error))?;
        write.commit().map_err(|error| self.error(error))
    }

    fn load(&self) -> Result<Vec<Logged>, StoreError> {
        let read = self.database.begin_read().map_err(|error| self.error(error))?;
        let table = read.open_table(LOG).map_err(|error| self.error(error))?;
        let mut entries = Vec::new();
        for entry in table.iter().map_err(|error| self.error(error))? {
            let (index, command) = entry.map_err(|error| self.error(error))?;
            let index = index.value();
            let command = serde_json::from_slice(command.value()).map_err(|source| StoreError::Entry {
                path: self.path.display().to_string(),
                index,
                source,
            })?;
            entries.push(Logged { index, command });
        }
        Ok(entries)
    }

    fn append(&self, commands: &[Command]) -> Result<u64, StoreError> {
        let mut write = self.database.begin_write().map_err(|error| self.error(error))?;
        write.set_durability(Durability::Immediate).map_err(|error| self.error(error))?;
        let first = {
            let mut table = write.open_table(LOG).map_err(|error| self.error(error))?;
            let last = table.last().map_err(|error| self.error(error))?.map_or(0, |(index, _)| index.value());
            for (index, command) in (last + 1..).zip(commands) {
                let bytes = serde_json::to_vec(command).map_err(|error| self.error(error))?;
                table.insert(index, bytes.as_slice()).map_err(|error| self.error(error))?;
            }
            last + 1
        };
        write.commit().map_err(|error| self.error(error))?;
        Ok(first)
    }

    fn error(&self, error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
        database_error(&self.path, error)
    }
}

fn database_error(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Database { path: path.display().to_string(), source: Box::new(error) }
}

/// Runs file work beside the runtime, which must not wait for a disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(stopped) => Err(StoreError::Database { path: FILE.to_owned(), source: Box::new(stopped) }),
    }
}

#[cfg(test)]
mod tests {
    use model::Epoch;

    use super::*;

    fn command(epoch: u32) -> Command {
        Command::BeginEpoch { epoch: Epoch(epoch) }
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = RedbStore::open(dir.path()).unwrap();
        assert_eq!(store.append(vec![command(1), command(2)]).await.unwrap(), 1);
        assert_eq!(store.append(vec![command(3)]).await.unwrap(), 3);
        drop(store);
        let found = RedbStore::open(dir.path()).unwrap().load().await.unwrap();
        let expected: Vec<_> = (1..=3).map(|n| Logged { index: n.into(), command: command(n) }).collect();
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn a_second_writer_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = RedbStore::open(dir.path()).unwrap();
        let Err(error) = RedbStore::open(dir.path()) else { panic!("the log was opened twice") };
        assert!(error.to_string().contains("commands.redb"), "{error}");
    }
}
