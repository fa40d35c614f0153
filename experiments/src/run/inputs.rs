//! Paths of the schedule of a repetition and of the functions that it needs: every system is given the same files.
//!
//! Each repetition has a schedule from a seed of its own, so that a claim about a trace does not rest on one sample of
//! functions and arrivals. At a constant rate with equal gaps nothing is random, and all schedules are equal.

use std::path::PathBuf;

use record::RunDir;

use crate::definition::points::ONLY_POINT;

/// Folder of all schedules of a run, in its directory.
const FOLDER: &str = "schedules";

/// Folder of schedules in the making: they are moved to [`FOLDER`] when complete.
const STAGING: &str = "schedules.partial";

/// The files that the systems are given in one repetition of a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// The folder that holds them: `schedules/POINT/REPETITION`.
    pub folder: PathBuf,
    /// The schedule.
    pub schedule: PathBuf,
    /// The functions to register.
    pub functions: PathBuf,
}

impl Inputs {
    /// The inputs of a repetition.
    #[must_use]
    pub fn of(dir: &RunDir, point: &str, repetition: u32) -> Self {
        Self::in_folder(dir.0.join(FOLDER).join(point).join(repetition.to_string()))
    }

    /// The same in the staging folder.
    #[must_use]
    pub fn staged(dir: &RunDir, point: &str, repetition: u32) -> Self {
        Self::in_folder(Self::staging(dir).join(point).join(repetition.to_string()))
    }

    /// The folder of all that are being made.
    #[must_use]
    pub fn staging(dir: &RunDir) -> PathBuf {
        dir.0.join(STAGING)
    }

    /// The same in a finished run, which may be of a version whose repetitions shared one schedule.
    #[must_use]
    pub fn left(dir: &RunDir, point: &str, repetition: u32) -> Self {
        let own = Self::of(dir, point, repetition);
        let shared = if point == ONLY_POINT { dir.0.clone() } else { dir.0.join(FOLDER).join(point) };
        let shared = Self::in_folder(shared);
        if !own.schedule.exists() && shared.schedule.exists() { shared } else { own }
    }

    /// Returns true if both files exist.
    #[must_use]
    pub fn exist(&self) -> bool {
        self.schedule.is_file() && self.functions.is_file()
    }

    fn in_folder(folder: PathBuf) -> Self {
        Self { schedule: folder.join("schedule.csv"), functions: folder.join("functions.ndjson"), folder }
    }
}
