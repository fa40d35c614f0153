//! The command log in a local redb file: one transaction, and so one flush to disk, per batch of commands.

mod entry;
mod file;

use std::{
    fs,
    future::ready,
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use self::file::LogFile;
use super::{Command, Compacted, Logged, Store, StoreError, StoreFuture};

/// Name of the file within the data directory.
const FILE: &str = "commands.redb";
/// Permissions of a directory that is created for it: only its owner may read it.
const DIRECTORY_MODE: u32 = 0o700;

/// A command log in a file.
pub struct RedbStore {
    /// Used by one thread at a time: the lock is never waited for unless a future was dropped half-way.
    log: Arc<Mutex<LogFile>>,
}

impl RedbStore {
    /// Opens or creates the log in `directory`. Only the user of this process may read it afterwards: functions are
    /// registered with environment variables, and so with passwords.
    ///
    /// # Errors
    /// The directory or file cannot be used, for example because another control plane has it open.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let refused = |source| StoreError::Directory { path: directory.display().to_string(), source };
        make(directory).map_err(refused)?;
        Ok(Self { log: Arc::new(Mutex::new(LogFile::open(directory.join(FILE))?)) })
    }

    /// Does file work beside the runtime, which must not wait for a disk.
    fn beside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut LogFile) -> Result<T, StoreError> + Send + 'static,
    ) -> StoreFuture<'static, T> {
        let log = self.log.clone();
        let working = tokio::task::spawn_blocking(move || work(&mut lock(&log)));
        Box::pin(async move {
            let stopped = |error| StoreError::Database { path: FILE.to_owned(), source: Box::new(error) };
            working.await.map_err(stopped)?
        })
    }
}

impl Store for RedbStore {
    fn load(&mut self) -> StoreFuture<'_, Vec<Logged>> {
        self.beside(LogFile::load)
    }

    fn append(&mut self, commands: Vec<Command>) -> StoreFuture<'_, u64> {
        self.beside(move |log| log.append(&commands))
    }

    fn compact(&mut self) -> StoreFuture<'_, Compacted> {
        if !lock(&self.log).wants_compaction() {
            return Box::pin(ready(Ok(Compacted::Nothing)));
        }
        self.beside(LogFile::compact)
    }

    fn entries(&self) -> u64 {
        lock(&self.log).entries()
    }
}

/// Creates the directory if there is none. An existing one may serve other purposes as well, so its permissions stay as
/// they are.
fn make(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(directory)?;
    // Whatever the umask is.
    fs::set_permissions(directory, fs::Permissions::from_mode(DIRECTORY_MODE))
}

fn lock(log: &Mutex<LogFile>) -> MutexGuard<'_, LogFile> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use model::{Epoch, FunctionSpec};

    use super::*;

    fn epoch(epoch: u32) -> Command {
        Command::BeginEpoch { epoch: Epoch(epoch), nonce: 5 }
    }

    fn put(name: u32, memory: u32) -> Command {
        let spec = FunctionSpec { memory, ..FunctionSpec::new(format!("f{name}").parse().unwrap(), "any") };
        Command::PutFunction { spec: Box::new(spec) }
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = RedbStore::open(dir.path()).unwrap();
        assert_eq!(store.append(vec![epoch(1), put(1, 64)]).await.unwrap(), 1);
        assert_eq!(store.append(vec![put(2, 64)]).await.unwrap(), 3);
        drop(store);
        let found = RedbStore::open(dir.path()).unwrap().load().await.unwrap();
        let expected = [epoch(1), put(1, 64), put(2, 64)];
        let expected: Vec<_> = (1..).zip(expected).map(|(index, command)| Logged { index, command }).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn nobody_else_reads_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("control-plane");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        drop(RedbStore::open(&folder).unwrap());
        assert_eq!((mode(&folder), mode(&folder.join(FILE))), (0o700, 0o600));
        // One that another version left.
        fs::set_permissions(folder.join(FILE), fs::Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        drop(RedbStore::open(&folder).unwrap());
        assert_eq!((mode(&folder), mode(&folder.join(FILE))), (0o755, 0o600), "only what is its own is changed");
    }

    #[tokio::test]
    async fn a_second_writer_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = RedbStore::open(dir.path()).unwrap();
        let Err(error) = RedbStore::open(dir.path()) else { panic!("the log was opened twice") };
        assert!(error.to_string().contains("commands.redb"), "{error}");
    }

    #[tokio::test]
    async fn an_index_is_not_used_again_when_its_command_was_compacted_away() {
        let dir = tempfile::tempdir().unwrap();
        let delete = Command::DeleteFunction { name: "f1".parse().unwrap() };
        for round in 0..3 {
            let mut store = RedbStore::open(dir.path()).unwrap();
            assert_eq!(store.load().await.unwrap(), [], "what began and ended is gone");
            assert_eq!(store.append(vec![put(1, 64), delete.clone()]).await.unwrap(), 1 + 2 * round);
        }
    }

    #[tokio::test]
    async fn a_long_log_is_compacted_while_it_is_written_as_one_is_at_a_start() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [mut store, mut untouched] = [&dirs[0], &dirs[1]].map(|dir| RedbStore::open(dir.path()).unwrap());
        let mut steps = 0;
        for batch in 0..12 {
            let commands: Vec<_> = (0..1000).map(|name| put(name % 700, batch)).collect();
            untouched.append(commands.clone()).await.unwrap();
            store.append(commands).await.unwrap();
            // One step between two batches, and the rest when there is nothing to write.
            loop {
                let compacted = store.compact().await.unwrap();
                steps += u32::from(compacted != Compacted::Nothing);
                if compacted != Compacted::Partly || batch < 11 {
                    break;
                }
            }
        }
        assert!(steps > 10, "it was compacted in {steps} steps");
        assert!(store.entries() < 3000, "{} of 12,000 entries are left", store.entries());
        assert_eq!(untouched.entries(), 12_000);
        let compacted_at_start = untouched.load().await.unwrap();
        assert_eq!(compacted_at_start.len(), 700);
        assert_eq!(store.load().await.unwrap(), compacted_at_start);
        drop(store);
        let reopened = RedbStore::open(dirs[0].path()).unwrap().load().await.unwrap();
        assert_eq!(reopened, compacted_at_start);
    }

    #[tokio::test]
    async fn a_file_that_is_mostly_unused_is_made_smaller_at_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = || fs::metadata(dir.path().join(FILE)).unwrap().len();
        let mut store = RedbStore::open(dir.path()).unwrap();
        for batch in 0..20 {
            store.append((0..1000).map(|name| put(name, batch)).collect()).await.unwrap();
        }
        let before = bytes();
        assert_eq!(store.load().await.unwrap().len(), 1000);
        assert!(bytes() < before / 3, "{before} bytes became {}", bytes());
        assert_eq!(store.append(vec![epoch(1)]).await.unwrap(), 20_001);
    }
}
