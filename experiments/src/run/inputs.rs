//! Where the schedule of a point and the functions it needs lie: every system is given the same files.

use std::path::PathBuf;

use record::RunDir;

use crate::definition::points::ONLY_POINT;

/// The files that a point's repetitions are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// The folder that holds them: the run's own for the only point, `schedules/POINT` where there are several.
    pub folder: PathBuf,
    /// What to send and when.
    pub schedule: PathBuf,
    /// What to register.
    pub functions: PathBuf,
}

impl Inputs {
    /// Those of a point.
    #[must_use]
    pub fn of(dir: &RunDir, point: &str) -> Self {
        let folder = if point == ONLY_POINT { dir.0.clone() } else { dir.0.join("schedules").join(point) };
        Self { schedule: folder.join("schedule.csv"), functions: folder.join("functions.ndjson"), folder }
    }
}
