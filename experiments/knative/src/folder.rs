//! The folder of a testbed: one at a time has it, and what a killed one left in it is removed.

use std::{
    fs::{self, File},
    io,
    os::linux::net::SocketAddrExt,
    os::unix::net::{SocketAddr, UnixListener},
    path::Path,
};

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};

/// Holds the folder and the network namespace for one testbed, for as long as its process lives.
pub struct Only {
    _folder: Flock<File>,
    _network: UnixListener,
}

impl Only {
    /// Takes both.
    ///
    /// # Errors
    /// When another testbed has one of them, or the lock cannot be made.
    pub fn take(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("lock");
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
            bail!("a testbed runs in {} already: choose another folder or end that one", folder.display());
        };
        // A name of this kind belongs to the network namespace and goes with the process that holds it.
        let name = SocketAddr::from_abstract_name("dirigent-testbed").context("naming the network namespace")?;
        let Ok(network) = UnixListener::bind_addr(&name) else {
            bail!("a testbed runs in this network namespace already: start this one in a namespace of its own");
        };
        Ok(Self { _folder: lock, _network: network })
    }
}

/// Files by which others know that a testbed is ready, or a part of it.
const SIGNS: [&str; 3] = ["ports.json", "members.json", "pods.up"];

/// Removes what a testbed that was killed has left: its store, and what says that it is ready.
///
/// # Errors
/// When something of it cannot be removed.
pub fn clear(folder: &Path) -> anyhow::Result<()> {
    for sign in SIGNS {
        removed(&folder.join(sign), fs::remove_file(folder.join(sign)))?;
    }
    remove_data(folder)
}

/// Removes the store of a testbed that is not running.
///
/// # Errors
/// When it cannot be removed.
pub fn remove_data(folder: &Path) -> anyhow::Result<()> {
    let data = folder.join("etcd");
    removed(&data, fs::remove_dir_all(&data))
}

/// That something was not there is no error.
fn removed(path: &Path, result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_holds_one_testbed_and_what_a_killed_one_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let lock = File::create(folder.path().join("lock")).unwrap();
        let held = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
        let refused = Only::take(folder.path()).map(drop).unwrap_err().to_string();
        assert!(refused.contains("already: choose another folder"), "{refused}");
        drop(held);
        fs::create_dir_all(folder.path().join("etcd/member")).unwrap();
        fs::write(folder.path().join("ports.json"), "{}").unwrap();
        fs::write(folder.path().join("kept"), "").unwrap();
        clear(folder.path()).unwrap();
        clear(folder.path()).unwrap();
        let mut left: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["kept", "lock"]);
    }
}
