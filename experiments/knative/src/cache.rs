//! Cache of built programs and their manifests: one folder per recipe, outside the checkout, reused by every later run.

use std::{
    collections::BTreeMap,
    env, fs,
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{recipe, versions};

/// The part of `built.json` that identifies a build: the checksums of its programs.
#[derive(Deserialize)]
struct BuiltPrograms {
    programs: BTreeMap<String, String>,
}

/// The folder of one build of the baseline.
#[derive(Clone, Debug)]
pub struct Built {
    folder: PathBuf,
}

/// The cache as a whole.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The cache in `folder`, else in the user's own cache folder.
    ///
    /// # Errors
    /// If there is no home directory and no folder was given.
    pub fn new(folder: Option<PathBuf>) -> anyhow::Result<Self> {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let own = || set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
        let folder = match folder {
            Some(folder) => folder,
            None => own().context("there is no home directory: say where with --cache DIR")?.join("dirigent-baseline"),
        };
        Ok(Self { folder })
    }

    /// The folder for this program's own recipe, whether it is there or not.
    #[must_use]
    pub fn built(&self) -> Built {
        let name = format!("knative-{}-kubernetes-{}-{}", versions::KNATIVE, versions::KUBERNETES, recipe::key());
        Built { folder: self.folder.join(name) }
    }

    /// Folders of builds by other recipes: older or newer checkouts may need them.
    #[must_use]
    pub fn others(&self) -> Vec<PathBuf> {
        let own = self.built();
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let is_other = |path: &PathBuf| path.join("built.json").is_file() && *path != own.folder;
        let mut others: Vec<PathBuf> = entries.filter(is_other).collect();
        others.sort();
        others
    }

    /// Waits until nobody else builds into this cache; the lock lasts as long as the value.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn lock(&self, when_taken: impl FnOnce()) -> anyhow::Result<Flock<File>> {
        fs::create_dir_all(&self.folder).with_context(|| format!("creating {}", self.folder.display()))?;
        let path = self.folder.join("build.lock");
        let open = || File::options().create(true).append(true).open(&path);
        let file = open().with_context(|| format!("opening {}", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(lock),
            Err((file, _)) => {
                when_taken();
                Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).context("waiting for the lock")
            }
        }
    }
}

impl Built {
    /// The folder itself.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Folder of a build in progress.
    #[must_use]
    pub fn partial(&self) -> PathBuf {
        let name = self.folder.file_name().unwrap_or_default().display();
        self.folder.with_file_name(format!("{name}.partial"))
    }

    /// Locked by the testbed that runs: builds by other recipes share it.
    #[must_use]
    pub fn running(&self) -> PathBuf {
        self.folder.with_file_name("running.lock")
    }

    /// Returns true if the build is complete.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.facts().is_file()
    }

    /// File of the build's facts: written last.
    #[must_use]
    pub fn facts(&self) -> PathBuf {
        self.folder.join("built.json")
    }

    /// The versions in one line and, where they were built, twelve digits of a sum over the built programs: other compilers make
    /// others of the same sources.
    ///
    /// # Errors
    /// If `built.json` is malformed.
    pub fn version(&self) -> anyhow::Result<String> {
        let line = versions::line();
        if !self.is_complete() {
            return Ok(line);
        }
        let BuiltPrograms { programs } = record::read_json(&self.facts())?;
        let mut sum = Sha256::new();
        for (name, checksum) in programs {
            sum.update(format!("{name} {checksum}\n"));
        }
        let digits = sum.finalize().iter().take(6).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        Ok(format!("{line}, build {digits}"))
    }

    /// One of the programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    /// Knative's own manifests.
    #[must_use]
    pub fn manifests(&self) -> PathBuf {
        self.folder.join("manifests")
    }

    /// Refuses to go on when it was not built.
    ///
    /// # Errors
    /// If it is not complete: the message says how to build it.
    pub fn require(&self) -> anyhow::Result<()> {
        if self.is_complete() {
            return Ok(());
        }
        bail!("the baseline is not built ({} is not there): run `knative build`", self.facts().display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_tells_what_was_built_and_not_how_long_it_took() {
        let folder = tempfile::tempdir().unwrap();
        let built = Cache::new(Some(folder.path().to_owned())).unwrap().built();
        assert_eq!(built.version().unwrap(), versions::line(), "nothing is built");
        fs::create_dir_all(built.folder()).unwrap();
        let version = |seconds: u64, sum: &str| {
            let text = format!("{{\"seconds\":{seconds},\"programs\":{{\"activator\":\"{sum}\",\"etcd\":\"0\"}}}}");
            fs::write(built.facts(), text).unwrap();
            built.version().unwrap()
        };
        let first = version(1, "a");
        assert!(first.starts_with(&format!("{}, build ", versions::line())), "{first}");
        assert_eq!(version(9, "a"), first);
        assert_ne!(version(1, "b"), first);
    }

    #[test]
    fn other_builds_are_those_that_ended_and_are_not_ones_own() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(folder.path().to_owned())).unwrap();
        let make = |place: &Path| {
            fs::create_dir_all(place).unwrap();
            fs::write(place.join("built.json"), "{}").unwrap();
        };
        let older = folder.path().join("knative-0-kubernetes-0-0");
        make(&older);
        make(cache.built().folder());
        fs::create_dir_all(folder.path().join("knative-1.partial")).unwrap();
        assert_eq!(cache.others(), [older]);
        assert!(cache.built().is_complete());
    }
}
