//! Prepared state of a testbed: the store of one in which every function is registered, none has a sandbox and the
//! controllers are idle, with its credentials and settings. Registering takes minutes, so it is done once, and every
//! repetition begins with a copy.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use record::Setting;
use serde::{Deserialize, Serialize};

use crate::versions;

/// Folders of a testbed that are copied.
const FOLDERS: [&str; 2] = ["etcd", "credentials"];

/// A folder with such a state.
#[derive(Clone, Debug)]
pub struct Prepared(PathBuf);

/// The inputs that it was made with; written last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Version of this document.
    pub schema_version: u32,
    /// Versions of what wrote the store.
    pub versions: String,
    /// Settings that differ from the release.
    pub settings: Vec<Setting>,
    /// Hollow nodes.
    pub nodes: u32,
    /// Registered functions.
    pub functions: usize,
}

impl Facts {
    /// Facts of a state made by this program.
    #[must_use]
    pub fn new(settings: Vec<Setting>, nodes: u32, functions: usize) -> Self {
        let versions = versions::line();
        Self { schema_version: record::SCHEMA_VERSION, versions, settings, nodes, functions }
    }
}

impl Prepared {
    /// The state in `folder`, whether it is there or not.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    fn facts(&self) -> PathBuf {
        self.0.join("prepared.json")
    }

    /// Takes the state of the stopped testbed in `testbed`.
    ///
    /// # Errors
    /// If the folder has something in it, or a file cannot be copied.
    pub fn save(&self, testbed: &Path, facts: &Facts) -> anyhow::Result<()> {
        if fs::read_dir(&self.0).is_ok_and(|mut entries| entries.next().is_some()) {
            bail!("{} is not empty", self.0.display());
        }
        for name in FOLDERS {
            copy(&testbed.join(name), &self.0.join(name))?;
        }
        Ok(record::write_json(&self.facts(), facts)?)
    }

    /// Lays a copy of the state into the folder of a testbed that is to be started with `settings` and `nodes`.
    ///
    /// # Errors
    /// If the state is not there, was made by other versions or with other settings, or a file cannot be copied.
    pub fn restore(&self, testbed: &Path, settings: &[Setting], nodes: u32) -> anyhow::Result<()> {
        let path = self.facts();
        let facts: Facts = record::read_json(&path).context("no prepared state: make one with `knative prepare`")?;
        let same = Facts::new(settings.to_vec(), nodes, facts.functions);
        if facts != same {
            bail!(
                "{} was made by {} with {} nodes and settings of its own, not by {} with {nodes} nodes and those of this \
                 start: prepare it again",
                path.display(),
                facts.versions,
                facts.nodes,
                same.versions
            );
        }
        for name in FOLDERS {
            copy(&self.0.join(name), &testbed.join(name))?;
        }
        Ok(())
    }
}

/// Copies a folder with everything in it and makes the copy durable: what is still to be written must not be written
/// while something is measured.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry.with_context(|| format!("reading {}", from.display()))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().with_context(|| format!("reading {}", source.display()))?.is_dir() {
            copy(&source, &target)?;
        } else {
            fs::copy(&source, &target).with_context(|| format!("copying {}", source.display()))?;
            let copied = File::open(&target).and_then(|file| file.sync_all());
            copied.with_context(|| format!("making {} durable", target.display()))?;
        }
    }
    fs::set_permissions(to, fs::metadata(from)?.permissions()).with_context(|| format!("closing {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::manifests;

    fn state(folder: &Path) -> (PathBuf, Prepared) {
        let testbed = folder.join("testbed");
        fs::create_dir_all(testbed.join("etcd/member/wal")).unwrap();
        fs::create_dir_all(testbed.join("credentials")).unwrap();
        fs::create_dir_all(testbed.join("logs")).unwrap();
        fs::write(testbed.join("etcd/member/wal/0.wal"), "entries").unwrap();
        fs::write(testbed.join("credentials/ca.crt"), "certificate").unwrap();
        (testbed, Prepared::in_folder(&folder.join("prepared")))
    }

    #[test]
    fn what_was_saved_is_restored() {
        let folder = tempfile::tempdir().unwrap();
        let (testbed, prepared) = state(folder.path());
        let settings = manifests::settings(None);
        prepared.save(&testbed, &Facts::new(settings.clone(), 10, 3)).unwrap();
        let again = prepared.save(&testbed, &Facts::new(settings.clone(), 10, 3)).unwrap_err().to_string();
        assert!(again.ends_with("is not empty"), "{again}");
        let other = folder.path().join("other");
        prepared.restore(&other, &settings, 10).unwrap();
        assert_eq!(fs::read_to_string(other.join("etcd/member/wal/0.wal")).unwrap(), "entries");
        assert_eq!(fs::read_to_string(other.join("credentials/ca.crt")).unwrap(), "certificate");
        assert!(!other.join("logs").exists(), "logs are each testbed's own");
    }

    #[test]
    fn a_state_of_other_settings_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (testbed, prepared) = state(folder.path());
        let missing = format!("{:#}", prepared.restore(&testbed, &[], 10).unwrap_err());
        assert!(missing.starts_with("no prepared state: make one with `knative prepare`"), "{missing}");
        prepared.save(&testbed, &Facts::new(manifests::settings(None), 10, 3)).unwrap();
        for (settings, nodes) in [(Vec::new(), 10), (manifests::settings(None), 9)] {
            let other = folder.path().join("other");
            let error = prepared.restore(&other, &settings, nodes).unwrap_err().to_string();
            assert!(error.contains("prepare it again"), "{error}");
            assert!(!other.exists(), "nothing is copied");
        }
    }
}
