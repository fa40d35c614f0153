//! The statistics that tables, claims and published figures speak of, each under a fixed id.

use record::{
    FailurePolicy::{self, Drop, Penalise},
    PointSummary,
    SlowdownDefinition::{self, Artifact, MeanKept, Seed, Tail},
    Spread,
};

/// Unit of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Ratio,
    Milliseconds,
    Percent,
    PerSecond,
}

/// The better direction of a statistic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    /// The greater one.
    More,
    /// The lesser one.
    Less,
    /// It is neither good nor bad for the system.
    Neither,
}

/// One number of a repetition's summary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statistic {
    /// Its name in files.
    pub(crate) id: &'static str,
    /// Its name in tables.
    pub(crate) label: &'static str,
    pub(crate) unit: Unit,
    /// The reason for a missing value.
    pub(crate) missing: &'static str,
    /// Treatment of failed invocations, or the rows covered; of a slowdown that follows from its definition.
    counts: &'static str,
    value: Value,
}

/// Source of the number.
#[derive(Clone, Copy, Debug)]
enum Value {
    /// Definition, failure policy, which number over functions.
    Slowdown(SlowdownDefinition, FailurePolicy, Pick),
    /// A spread, which of its quantiles, and how many of its units make one of the statistic's.
    Spread(fn(&PointSummary) -> Option<Spread>, Pick, f64),
    Plain(fn(&PointSummary) -> Option<f64>),
}

#[derive(Clone, Copy, Debug)]
enum Pick {
    P50,
    P90,
    P99,
    GeometricMean,
}

const NS_PER_MS: f64 = 1e6;
const US_PER_MS: f64 = 1e3;
const PERMILLE_PER_PERCENT: f64 = 10.0;

const OK_ROWS: &str = "ok rows only";
const COLD_ROWS: &str = "cold rows, failed ones too";

const NO_SLOWDOWN: &str = "no function has a slowdown under this definition";
const NO_MEAN: &str = "no function has a slowdown under this definition, or one has none above zero";
const NO_OK: &str = "no ok row";
const NO_COLD: &str = "no cold row, or the system does not say which rows are cold";
const NO_JOIN: &str = "no cold row could be joined to its creation";

/// Every statistic, in the order of tables.
pub(crate) const STATISTICS: [Statistic; 24] = [
    slowdown("slowdown.seed.p50", "Slowdown `seed`, p50 over functions", (Seed, Penalise, Pick::P50)),
    slowdown("slowdown.seed.p90", "Slowdown `seed`, p90 over functions", (Seed, Penalise, Pick::P90)),
    slowdown("slowdown.seed.p99", "Slowdown `seed`, p99 over functions", (Seed, Penalise, Pick::P99)),
    slowdown("slowdown.seed.p99.drop", "Slowdown `seed`, p99, failures dropped", (Seed, Drop, Pick::P99)),
    slowdown("slowdown.artifact.p50", "Slowdown `artifact`, p50 over functions", (Artifact, Penalise, Pick::P50)),
    slowdown("slowdown.artifact.p99", "Slowdown `artifact`, p99 over functions", (Artifact, Penalise, Pick::P99)),
    slowdown("slowdown.artifact.p99.drop", "Slowdown `artifact`, p99, failures dropped", (Artifact, Drop, Pick::P99)),
    slowdown("slowdown.mean-kept.p50", "Slowdown `mean-kept`, p50 over functions", (MeanKept, Penalise, Pick::P50)),
    slowdown("slowdown.mean-kept.p99", "Slowdown `mean-kept`, p99 over functions", (MeanKept, Penalise, Pick::P99)),
    Statistic {
        missing: NO_MEAN,
        ..slowdown(
            "slowdown.tail",
            "Slowdown `tail`, geometric mean over functions",
            (Tail, Penalise, Pick::GeometricMean),
        )
    },
    Statistic {
        missing: NO_MEAN,
        ..slowdown("slowdown.tail.drop", "Slowdown `tail`, failures dropped", (Tail, Drop, Pick::GeometricMean))
    },
    spread("scheduling.p50", "Scheduling latency, p50", (|p| p.scheduling_ns, Pick::P50, NS_PER_MS), (OK_ROWS, NO_OK)),
    spread("scheduling.p90", "Scheduling latency, p90", (|p| p.scheduling_ns, Pick::P90, NS_PER_MS), (OK_ROWS, NO_OK)),
    spread("scheduling.p99", "Scheduling latency, p99", (|p| p.scheduling_ns, Pick::P99, NS_PER_MS), (OK_ROWS, NO_OK)),
    spread("latency.p50", "End-to-end latency, p50", (|p| p.latency_ns, Pick::P50, NS_PER_MS), (OK_ROWS, NO_OK)),
    spread("latency.p99", "End-to-end latency, p99", (|p| p.latency_ns, Pick::P99, NS_PER_MS), (OK_ROWS, NO_OK)),
    plain("failed", "Failed invocations", (Unit::Percent, "each counts"), failed_percent),
    plain("achieved", "Achieved rate", (Unit::PerSecond, OK_ROWS), |p| p.rates.map(|rates| rates.achieved_per_s)),
    plain("cold.share", "Cold starts", (Unit::Percent, "rows of which the system says it"), |p| {
        p.cold.share.map(|share| share * 100.0)
    }),
    spread(
        "cold.wait.p50",
        "Wait of a cold start, p50",
        (|p| p.cold.wait_us, Pick::P50, US_PER_MS),
        (COLD_ROWS, NO_COLD),
    ),
    spread(
        "cold.wait.p99",
        "Wait of a cold start, p99",
        (|p| p.cold.wait_us, Pick::P99, US_PER_MS),
        (COLD_ROWS, NO_COLD),
    ),
    Statistic {
        unit: Unit::Percent,
        ..spread(
            "cold.manager.p50",
            "Cluster manager's share of the wait, p50",
            (manager, Pick::P50, PERMILLE_PER_PERCENT),
            (COLD_ROWS, NO_JOIN),
        )
    },
    Statistic {
        unit: Unit::Percent,
        ..spread(
            "overhead.p50",
            "Cluster manager's share of a cold start's latency, p50",
            (|p| p.cold.overhead_permille, Pick::P50, PERMILLE_PER_PERCENT),
            (OK_ROWS, "no cold row succeeded, or no delay is modelled"),
        )
    },
    spread(
        "lag.p99",
        "Lateness of the load generator, p99",
        (|p| p.lag_ns, Pick::P99, NS_PER_MS),
        ("every row sent", "nothing was sent"),
    ),
];

impl Statistic {
    /// The statistic of this id.
    pub(crate) fn find(id: &str) -> Option<&'static Self> {
        STATISTICS.iter().find(|statistic| statistic.id == id)
    }

    /// Returns true if it covers cold rows only.
    pub(crate) fn is_of_cold_rows(&self) -> bool {
        self.id.starts_with("overhead.") || (self.id.starts_with("cold.") && self.id != "cold.share")
    }

    /// The better direction. The components of a cold start's wait, the number of cold starts and the lag of the load
    /// generator are neither good nor bad.
    pub(crate) fn better(&self) -> Better {
        match self.id.split('.').next() {
            Some("achieved") => Better::More,
            Some("lag") => Better::Neither,
            Some("cold") if self.unit == Unit::Percent => Better::Neither,
            _ => Better::Less,
        }
    }

    /// Treatment of failed invocations, or the rows covered.
    pub(crate) fn failures(&self) -> &'static str {
        match self.value {
            Value::Slowdown(MeanKept, Penalise, _) => "penalised, time-outs dropped",
            Value::Slowdown(Artifact, Drop, _) => "dropped, time-outs kept as they were",
            Value::Slowdown(_, Penalise, _) => "penalised",
            Value::Slowdown(..) => "dropped",
            Value::Plain(_) | Value::Spread(..) => self.counts,
        }
    }

    /// Its value for one repetition; `None` when it was not measured.
    pub(crate) fn of(&self, point: &PointSummary) -> Option<f64> {
        match self.value {
            Value::Plain(value) => value(point),
            Value::Spread(of, pick, per) => {
                let spread = of(point)?;
                let value = match pick {
                    Pick::P50 => spread.p50,
                    Pick::P90 => spread.p90,
                    Pick::P99 | Pick::GeometricMean => spread.p99,
                };
                Some(value as f64 / per)
            }
            Value::Slowdown(definition, failures, pick) => {
                let found = point.slowdowns.iter().find(|s| s.definition == definition && s.failures == failures)?;
                match pick {
                    Pick::P50 => Some(found.p50),
                    Pick::P90 => Some(found.p90),
                    Pick::P99 => Some(found.p99),
                    Pick::GeometricMean => found.geometric_mean,
                }
            }
        }
    }
}

const fn slowdown(id: &'static str, label: &'static str, of: (SlowdownDefinition, FailurePolicy, Pick)) -> Statistic {
    Statistic {
        id,
        label,
        unit: Unit::Ratio,
        missing: NO_SLOWDOWN,
        counts: "",
        value: Value::Slowdown(of.0, of.1, of.2),
    }
}

type SpreadOf = (fn(&PointSummary) -> Option<Spread>, Pick, f64);

/// Last come the rows that it is of, and why there are none.
const fn spread(
    id: &'static str,
    label: &'static str,
    of: SpreadOf,
    (counts, missing): (&'static str, &'static str),
) -> Statistic {
    Statistic { id, label, unit: Unit::Milliseconds, missing, counts, value: Value::Spread(of.0, of.1, of.2) }
}

const fn plain(
    id: &'static str,
    label: &'static str,
    (unit, counts): (Unit, &'static str),
    of: fn(&PointSummary) -> Option<f64>,
) -> Statistic {
    Statistic { id, label, unit, missing: "the rows do not tell", counts, value: Value::Plain(of) }
}

fn failed_percent(point: &PointSummary) -> Option<f64> {
    let measured = point.counts.measured;
    // Unsent rows count as failed: the schedule asked for them.
    (measured > 0).then(|| (measured - point.counts.ok()) as f64 / measured as f64 * 100.0)
}

fn manager(point: &PointSummary) -> Option<Spread> {
    point.cold.join.as_ref()?.manager_share_permille
}

impl Unit {
    /// The symbol after a number; empty for a ratio.
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Self::Ratio => "",
            Self::Milliseconds => "ms",
            Self::Percent => "%",
            Self::PerSecond => "1/s",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_says_how_failures_count_in_it() {
        let of = |id: &str| Statistic::find(id).unwrap().failures();
        assert_eq!([of("slowdown.seed.p99"), of("slowdown.seed.p99.drop")], ["penalised", "dropped"]);
        assert_eq!(of("slowdown.mean-kept.p99"), "penalised, time-outs dropped");
        assert_eq!([of("latency.p99"), of("scheduling.p50"), of("overhead.p50")], ["ok rows only"; 3]);
        assert!(STATISTICS.iter().all(|statistic| !statistic.failures().is_empty()));
    }

    #[test]
    fn ids_are_unique() {
        for statistic in &STATISTICS {
            let found = STATISTICS.iter().filter(|other| other.id == statistic.id).count();
            assert_eq!(found, 1, "`{}` stands for {found} statistics", statistic.id);
        }
    }
}
