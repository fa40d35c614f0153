//! A run directory, opened: its manifest and the repetitions that have rows.

use std::{collections::BTreeMap, path::Path, time::Duration};

use record::{Manifest, PointDir, RunDir, Setting, read_json};

use crate::{
    ReadError,
    plan::Plan,
    summarise::{self, Context, PointResult},
};

/// A run whose manifest has been read.
#[derive(Debug)]
pub struct Run {
    /// Its directory.
    pub dir: RunDir,
    /// Experiment, machine and systems of the run.
    pub manifest: Manifest,
    /// Repetitions with rows, ordered by system, point and repetition; at least one.
    pub points: Vec<PointDir>,
    /// Latency of a penalised failure at every point; `None`: the time-out of the point's definition.
    pub timeout: Option<Duration>,
}

impl Run {
    /// Opens the run in `path`. A `timeout` takes precedence over those of its points.
    ///
    /// # Errors
    /// If the manifest cannot be read or no repetition has rows.
    pub fn open(path: &Path, timeout: Option<Duration>) -> Result<Self, ReadError> {
        let dir = RunDir(path.to_owned());
        let manifest = dir.read_manifest()?;
        let points = dir.points()?;
        // Every command reports on rows, so that this is refused once, here.
        if points.is_empty() {
            return Err(ReadError::NoRows(path.to_owned()));
        }
        Ok(Self { dir, manifest, points, timeout })
    }

    /// Settings of systems that differ from their releases, of those that record them: by their first repetition that
    /// does.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(crate) fn settings(&self) -> Result<BTreeMap<String, Vec<Setting>>, ReadError> {
        let mut settings = BTreeMap::new();
        for point in self.points.iter().filter(|point| point.settings().exists()) {
            if !settings.contains_key(&point.system) {
                settings.insert(point.system.clone(), read_json(&point.settings())?);
            }
        }
        Ok(settings)
    }

    /// Computes every repetition's statistics, one after the other, so that the rows of only one are held at a time.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(crate) fn summarise(&self) -> Result<Vec<PointResult>, ReadError> {
        let context = Context { plan: self.plan(), timeout: self.timeout, cores: self.manifest.host.cores };
        self.points.iter().map(|point| summarise::point(point, context)).collect()
    }

    /// The planned points.
    pub(crate) fn plan(&self) -> Plan<'_> {
        Plan::of(&self.manifest)
    }
}
