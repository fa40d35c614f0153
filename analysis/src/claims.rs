//! The claims that published work makes, as they are defined in `data/claims.toml`.

use std::{collections::BTreeMap, time::Duration};

use record::TraceLoad;
use serde::Deserialize;

/// One claim: a ratio of one statistic between two systems, or one system's statistic.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claim {
    pub(crate) id: String,
    pub(crate) sentence: String,
    pub(crate) source: String,
    pub(crate) published: String,
    pub(crate) experiment: String,
    /// Id of the statistic compared, or [`SUSTAINED`], or [`CHEAPEST`].
    pub(crate) statistic: String,
    /// The point it is about; absent: the only one.
    #[serde(default)]
    pub(crate) point: Option<String>,
    /// Selects the points that count, by dotted keys of the definition; for statistics over several points.
    #[serde(default, rename = "where")]
    pub(crate) among: BTreeMap<String, String>,
    /// Least size of the replayed trace: a smaller load is another experiment, and no evidence.
    #[serde(default)]
    pub(crate) load_at_least: LoadBounds,
    /// Least size of the trace that each repetition must have replayed, whatever the definition says: the size of a
    /// folder of traces is arbitrary.
    #[serde(default)]
    pub(crate) replayed_at_least: Option<Replayed>,
    /// The subject: claimed to be better than the reference, or the only system.
    pub(crate) system: String,
    /// The system it is compared with.
    #[serde(default)]
    pub(crate) against: Option<String>,
    /// Other systems whose ratios are reported next to it, without a bound.
    #[serde(default, rename = "beside")]
    pub(crate) secondary: Vec<String>,
    /// Bound of the estimate, by scale.
    pub(crate) at_least: BTreeMap<String, f64>,
}

impl Claim {
    /// Returns true if a system is the claim's subject or its reference.
    pub(crate) fn is_about(&self, system: &str) -> bool {
        system == self.system || Some(system) == self.against.as_deref()
    }
}

/// Lower bounds on the settings of a trace; an absent one bounds nothing. Names are the keys of definitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LoadBounds {
    #[serde(rename = "load.functions")]
    functions: Option<u32>,
    #[serde(rename = "load.minutes")]
    minutes: Option<u32>,
    /// Time in which a minute of the trace is replayed, in seconds.
    #[serde(rename = "load.minute")]
    minute_s: Option<f64>,
    #[serde(rename = "load.max_cores")]
    max_cores: Option<f64>,
    /// In seconds.
    #[serde(rename = "load.max_run")]
    max_run_s: Option<f64>,
}

impl LoadBounds {
    /// The first setting of a trace that is below its bound, in words. A setting that the trace lacks limits nothing, and is
    /// not below its bound.
    pub(crate) fn violated_by(&self, trace: &TraceLoad) -> Option<String> {
        let count = |value: Option<u32>| value.map(|count| (f64::from(count), count.to_string()));
        let duration = |value: Option<Duration>| {
            value.map(|duration| (duration.as_secs_f64(), humantime::format_duration(duration).to_string()))
        };
        // In the order of their names, so that the same bound is named in every report.
        let settings = [
            ("load.functions", self.functions.map(f64::from), count(trace.functions)),
            ("load.max_cores", self.max_cores, trace.max_cores.map(|cores| (cores, cores.to_string()))),
            ("load.max_run", self.max_run_s, duration(trace.max_run)),
            ("load.minute", self.minute_s, duration(trace.minute)),
            ("load.minutes", self.minutes.map(f64::from), count(trace.minutes)),
        ];
        settings.into_iter().find_map(|(key, least, value)| {
            let (least, (value, text)) = (least?, value?);
            (value < least).then(|| format!("{key} of at least {least}, and this run has {text}"))
        })
    }
}

/// Measured rows of a repetition.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replayed {
    /// Functions that have any.
    pub(crate) functions: u64,
    /// All of them.
    pub(crate) invocations: u64,
    /// From the first one to the end of the schedule.
    pub(crate) seconds: f64,
}

/// The statistic that no point has alone: the highest rate sustained, per repetition.
pub(crate) const SUSTAINED: &str = "rate.sustained";

/// Likewise: CPU time of the system's processes per cold start, at the point at which it is least.
pub(crate) const CHEAPEST: &str = "cpu.per-cold-start";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    claim: Vec<Claim>,
}

const FILE: &str = include_str!("../data/claims.toml");

/// The claims about one experiment, in the file's order.
pub(crate) fn about(experiment: &str) -> Vec<Claim> {
    let file: File = toml::from_str(FILE).expect("a test reads the file that is built in");
    file.claim.into_iter().filter(|claim| claim.experiment == experiment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistic::Statistic;

    #[test]
    fn every_claim_is_read_and_names_a_statistic() {
        let file: File = toml::from_str(FILE).unwrap();
        assert_eq!(file.claim.len(), FILE.matches("[[claim]]").count());
        for claim in file.claim {
            let known = [SUSTAINED, CHEAPEST].contains(&claim.statistic.as_str())
                || Statistic::find(&claim.statistic).is_some();
            assert!(known, "{}: no statistic `{}`", claim.id, claim.statistic);
            let alone = claim.against.is_none();
            assert!(!alone || (claim.point.is_some() && claim.secondary.is_empty()), "{}: of one system", claim.id);
        }
    }
}
