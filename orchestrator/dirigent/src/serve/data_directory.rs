//! The data directory of a daemon: used by one process at a time, with `ports.json` for scripts that asked for port 0.
//!
//! Nothing in the directory may be touched before it is locked: its files may belong to a running daemon.

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process,
    time::SystemTime,
};

use anyhow::{Context, anyhow, bail};
use record::{DirectoryLock, Holder};

/// Name of the file with the addresses.
const PORTS_FILE: &str = "ports.json";

/// The addresses that a daemon listens on, by purpose.
pub(super) type Ports = BTreeMap<&'static str, SocketAddr>;

/// Permissions of a data directory that is made now.
#[derive(Clone, Copy, Debug)]
pub(super) enum Others {
    /// Nothing.
    Nothing,
    /// Reach what they know the name of: the working directories of sandboxes, which may run as another user, are below.
    PassThrough,
}

/// A locked data directory. Dropping it removes `ports.json`, because an ended daemon listens nowhere, and then unlocks it.
#[derive(Debug)]
#[must_use]
pub(super) struct DataDirectory {
    path: PathBuf,
    _lock: DirectoryLock,
}

impl Others {
    /// Makes the directory if it is not there, whatever the umask is. One that is there stays as it is: it may be for more
    /// than this daemon.
    fn make(self, directory: &Path) -> io::Result<()> {
        if directory.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(directory)?;
        let mode = match self {
            Self::Nothing => 0o700,
            Self::PassThrough => 0o711,
        };
        fs::set_permissions(directory, fs::Permissions::from_mode(mode))
    }
}

impl DataDirectory {
    /// Locks `directory`, which is made for `others` too or not when it is not there, for the daemon that users know as `role`, and removes the
    /// `ports.json` that a killed daemon left, so that nobody takes its addresses for the next one's.
    ///
    /// # Errors
    /// If another process uses it, which is named and nothing is changed; or when it cannot be written.
    pub(super) fn open(directory: &Path, role: &str, others: Others) -> anyhow::Result<Self> {
        if directory.exists() && !directory.is_dir() {
            bail!("data directory {}: expected a directory, got a file; --data-dir names another", directory.display());
        }
        others
            .make(directory)
            .with_context(|| format!("data directory {}; --data-dir names another", directory.display()))?;
        let since = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let holder = Holder { process: process::id(), since, purpose: format!("dirigent {role}") };
        let lock = DirectoryLock::take(directory, &holder)
            .map_err(|error| anyhow!("data directory: {:#}; --data-dir names another", anyhow::Error::new(error)))?;
        let opened = Self { path: directory.to_owned(), _lock: lock };
        opened.withdraw().with_context(|| opened.ports_file().display().to_string())?;
        Ok(opened)
    }

    /// Writes the addresses, so that a reader sees all of them or no file; says them in a log line.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn announce(&self, role: &str, ports: &Ports) -> anyhow::Result<()> {
        record::write_json(&self.ports_file(), ports)?;
        let [stream, http, invoke, admin] =
            ["stream", "http", "invoke", "admin"].map(|purpose| ports.get(purpose).map(tracing::field::display));
        tracing::info!(part = role, stream, http, invoke, admin, "listening");
        Ok(())
    }

    fn ports_file(&self) -> PathBuf {
        self.path.join(PORTS_FILE)
    }

    fn withdraw(&self) -> io::Result<()> {
        match fs::remove_file(self.ports_file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for DataDirectory {
    fn drop(&mut self) {
        // Nobody is left to report it to; the next daemon here removes it again.
        let _ = self.withdraw();
    }
}
