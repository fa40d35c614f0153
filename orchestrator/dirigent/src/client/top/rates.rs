//! Rates between two snapshots: a pure value, from counts to rates, shares and quantiles.

use std::collections::BTreeMap;

use serde::Serialize;

use super::snapshot::{Cluster, FunctionCounts, Node, PhaseCounts, Snapshot};

/// The cluster over an interval.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Rates {
    /// Time between the snapshots; absent if there is only one, or if the control plane restarted between them.
    pub(super) span_s: Option<f64>,
    pub(super) cluster: Cluster,
    pub(super) functions: Vec<FunctionRates>,
    pub(super) nodes: Vec<Node>,
    pub(super) phases: Vec<PhaseRates>,
}

/// One function over an interval. Rates are absent when what was counted before is not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct FunctionRates {
    pub(super) name: String,
    pub(super) invocations_per_s: Option<f64>,
    pub(super) creations_per_s: Option<f64>,
    /// Cold starts among the invocations, 0 to 1; absent when there were none.
    pub(super) cold_share: Option<f64>,
    pub(super) waiting: u32,
    pub(super) running: u32,
    pub(super) ready: u32,
    pub(super) starting: u32,
    pub(super) leaving: u32,
    /// Creations that failed since the control plane began.
    pub(super) creations_failed: u64,
    pub(super) last_error: Option<String>,
}

/// One phase of the creations of an interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct PhaseRates {
    pub(super) phase: String,
    /// Number of creations that went through it.
    pub(super) creations: u64,
    pub(super) mean_us: Option<f64>,
    /// Bounds of the buckets that hold the quantiles; absent without creations, or above the greatest bound.
    pub(super) p50_us: Option<u64>,
    pub(super) p99_us: Option<u64>,
}

impl Rates {
    /// The rates from `before` to `after`.
    pub(super) fn between(before: Option<&Snapshot>, after: &Snapshot) -> Self {
        // Another epoch counts from zero.
        let before = before.filter(|before| before.cluster.epoch == after.cluster.epoch && before.at_us < after.at_us);
        let span_s = before.map(|before| float(after.at_us - before.at_us) / 1e6);
        let known: BTreeMap<u64, &FunctionCounts> =
            before.iter().flat_map(|snapshot| &snapshot.functions).map(|function| (function.id, function)).collect();
        // Where every function was shown, one that was not has been registered since.
        let all_known = before.is_some_and(|before| before.functions.len() == before.cluster.functions);
        let zero = FunctionCounts::default();
        let functions = after.functions.iter().map(|function| {
            let then = known.get(&function.id).copied().or_else(|| all_known.then_some(&zero));
            FunctionRates::new(function, span_s.zip(then))
        });
        let phases = after.phases.iter().map(|phase| {
            let earlier = before.map(|snapshot| snapshot.phases.iter().find(|earlier| earlier.phase == phase.phase));
            earlier.map_or_else(
                || PhaseRates { phase: phase.phase.clone(), ..PhaseRates::default() },
                |earlier| PhaseRates::new(phase, earlier),
            )
        });
        let round_share = |node: &Node| Node { reserved_share: rounded(node.reserved_share), ..node.clone() };
        Self {
            span_s: span_s.map(rounded),
            cluster: after.cluster.clone(),
            functions: functions.collect(),
            nodes: after.nodes.iter().map(round_share).collect(),
            phases: phases.collect(),
        }
    }
}

impl FunctionRates {
    /// `since`: the seconds passed, and what was counted then.
    fn new(now: &FunctionCounts, since: Option<(f64, &FunctionCounts)>) -> Self {
        let grown = |count: fn(&FunctionCounts) -> u64| {
            since.map(|(span_s, then)| (span_s, float(count(now).saturating_sub(count(then)))))
        };
        let per_s = |count| grown(count).map(|(span_s, grown)| rounded(grown / span_s));
        let invoked = grown(|counts| counts.invocations).filter(|(_, invoked)| *invoked > 0.0);
        let cold = grown(|counts| counts.invocations_cold);
        Self {
            name: now.name.clone(),
            invocations_per_s: per_s(|counts| counts.invocations),
            creations_per_s: per_s(|counts| counts.creations),
            // Invocations count as they arrive and cold starts as they get their response, which may be an interval later.
            cold_share: invoked.zip(cold).map(|((_, invoked), (_, cold))| rounded((cold / invoked).min(1.0))),
            waiting: now.waiting,
            running: now.running,
            ready: now.ready,
            starting: now.starting,
            leaving: now.leaving,
            creations_failed: now.creations_failed,
            last_error: now.last_error.clone(),
        }
    }
}

impl PhaseRates {
    fn new(now: &PhaseCounts, then: Option<&PhaseCounts>) -> Self {
        let counted = then.iter().flat_map(|then| &then.buckets);
        let mut counts: BTreeMap<u64, u64> =
            now.buckets.iter().map(|bucket| (bucket.most_us.unwrap_or(u64::MAX), bucket.count)).collect();
        for bucket in counted {
            if let Some(count) = counts.get_mut(&bucket.most_us.unwrap_or(u64::MAX)) {
                *count = count.saturating_sub(bucket.count);
            }
        }
        let creations: u64 = counts.values().sum();
        let took_us = now.sum_us.saturating_sub(then.map_or(0, |then| then.sum_us));
        Self {
            phase: now.phase.clone(),
            creations,
            mean_us: (creations > 0).then(|| rounded(float(took_us) / float(creations))),
            p50_us: quantile_us(&counts, creations, 50),
            p99_us: quantile_us(&counts, creations, 99),
        }
    }
}

/// The bound of the bucket that holds the nearest-rank quantile.
fn quantile_us(counts: &BTreeMap<u64, u64>, total: u64, percent: u64) -> Option<u64> {
    let rank = (total * percent).div_ceil(100);
    let mut below = 0;
    let reached = counts.iter().find(|(_, count)| {
        below += **count;
        below >= rank
    });
    reached.map(|(bound_us, _)| *bound_us).filter(|bound_us| total > 0 && *bound_us < u64::MAX)
}

/// To a thousandth: more digits would be noise.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[allow(clippy::cast_precision_loss, reason = "for people, who read three digits")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::snapshot::Bucket, *};

    /// A snapshot at `at_s` with one function that has these counts: invocations, cold ones, creations.
    pub(in super::super) fn snapshot(at_s: u64, (invocations, cold, creations): (u64, u64, u64)) -> Snapshot {
        let function = FunctionCounts {
            id: 7,
            name: "hello".to_owned(),
            invocations,
            invocations_cold: cold,
            creations,
            running: 2,
            ready: 3,
            ..FunctionCounts::default()
        };
        let node = Node { name: "n0".to_owned(), state: "ready".to_owned(), reserved_share: 0.25, sandboxes: 3 };
        let bucket = |most_us, count| Bucket { most_us, count };
        let buckets = vec![bucket(Some(8), creations), bucket(Some(1024), 2), bucket(None, 1)];
        Snapshot {
            at_us: at_s * 1_000_000,
            cluster: Cluster {
                leader: true,
                epoch: 1,
                uptime_ms: at_s * 1000,
                nodes_ready: 1,
                functions: 1,
                ..Cluster::default()
            },
            functions: vec![function],
            nodes: vec![node],
            phases: vec![PhaseCounts { phase: "create".to_owned(), sum_us: creations * 7, buckets }],
        }
    }

    #[test]
    fn rates_are_what_changed_over_the_time_between() {
        let rates = Rates::between(Some(&snapshot(10, (100, 5, 5))), &snapshot(12, (140, 15, 11)));
        assert_eq!(rates.span_s, Some(2.0));
        let function = &rates.functions[0];
        assert_eq!((function.invocations_per_s, function.creations_per_s), (Some(20.0), Some(3.0)));
        assert_eq!((function.cold_share, function.running, function.ready), (Some(0.25), 2, 3));
        assert_eq!(rates.cluster.uptime_ms, 12_000, "levels are those of the newer look");
    }

    #[test]
    fn a_first_snapshot_has_gauges_and_no_rates() {
        for before in [None, Some(snapshot(20, (1, 1, 1))), Some(snapshot(12, (1, 1, 1)))] {
            let rates = Rates::between(before.as_ref(), &snapshot(12, (140, 15, 11)));
            let function = &rates.functions[0];
            assert_eq!((rates.span_s, function.invocations_per_s, function.cold_share), (None, None, None));
            assert_eq!((function.ready, rates.phases[0].creations, rates.phases[0].p50_us), (3, 0, None));
        }
    }

    #[test]
    fn another_epoch_and_another_registration_count_from_zero() {
        let mut before = snapshot(10, (100, 5, 5));
        before.functions[0].id = 6;
        let rate =
            |before: &Snapshot| Rates::between(Some(before), &snapshot(11, (3, 3, 3))).functions[0].invocations_per_s;
        assert_eq!(rate(&before), Some(3.0), "all were shown, so it is new");
        before.cluster.functions = 2;
        assert_eq!(rate(&before), None, "it may have been there, unseen");
        let mut after = snapshot(11, (3, 3, 3));
        after.cluster.epoch = 2;
        assert_eq!(Rates::between(Some(&snapshot(10, (100, 5, 5))), &after).span_s, None);
    }

    #[test]
    fn without_invocations_there_is_no_cold_share_and_it_is_never_above_one() {
        let share =
            |before, after| Rates::between(Some(&snapshot(1, before)), &snapshot(2, after)).functions[0].cold_share;
        assert_eq!(share((5, 1, 1), (5, 2, 1)), None);
        assert_eq!(share((5, 1, 1), (6, 4, 1)), Some(1.0));
        assert_eq!(share((5, 1, 1), (8, 2, 1)), Some(0.333));
    }

    #[test]
    fn quantiles_are_those_of_the_interval() {
        let phase = |before, after| {
            let phases = Rates::between(before, &after).phases;
            (phases[0].creations, phases[0].mean_us, phases[0].p50_us, phases[0].p99_us)
        };
        let old = snapshot(1, (0, 0, 1000));
        assert_eq!(phase(Some(&old), snapshot(2, (0, 0, 1000))), (0, None, None, None));
        assert_eq!(phase(Some(&old), snapshot(2, (0, 0, 1100))), (100, Some(7.0), Some(8), Some(8)));
        // From nothing: of 100 creations 97 are short, two long, one beyond all bounds.
        let mut none = old.clone();
        none.phases = Vec::new();
        assert_eq!(phase(Some(&none), snapshot(2, (0, 0, 97))), (100, Some(6.79), Some(8), Some(1024)));
        assert_eq!(phase(Some(&none), snapshot(2, (0, 0, 17))).3, None, "the 99th of 20 is beyond all bounds");
    }
}
