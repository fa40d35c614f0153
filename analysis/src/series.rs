//! The repetitions of one point of one system, taken together: what a column of a table and a line of a figure show.

use rand::SeedableRng;
use rand_pcg::Pcg64;
use stats::{Interval, median, median_interval};

use crate::{statistic::Statistic, summarise::PointResult};

/// Confidence of every interval shown.
pub(crate) const CONFIDENCE: f64 = 0.95;
/// Seed of the bootstrap: the same rows give the same interval.
pub(crate) const BOOTSTRAP_SEED: u64 = 1;

/// All repetitions of one point of one system.
#[derive(Clone, Debug)]
pub(crate) struct Series<'a> {
    /// The system's name, with the point's where the run has several.
    pub(crate) label: String,
    pub(crate) system: &'a str,
    pub(crate) point: &'a str,
    pub(crate) repetitions: Vec<&'a PointResult>,
}

/// A statistic over repetitions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shown {
    /// Median over repetitions.
    pub(crate) median: f64,
    /// 95 % bootstrap interval, from two repetitions on.
    pub(crate) interval: Option<Interval>,
}

impl<'a> Series<'a> {
    /// Groups results, which are ordered by system and point. A repetition that was stopped before its end is left out
    /// where there are others: what it lacks would count as failures in the numbers that they make together.
    pub(crate) fn group(results: &'a [PointResult]) -> Vec<Self> {
        let first = results.first().map(|result| &result.summary.point);
        let one_point = results.iter().all(|result| Some(&result.summary.point) == first);
        results
            .chunk_by(|a, b| a.summary.system == b.summary.system && a.summary.point == b.summary.point)
            .map(|chunk| {
                let (system, point) = (chunk[0].summary.system.as_str(), chunk[0].summary.point.as_str());
                let label = if one_point { system.to_owned() } else { format!("{system} · {point}") };
                // A point with stopped repetitions only is still shown, marked as invalid.
                let ended: Vec<_> = chunk.iter().filter(|result| !result.summary.validity.interrupted).collect();
                let repetitions = if ended.is_empty() { chunk.iter().collect() } else { ended };
                Series { label, system, point, repetitions }
            })
            .collect()
    }

    /// The statistic of each repetition that has it.
    pub(crate) fn values(&self, statistic: &Statistic) -> Vec<f64> {
        self.repetitions.iter().filter_map(|result| statistic.of(&result.summary)).collect()
    }

    /// The statistic over repetitions; `None` when no repetition has it.
    pub(crate) fn shown(&self, statistic: &Statistic) -> Option<Shown> {
        let values = self.values(statistic);
        let interval = median_interval(&values, CONFIDENCE, &mut Pcg64::seed_from_u64(BOOTSTRAP_SEED));
        Some(Shown { median: median(&values)?, interval })
    }

    /// The median of a value over the repetitions that have it.
    pub(crate) fn median_of(&self, value: impl Fn(&PointResult) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> = self.repetitions.iter().filter_map(|result| value(result)).collect();
        median(&values)
    }
}
