//! `ports.json`: the addresses a daemon really listens on, for scripts that asked for port 0.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// Name of the file within a data directory.
const FILE: &str = "ports.json";

/// What a daemon listens on, by purpose.
pub(super) type Ports = BTreeMap<&'static str, SocketAddr>;

/// A written `ports.json`. Dropping it removes the file: an ended daemon listens nowhere.
#[must_use]
pub(super) struct Announced {
    path: PathBuf,
}

/// Writes the addresses into `directory`, so that a reader sees all of them or no file; says them on standard error.
///
/// # Errors
/// When the directory cannot be made or the file not written.
pub(super) fn announce(role: &str, directory: &Path, ports: &Ports) -> anyhow::Result<Announced> {
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    let path = directory.join(FILE);
    record::write_json(&path, ports)?;
    let list: Vec<String> = ports.iter().map(|(purpose, address)| format!("{purpose} {address}")).collect();
    eprintln!("{role}: {}", list.join(", "));
    Ok(Announced { path })
}

/// Removes what a killed daemon left in `directory`, so that nobody takes its ports for the next one's.
///
/// # Errors
/// When the file is there and cannot be removed.
pub(super) fn withdraw(directory: &Path) -> anyhow::Result<()> {
    let path = directory.join(FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| path.display().to_string())
        }
        _ => Ok(()),
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        // Whoever removed it before has done what is to be done.
        let _ = fs::remove_file(&self.path);
    }
}
