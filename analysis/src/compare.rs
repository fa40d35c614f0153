//! Comparison of two runs of an experiment: changes from the first to the second, and their significance. Medians over
//! repetitions are compared, as they are for claims.

use rand::SeedableRng;
use rand_pcg::Pcg64;
use record::{Manifest, PointSummary, RunDir};
use serde::Serialize;
use stats::{mann_whitney, median, median_ratio_interval};

use crate::{
    ReadError, Run,
    rates::system_cpu_us,
    series::{BOOTSTRAP_SEED, CONFIDENCE},
    statistic::{Better, STATISTICS},
    verification::{Soundness, Verification},
};

/// Repetitions that each run needs at a point.
const MIN_REPETITIONS: usize = 5;
/// Two-sided p below which a difference is taken as one.
const SIGNIFICANCE: f64 = 0.01;

/// Result of comparing a statistic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// The second run is better.
    Better,
    /// The second run is worse.
    Worse,
    /// They differ, in a quantity that is neither good nor bad.
    Different,
    /// The difference is not significant.
    NoDifference,
    /// A run has too few repetitions that may be used.
    TooFew,
}

/// A statistic of one system at one point in both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The system.
    pub system: String,
    /// The point.
    pub point: String,
    /// Id of the statistic.
    pub statistic: &'static str,
    /// Unit; empty for a ratio.
    pub unit: &'static str,
    /// Median of the first run.
    pub before: f64,
    /// Median of the second run.
    pub after: f64,
    /// Second over first; `None` where the first is not above zero.
    pub ratio: Option<f64>,
    /// 95 % bootstrap interval of the ratio, lower then upper end.
    pub interval: Option<(f64, f64)>,
    /// Two-sided p of the Mann-Whitney test.
    pub p: Option<f64>,
    /// Direction of the difference, or why none is reported.
    #[serde(rename = "change")]
    pub kind: ChangeKind,
}

/// Two runs, compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Every statistic that both have, by system and point.
    pub changes: Vec<Change>,
    /// Caveats: repetitions left out, points that one run lacks, and differences between the runs.
    pub notes: Vec<String>,
}

impl Comparison {
    /// Returns true if any statistic became worse.
    #[must_use]
    pub fn any_worse(&self) -> bool {
        self.changes.iter().any(|change| change.kind == ChangeKind::Worse)
    }
}

/// Compares two runs.
///
/// # Errors
/// If one cannot be read, or they are of different experiments or scales.
pub fn compare(before: &Run, after: &Run) -> Result<Comparison, ReadError> {
    let of = |run: &Run| format!("{} at scale {}", run.manifest.experiment, run.manifest.scale);
    if of(before) != of(after) {
        return Err(ReadError::NotComparable { before: of(before), after: of(after) });
    }
    let mut notes = differences(before, after);
    let runs = [usable(before, &mut notes)?, usable(after, &mut notes)?];
    let places = |points: &[PointSummary]| {
        let mut places: Vec<_> = points.iter().map(|point| (point.system.clone(), point.point.clone())).collect();
        places.dedup();
        places
    };
    let (first, second) = (places(&runs[0]), places(&runs[1]));
    for (own, other, run) in [(&first, &second, before), (&second, &first, after)] {
        let lone = own.iter().filter(|place| !other.contains(place));
        notes.extend(lone.map(|(system, point)| format!("{system}, {point} is in {} only", name(&run.dir))));
    }
    let is_quick = before.manifest.is_quick() || after.manifest.is_quick();
    if is_quick {
        notes.push("a quick run is no evidence: no change is evaluated".to_owned());
    }
    let mut changes = Vec::new();
    for place in first.iter().filter(|place| second.contains(place)) {
        changes.extend(at(place, &runs, is_quick));
    }
    Ok(Comparison { changes, notes })
}

/// Differences between the runs other than the measurements.
fn differences(before: &Run, after: &Run) -> Vec<String> {
    let (a, b) = (&before.manifest, &after.manifest);
    let (host_a, host_b) = (&a.host, &b.host);
    let same_host = (&host_a.cpu, host_a.cores, &host_a.kernel) == (&host_b.cpu, host_b.cores, &host_b.kernel);
    let said = [
        // As text: any difference may matter, also in settings that no statistic reads.
        (a.definition == b.definition, "their definitions differ: a change may be that of the load"),
        (same_host, "they ran on different processors, cores or kernels"),
        (a.checksums.get("loadgen") == b.checksums.get("loadgen"), "their load generators differ"),
        (same_files(a, b, "trace/"), "their traces differ: a change may be that of the load"),
        (same_files(a, b, "schedules/"), "their schedules differ: a change may be that of the load"),
    ];
    said.into_iter().filter(|(same, _)| !same).map(|(_, what)| what.to_owned()).collect()
}

/// Returns true if the input files of two runs with a name prefix are the same, by checksum. If one run has fewer, only
/// those of both are compared.
fn same_files(a: &Manifest, b: &Manifest, prefix: &str) -> bool {
    let of_both = a.checksums.iter().filter(|(name, _)| name.starts_with(prefix));
    let (mut same, mut of_b) = (0, b.checksums.keys().filter(|name| name.starts_with(prefix)));
    for (name, sum) in of_both {
        match b.checksums.get(name) {
            Some(other) if other != sum => return false,
            Some(_) => same += 1,
            None => {}
        }
    }
    same > 0 || (of_b.next().is_none() && !a.checksums.keys().any(|name| name.starts_with(prefix)))
}

/// The repetitions of a run that may be used: those that were checked, and found sound and valid.
fn usable(run: &Run, notes: &mut Vec<String>) -> Result<Vec<PointSummary>, ReadError> {
    let verification = Verification::read(run)?;
    let mut kept = Vec::new();
    for result in run.summarise()? {
        let point = result.summary;
        let why = match verification.of_repetition(&point.system, &point.point, point.repetition) {
            Soundness::Broken(why) | Soundness::Late(why) => Some(why),
            Soundness::Unchecked => Some("its invariants were not checked".to_owned()),
            Soundness::Sound => (point.validity.valid != Some(true)).then(|| point.validity.reasons.join("; ")),
        };
        match why {
            None => kept.push(point),
            Some(why) => {
                let PointSummary { system, point, repetition, .. } = &point;
                notes
                    .push(format!("{}: {system}, {point}, repetition {repetition} is left out: {why}", name(&run.dir)));
            }
        }
    }
    Ok(kept)
}

fn name(dir: &RunDir) -> String {
    dir.0.file_name().unwrap_or(dir.0.as_os_str()).to_string_lossy().into_owned()
}

/// Every statistic of a system at a point that both runs have.
fn at((system, point): &(String, String), runs: &[Vec<PointSummary>; 2], is_quick: bool) -> Vec<Change> {
    let of = |index: usize, value: &dyn Fn(&PointSummary) -> Option<f64>| -> Vec<f64> {
        let here = runs[index].iter().filter(|one| (&one.system, &one.point) == (system, point));
        here.filter_map(value).collect()
    };
    let change = |statistic: &'static str, unit: &'static str, better: Better, values: [Vec<f64>; 2]| {
        let [before, after] = values;
        let (was, is) = (median(&before)?, median(&after)?);
        let mut random = Pcg64::seed_from_u64(BOOTSTRAP_SEED);
        let interval = median_ratio_interval(&after, &before, CONFIDENCE, &mut random);
        let p = mann_whitney(&after, &before).map(|test| test.p);
        let differ = p.is_some_and(|p| p < SIGNIFICANCE) && interval.is_none_or(|interval| interval.excludes(1.0));
        let kind = if is_quick || before.len().min(after.len()) < MIN_REPETITIONS {
            ChangeKind::TooFew
        } else if !differ {
            ChangeKind::NoDifference
        } else {
            better.kind(is > was)
        };
        Some(Change {
            system: system.clone(),
            point: point.clone(),
            statistic,
            unit,
            before: was,
            after: is,
            ratio: (was > 0.0).then(|| is / was),
            interval: interval.map(|interval| (interval.lower, interval.upper)),
            p,
            kind,
        })
    };
    let each = STATISTICS.iter().filter_map(|statistic| {
        let values = [0, 1].map(|index| of(index, &|summary| statistic.of(summary)));
        change(statistic.id, statistic.unit.symbol(), statistic.better(), values)
    });
    let cpu = [0, 1].map(|index| of(index, &system_cpu_us));
    each.chain(change("cpu.per-operation", "µs", Better::Less, cpu)).collect()
}

impl Better {
    fn kind(self, is_more: bool) -> ChangeKind {
        match (self, is_more) {
            (Self::Neither, _) => ChangeKind::Different,
            (Self::More, true) | (Self::Less, false) => ChangeKind::Better,
            (Self::More, false) | (Self::Less, true) => ChangeKind::Worse,
        }
    }
}
