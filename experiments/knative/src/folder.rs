//! The folder of a testbed: one at a time has it, only one runs on the machine, and what a killed one left is removed.

use std::{
    fs::{self, File},
    io,
    os::linux::net::SocketAddrExt,
    os::unix::net::{SocketAddr, UnixListener},
    path::Path,
};

use anyhow::{Context, bail};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// Holds the folder, the machine and the network namespace for one testbed, for as long as its process lives.
pub struct TestbedLock {
    _folder: Flock<File>,
    _machine: Flock<File>,
    _network: UnixListener,
}

impl TestbedLock {
    /// Takes all three; `machine` is the lock's file of whoever shares the cache of built programs.
    ///
    /// # Errors
    /// If another testbed has one of them, or a lock cannot be made.
    pub fn take(folder: &Path, machine: &Path) -> anyhow::Result<Self> {
        let Some(own) = lock(&folder.join("lock"))? else {
            bail!("a testbed runs in {} already: choose another folder or end that one", folder.display());
        };
        let Some(alone) = lock(machine)? else {
            bail!(
                "a testbed of yours runs on this machine already, and two would measure each other: end that run or wait \
                 for it ({} is locked by it)",
                machine.display()
            );
        };
        // A name of this kind belongs to the network namespace and goes with the process that holds it.
        let name = SocketAddr::from_abstract_name("dirigent-testbed").context("naming the network namespace")?;
        let Ok(network) = UnixListener::bind_addr(&name) else {
            bail!("a testbed runs in this network namespace already: start this one in a namespace of its own");
        };
        Ok(Self { _folder: own, _machine: alone, _network: network })
    }
}

/// Locks a file; `None` when somebody else has it.
fn lock(path: &Path) -> anyhow::Result<Option<Flock<File>>> {
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}

/// Files by which others know that a testbed is ready, or a part of it.
const SIGNS: [&str; 3] = ["ports.json", "members.json", "pods.up"];

/// Removes what a testbed that was killed has left: its store, and what says that it is ready.
///
/// # Errors
/// If something of it cannot be removed.
pub fn clear(folder: &Path) -> anyhow::Result<()> {
    for sign in SIGNS {
        removed(&folder.join(sign), fs::remove_file(folder.join(sign)))?;
    }
    remove_data(folder)
}

/// Removes the store of a testbed that is not running.
///
/// # Errors
/// If it cannot be removed.
pub fn remove_data(folder: &Path) -> anyhow::Result<()> {
    let data = folder.join("etcd");
    removed(&data, fs::remove_dir_all(&data))
}

/// Ignores the error that the file did not exist.
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
        let machine = folder.path().join("machine");
        for (held, reason) in
            [(folder.path().join("lock"), "already: choose another folder"), (machine.clone(), "measure each other")]
        {
            let held = lock(&held).unwrap().unwrap();
            let refused = TestbedLock::take(folder.path(), &machine).map(drop).unwrap_err().to_string();
            assert!(refused.contains(reason), "{refused}");
            drop(held);
        }
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
        assert_eq!(left, ["kept", "lock", "machine"]);
    }
}
