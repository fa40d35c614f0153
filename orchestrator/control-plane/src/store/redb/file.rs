//! The file of the command log: a table of commands by index, and beside it the greatest index used.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    WriteTransaction, backends::FileBackend,
};

use super::entry;
use crate::store::{
    Command, Compacted, Logged, StoreError,
    compaction::{Entries, Snapshot},
    memory::in_order,
};

/// Index → command as an [`entry`].
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// Under [`NEWEST`]: the greatest index used when the log was last compacted, though there may be no entry left there.
const INDEXES: TableDefinition<'_, &str, u64> = TableDefinition::new("indexes");
const NEWEST: &str = "newest";
/// Memory for the file's pages. The log is read once and then mostly appended to, so a larger cache would only keep
/// pages that are not read again (docs/design-decisions.md).
const CACHE_BYTES: usize = 8 * 1024 * 1024;
/// Permissions of the file: only its owner reads it.
const MODE: u32 = 0o600;
/// Entries that one step of a compaction takes in: an append waits a few milliseconds for it.
const STEP_ENTRIES: usize = 512;
/// A smaller file is left as large as it is.
const SMALL_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// The open file. Its owner uses it from one thread at a time.
pub(super) struct LogFile {
    database: Database,
    path: PathBuf,
    snapshot: Snapshot,
    /// Commands in the log.
    entries: u64,
    /// The greatest index used.
    newest: u64,
    /// Index at which the current compaction ends: entries added since then belong to the next one.
    compacts_to: Option<u64>,
}

impl LogFile {
    pub(super) fn open(path: PathBuf) -> Result<Self, StoreError> {
        let file = open_private(&path).map_err(|error| failure(&path, error))?;
        let backend = FileBackend::new(file).map_err(|error| failure(&path, error))?;
        let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend);
        let database = database.map_err(|error| failure(&path, error))?;
        let snapshot = Snapshot::default();
        let mut log = Self { database, path, snapshot, entries: 0, newest: 0, compacts_to: None };
        let write = log.begin()?;
        let (newest, entries) = {
            let table = log.table(&write)?.table;
            let indexes = write.open_table(INDEXES).map_err(|error| log.error(error))?;
            let last = table.last().map_err(|error| log.error(error))?.map_or(0, |(index, _)| index.value());
            let used = indexes.get(NEWEST).map_err(|error| log.error(error))?.map_or(0, |newest| newest.value());
            (last.max(used), table.len().map_err(|error| log.error(error))?)
        };
        (log.newest, log.entries) = (newest, entries);
        log.commit(write)?;
        Ok(log)
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    /// Reads the log, compacts it in one transaction, and gives unused space back when that is much.
    pub(super) fn load(&mut self) -> Result<Vec<Logged>, StoreError> {
        let (loaded, mut snapshot) = self.read()?;
        self.write_changes(&loaded)?;
        snapshot.cover(self.newest);
        (self.snapshot, self.entries, self.compacts_to) = (snapshot, loaded.commands.len() as u64, None);
        self.give_back_space()?;
        Ok(in_order(loaded.commands))
    }

    fn read(&self) -> Result<(Loaded, Snapshot), StoreError> {
        let read = self.database.begin_read().map_err(|error| self.error(error))?;
        let table = read.open_table(LOG).map_err(|error| self.error(error))?;
        let (mut loaded, mut snapshot) = (Loaded::default(), Snapshot::default());
        for entry in table.iter().map_err(|error| self.error(error))? {
            let (index, bytes) = entry.map_err(|error| self.error(error))?;
            let index = index.value();
            let command = entry::decode(&self.path, index, bytes.value())?;
            if snapshot.take(index, &command, &mut loaded)? {
                loaded.commands.insert(index, command);
            } else {
                loaded.changed.insert(index);
            }
        }
        Ok((loaded, snapshot))
    }

    /// Makes the table hold what was loaded: entry by entry, or anew when that is less.
    fn write_changes(&self, loaded: &Loaded) -> Result<(), StoreError> {
        if loaded.changed.is_empty() {
            return Ok(());
        }
        let write = self.begin()?;
        let anew = loaded.changed.len() > loaded.commands.len();
        if anew {
            write.delete_table(LOG).map_err(|error| self.error(error))?;
        }
        let mut table = self.table(&write)?;
        if anew {
            for (index, command) in &loaded.commands {
                table.insert(*index, command)?;
            }
        } else {
            for index in &loaded.changed {
                match loaded.commands.get(index) {
                    Some(command) => table.insert(*index, command)?,
                    None => table.erase(*index)?,
                }
            }
        }
        drop(table);
        self.note_newest(&write)?;
        self.commit(write)
    }

    pub(super) fn append(&mut self, commands: &[Command]) -> Result<u64, StoreError> {
        let first = self.newest + 1;
        let write = self.begin()?;
        {
            let mut table = self.table(&write)?;
            for (index, command) in (first..).zip(commands) {
                table.insert(index, command)?;
            }
        }
        self.commit(write)?;
        self.newest += commands.len() as u64;
        self.entries += commands.len() as u64;
        Ok(first)
    }

    /// Returns true if a compaction step is due.
    pub(super) fn wants_compaction(&self) -> bool {
        self.compacts_to.is_some() || self.snapshot.is_outgrown(self.entries)
    }

    /// Takes the next few entries of the tail into the snapshot, in one transaction.
    ///
    /// # Errors
    /// The file cannot be read or written. The log is then unchanged, and the next compaction starts over.
    pub(super) fn compact(&mut self) -> Result<Compacted, StoreError> {
        let to = *self.compacts_to.get_or_insert(self.newest);
        let mut snapshot = std::mem::take(&mut self.snapshot);
        let write = self.begin()?;
        let (is_last, count) = {
            let mut table = self.table(&write)?;
            let next = table.some_after(snapshot.covers(), to)?;
            let is_last = next.len() < STEP_ENTRIES;
            for (index, command) in next {
                if !snapshot.take(index, &command, &mut table)? {
                    table.erase(index)?;
                }
            }
            (is_last, table.table.len().map_err(|error| self.error(error))?)
        };
        if is_last {
            snapshot.cover(to);
            self.compacts_to = None;
        }
        self.note_newest(&write)?;
        self.commit(write)?;
        (self.snapshot, self.entries) = (snapshot, count);
        Ok(if is_last { Compacted::Wholly } else { Compacted::Partly })
    }

    /// Makes the file smaller if half of it or more is unused. Compaction while running leaves space that later
    /// commands use; this is for what they have not.
    fn give_back_space(&mut self) -> Result<(), StoreError> {
        let unreadable = |source| StoreError::Directory { path: self.path.display().to_string(), source };
        let file_bytes = fs::metadata(&self.path).map_err(unreadable)?.len();
        if file_bytes < SMALL_FILE_BYTES {
            return Ok(());
        }
        let write = self.begin()?;
        let stats = write.stats().map_err(|error| self.error(error))?;
        write.abort().map_err(|error| self.error(error))?;
        if file_bytes / 2 >= stats.allocated_pages() * stats.page_size() as u64 {
            self.database.compact().map_err(|error| failure(&self.path, error))?;
        }
        Ok(())
    }

    fn begin(&self) -> Result<WriteTransaction, StoreError> {
        let mut write = self.database.begin_write().map_err(|error| self.error(error))?;
        write.set_durability(Durability::Immediate).map_err(|error| self.error(error))?;
        Ok(write)
    }

    fn table<'a>(&'a self, write: &'a WriteTransaction) -> Result<LogTable<'a>, StoreError> {
        Ok(LogTable { table: write.open_table(LOG).map_err(|error| self.error(error))?, path: &self.path })
    }

    /// Stores the greatest index used, which may be that of an entry that was compacted away.
    fn note_newest(&self, write: &WriteTransaction) -> Result<(), StoreError> {
        let mut indexes = write.open_table(INDEXES).map_err(|error| self.error(error))?;
        indexes.insert(NEWEST, self.newest).map_err(|error| self.error(error))?;
        Ok(())
    }

    fn commit(&self, write: WriteTransaction) -> Result<(), StoreError> {
        write.commit().map_err(|error| self.error(error))
    }

    fn error(&self, error: impl Error + Send + Sync + 'static) -> StoreError {
        failure(&self.path, error)
    }
}

/// The table of commands within a transaction.
struct LogTable<'a> {
    table: Table<'a, u64, &'static [u8]>,
    path: &'a Path,
}

impl LogTable<'_> {
    /// The entries of one step, after one index and up to another.
    fn some_after(&self, after: u64, to: u64) -> Result<Vec<(u64, Command)>, StoreError> {
        let mut some = Vec::with_capacity(STEP_ENTRIES);
        for entry in self.table.range(after + 1..=to).map_err(|error| self.error(error))?.take(STEP_ENTRIES) {
            let (index, bytes) = entry.map_err(|error| self.error(error))?;
            some.push((index.value(), entry::decode(self.path, index.value(), bytes.value())?));
        }
        Ok(some)
    }

    fn insert(&mut self, index: u64, command: &Command) -> Result<(), StoreError> {
        let bytes = entry::encode(command).map_err(|error| self.error(error))?;
        self.table.insert(index, bytes.as_slice()).map_err(|error| failure(self.path, error))?;
        Ok(())
    }

    fn error(&self, error: impl Error + Send + Sync + 'static) -> StoreError {
        failure(self.path, error)
    }
}

impl Entries for LogTable<'_> {
    fn read(&self, index: u64) -> Result<Option<Command>, StoreError> {
        let bytes = self.table.get(index).map_err(|error| self.error(error))?;
        bytes.map(|bytes| entry::decode(self.path, index, bytes.value())).transpose()
    }

    fn write(&mut self, index: u64, command: Command) -> Result<(), StoreError> {
        self.insert(index, &command)
    }

    fn erase(&mut self, index: u64) -> Result<(), StoreError> {
        self.table.remove(index).map_err(|error| failure(self.path, error))?;
        Ok(())
    }
}

/// The commands that have been read and still matter, and where the file differs from them.
#[derive(Default)]
struct Loaded {
    commands: BTreeMap<u64, Command>,
    changed: BTreeSet<u64>,
}

impl Entries for Loaded {
    fn read(&self, index: u64) -> Result<Option<Command>, StoreError> {
        self.commands.read(index)
    }

    fn write(&mut self, index: u64, command: Command) -> Result<(), StoreError> {
        self.changed.insert(index);
        self.commands.write(index, command)
    }

    fn erase(&mut self, index: u64) -> Result<(), StoreError> {
        self.changed.insert(index);
        self.commands.erase(index)
    }
}

/// Opens or creates a file that only its owner may read, even if it had other permissions before.
fn open_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(MODE).open(path)?;
    if file.metadata()?.permissions().mode() & 0o777 & !MODE != 0 {
        file.set_permissions(fs::Permissions::from_mode(MODE))?;
    }
    Ok(file)
}

fn failure(path: &Path, error: impl Error + Send + Sync + 'static) -> StoreError {
    StoreError::Database { path: path.display().to_string(), source: Box::new(error) }
}
