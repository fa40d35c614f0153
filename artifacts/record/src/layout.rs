//! Paths of the files of a run.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Invariants, Manifest, RecordError, SCHEMA_VERSION, points_of_definition};

/// The directory of one run.
#[derive(Clone, Debug)]
pub struct RunDir(pub PathBuf);

/// The directory of one repetition of one point of one system within a run.
#[derive(Clone, Debug)]
pub struct PointDir {
    /// The directory itself.
    pub path: PathBuf,
    /// Name of the system.
    pub system: String,
    /// Name of the point.
    pub point: String,
    /// Number of the repetition, from 1.
    pub repetition: u32,
}

impl RunDir {
    /// `manifest.json`.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.0.join("manifest.json")
    }

    /// `plan.json`.
    #[must_use]
    pub fn plan(&self) -> PathBuf {
        self.0.join("plan.json")
    }

    /// `summary.json`.
    #[must_use]
    pub fn summary(&self) -> PathBuf {
        self.0.join("summary.json")
    }

    /// `claims.json`.
    #[must_use]
    pub fn claims(&self) -> PathBuf {
        self.0.join("claims.json")
    }

    /// `invariants.json`.
    #[must_use]
    pub fn invariants(&self) -> PathBuf {
        self.0.join("invariants.json")
    }

    /// `report/`.
    #[must_use]
    pub fn report(&self) -> PathBuf {
        self.0.join("report")
    }

    /// Directory in which a report is made before it replaces the existing one: `report.partial/`.
    #[must_use]
    pub fn unfinished_report(&self) -> PathBuf {
        self.0.join("report.partial")
    }

    /// Directory of the previous results of verification and analysis while they are made again: `judged.before/`.
    #[must_use]
    pub fn judged_before(&self) -> PathBuf {
        self.0.join("judged.before")
    }

    /// The directory of one repetition.
    #[must_use]
    pub fn point(&self, system: &str, point: &str, repetition: u32) -> PointDir {
        PointDir {
            path: self.0.join(system).join(point).join(repetition.to_string()),
            system: system.to_owned(),
            point: point.to_owned(),
            repetition,
        }
    }

    /// Directory of the logs and data of a failed repetition, for diagnosis only: it has no rows that count.
    #[must_use]
    pub fn failed(&self, system: &str, point: &str, repetition: u32) -> PathBuf {
        self.0.join(system).join(point).join(format!("{repetition}.failed"))
    }

    /// Directory of the rows of a finished repetition while it is measured again. They count only if that fails.
    #[must_use]
    pub fn replaced(&self, system: &str, point: &str, repetition: u32) -> PathBuf {
        self.0.join(system).join(point).join(format!("{repetition}.replaced"))
    }

    /// Every repetition that has rows, ordered by system, point and repetition.
    ///
    /// # Errors
    /// When a directory cannot be listed.
    pub fn points(&self) -> Result<Vec<PointDir>, RecordError> {
        let mut found = Vec::new();
        for system in subdirectories(&self.0)? {
            for point in subdirectories(&self.0.join(&system))? {
                let mut repetitions: Vec<u32> = subdirectories(&self.0.join(&system).join(&point))?
                    .iter()
                    .filter_map(|name| name.parse().ok())
                    .collect();
                repetitions.sort_unstable();
                found.extend(repetitions.into_iter().map(|n| self.point(&system, &point, n)));
            }
        }
        found.retain(|point| point.invocations().exists());
        Ok(found)
    }

    /// Reads the manifest. Its points are those of its definition if the run is of a version that did not record them, and none
    /// if that definition cannot be read either.
    ///
    /// # Errors
    /// When it is missing, malformed, or of a newer version.
    pub fn read_manifest(&self) -> Result<Manifest, RecordError> {
        let path = self.manifest();
        if !path.exists() {
            return Err(RecordError::NoRun { directory: self.0.clone() });
        }
        let mut manifest: Manifest = read_json(&path)?;
        known(path, manifest.schema_version)?;
        if manifest.points.is_empty() {
            // Rows can be summarised without it, so that an unreadable definition must not hide them.
            manifest.points = points_of_definition(&manifest.definition).unwrap_or_default();
        }
        Ok(manifest)
    }

    /// Reads the results of checking the invariants; `None` if the run was not checked.
    ///
    /// # Errors
    /// When they are malformed, or of a newer version.
    pub fn read_invariants(&self) -> Result<Option<Invariants>, RecordError> {
        let path = self.invariants();
        if !path.exists() {
            return Ok(None);
        }
        let invariants: Invariants = read_json(&path)?;
        known(path, invariants.schema_version)?;
        Ok(Some(invariants))
    }
}

/// Refuses a version that this program does not know.
fn known(path: PathBuf, version: u32) -> Result<(), RecordError> {
    if version > SCHEMA_VERSION {
        return Err(RecordError::Version { path, found: version, known: SCHEMA_VERSION });
    }
    Ok(())
}

impl PointDir {
    /// Name of the file in which a repetition keeps the facts that its system's own build left.
    pub const BUILT: &str = "built.json";

    /// `invocations.csv.zst`.
    #[must_use]
    pub fn invocations(&self) -> PathBuf {
        self.path.join("invocations.csv.zst")
    }

    /// `actions.csv`.
    #[must_use]
    pub fn actions(&self) -> PathBuf {
        self.path.join("actions.csv")
    }

    /// `coldstarts.csv`.
    #[must_use]
    pub fn coldstarts(&self) -> PathBuf {
        self.path.join("coldstarts.csv")
    }

    /// `processes.csv`.
    #[must_use]
    pub fn processes(&self) -> PathBuf {
        self.path.join("processes.csv")
    }

    /// `nodes.csv`.
    #[must_use]
    pub fn nodes(&self) -> PathBuf {
        self.path.join("nodes.csv")
    }

    /// `loadgen.json`.
    #[must_use]
    pub fn loadgen(&self) -> PathBuf {
        self.path.join("loadgen.json")
    }

    /// `settings.json`.
    #[must_use]
    pub fn settings(&self) -> PathBuf {
        self.path.join("settings.json")
    }

    /// `built.json`: the facts that a system's own build left, if it leaves any.
    #[must_use]
    pub fn built(&self) -> PathBuf {
        self.path.join(Self::BUILT)
    }

    /// `config.toml`: the settings, and every file that the system was given.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// `repetition.json`.
    #[must_use]
    pub fn facts(&self) -> PathBuf {
        self.path.join("repetition.json")
    }

    /// `histogram.hgrm`.
    #[must_use]
    pub fn histogram(&self) -> PathBuf {
        self.path.join("histogram.hgrm")
    }

    /// `logs/`.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }
}

/// Reads a JSON document.
///
/// # Errors
/// When it is missing or malformed.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, RecordError> {
    let text = fs::read(path).map_err(|source| RecordError::File { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| RecordError::Document { path: path.to_owned(), source })
}

/// Writes a JSON document so that a reader sees the old one or the new one, never half of it.
///
/// # Errors
/// When it cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), RecordError> {
    let failed = |source| RecordError::File { path: path.to_owned(), source };
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| failed(io::Error::other(error)))?;
    text.push(b'\n');
    let partial = path.with_extension("partial");
    fs::write(&partial, text).and_then(|()| fs::rename(&partial, path)).map_err(failed)
}

fn subdirectories(path: &Path) -> Result<Vec<String>, RecordError> {
    let list = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    };
    list().map_err(|source| RecordError::File { path: path.to_owned(), source })
}
