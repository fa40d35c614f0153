//! Slowdown: how many times longer an invocation takes than its own execution.
//!
//! Three papers use the one word for different things. All four definitions are computed here from the same rows, under
//! both ways to treat failures, so that a figure can name the one it shows.

use crate::{geometric_mean, mean, quantile, quantile::sorted};

/// The resolution of execution times on record, in nanoseconds: an execution of 0 is taken as this long, so that a
/// ratio to it is defined.
pub const TIME_RESOLUTION_NS: u64 = 1_000;

/// The four definitions of slowdown in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Definition {
    /// Per function, arithmetic mean of end-to-end / execution time reported. The one in claims.
    Seed,
    /// Per function, geometric mean of end-to-end / execution time requested; ratios below 1 dropped, time-outs kept
    /// with the latency they had. The published artifact's script.
    Artifact,
    /// Per function, arithmetic mean of end-to-end / execution time requested; ratios below 1 kept, time-outs and
    /// functions invoked once dropped.
    MeanKept,
    /// Per function, 99th percentile of end-to-end / execution time reported; one figure for all by their geometric mean.
    Tail,
}

impl Definition {
    /// All of them, the one in claims first.
    pub const ALL: [Self; 4] = [Self::Seed, Self::Artifact, Self::MeanKept, Self::Tail];

    /// Returns true if it divides by execution times that functions report.
    fn needs_execution(self) -> bool {
        matches!(self, Self::Seed | Self::Tail)
    }
}

/// Treatment of failed invocations. A definition's own rule for time-outs takes precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailurePolicy {
    /// With the time-out as its latency and the requested time as its execution: failing is never faster than working.
    Penalise,
    /// Not at all.
    Drop,
}

impl FailurePolicy {
    /// Both, the default first.
    pub const ALL: [Self; 2] = [Self::Penalise, Self::Drop];
}

/// The end of an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With the function's response.
    Ok,
    /// At a deadline.
    TimedOut,
    /// In any other failure, or it was never sent.
    Failed,
}

/// One invocation, as far as slowdown is concerned. Times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// Number of its function.
    pub function: u32,
    /// End-to-end latency, from when it was due; `None` when there was no end.
    pub response_ns: Option<u64>,
    /// Execution time the function reported.
    pub executed_ns: Option<u64>,
    /// Requested execution time.
    pub requested_ns: u64,
    /// The end, which decides whether the invocation counts as a failure.
    pub ending: Ending,
}

impl Invocation {
    /// Returns true for a success that does not report its execution time. One without a latency is left out as a whole: its
    /// row cannot be true.
    fn is_silent(&self) -> bool {
        self.ending == Ending::Ok && self.response_ns.is_some() && self.executed_ns.is_none()
    }
}

/// Invocations grouped by function, from which each definition's values are computed.
#[derive(Clone, Debug)]
pub struct Slowdowns {
    by_function: Vec<Invocation>,
    timeout_ns: u64,
}

impl Slowdowns {
    /// Of these invocations, of which those of one function keep their order; `timeout_ns` is what a penalised failure counts with.
    #[must_use]
    pub fn new(mut invocations: Vec<Invocation>, timeout_ns: u64) -> Self {
        // Stable, so that the order of summation, and with it the last digit, is that of the caller.
        invocations.sort_by_key(|invocation| invocation.function);
        Self { by_function: invocations, timeout_ns }
    }

    /// The slowdown of each function that has one, as (function, slowdown), in order of function number.
    ///
    /// A function of which a success reports no execution time has none under a definition that needs it: its failures,
    /// whose execution time is the one requested, would be all that is left. Where no success reports one, no function has.
    #[must_use]
    pub fn per_function(&self, definition: Definition, policy: FailurePolicy) -> Vec<(u32, f64)> {
        let is_undefined =
            |group: &[Invocation]| definition.needs_execution() && group.iter().any(Invocation::is_silent);
        if definition.needs_execution() && self.reports_none() {
            return Vec::new();
        }
        self.by_function
            .chunk_by(|a, b| a.function == b.function)
            .filter(|group| !is_undefined(group))
            .filter_map(|group| {
                let ratios = group.iter().filter_map(|one| self.ratio(one, definition, policy)).collect();
                Some((group.first()?.function, summary(definition, group.len(), ratios)?))
            })
            .collect()
    }

    /// Functions that have no slowdown under a definition that needs execution times, because a success reports none.
    #[must_use]
    pub fn without_execution(&self) -> usize {
        let groups = self.by_function.chunk_by(|a, b| a.function == b.function);
        groups.filter(|group| group.iter().any(Invocation::is_silent)).count()
    }

    /// Returns true if there are successes, and none reports its execution time: the system reports none at all.
    fn reports_none(&self) -> bool {
        let succeeded = |one: &&Invocation| one.ending == Ending::Ok && one.response_ns.is_some();
        let mut successes = self.by_function.iter().filter(succeeded).peekable();
        successes.peek().is_some() && successes.all(Invocation::is_silent)
    }

    /// The ratio that one invocation contributes; `None` if the definition or the policy excludes it.
    fn ratio(&self, one: &Invocation, definition: Definition, policy: FailurePolicy) -> Option<f64> {
        let requested_ns = one.requested_ns.max(TIME_RESOLUTION_NS);
        let (latency_ns, execution_ns) = match (one.ending, definition, policy) {
            (Ending::Ok, Definition::Seed | Definition::Tail, _) => {
                (one.response_ns?, one.executed_ns?.max(TIME_RESOLUTION_NS))
            }
            (Ending::Ok, ..) => (one.response_ns?, requested_ns),
            (Ending::TimedOut, Definition::MeanKept, _) => return None,
            (Ending::TimedOut, Definition::Artifact, FailurePolicy::Drop) => (one.response_ns?, requested_ns),
            (_, _, FailurePolicy::Penalise) => (self.timeout_ns, requested_ns),
            (_, _, FailurePolicy::Drop) => return None,
        };
        let ratio = latency_ns as f64 / execution_ns as f64;
        (definition != Definition::Artifact || ratio >= 1.0).then_some(ratio)
    }
}

/// One function's slowdown from its invocations' ratios.
fn summary(definition: Definition, invocations: usize, ratios: Vec<f64>) -> Option<f64> {
    match definition {
        Definition::Seed => mean(&ratios),
        Definition::Artifact => geometric_mean(&ratios),
        Definition::MeanKept => (invocations > 1).then(|| mean(&ratios)).flatten(),
        Definition::Tail => quantile(&sorted(ratios), 0.99),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;
    const TIMEOUT_NS: u64 = 1_000 * MS;

    fn ok(function: u32, response_ms: u64, executed_ms: u64, requested_ms: u64) -> Invocation {
        Invocation {
            function,
            response_ns: Some(response_ms * MS),
            executed_ns: Some(executed_ms * MS),
            requested_ns: requested_ms * MS,
            ending: Ending::Ok,
        }
    }

    fn failed(function: u32, ending: Ending, response_ms: u64, requested_ms: u64) -> Invocation {
        Invocation { executed_ns: None, ending, ..ok(function, response_ms, 0, requested_ms) }
    }

    /// A success that reports no execution time.
    fn silent(function: u32, response_ms: u64, requested_ms: u64) -> Invocation {
        Invocation { executed_ns: None, ..ok(function, response_ms, 0, requested_ms) }
    }

    fn values(rows: &[Invocation], definition: Definition, policy: FailurePolicy) -> Vec<(u32, f64)> {
        Slowdowns::new(rows.to_vec(), TIMEOUT_NS).per_function(definition, policy)
    }

    fn close(found: &[(u32, f64)], expected: &[(u32, f64)]) {
        let same = found.len() == expected.len()
            && found.iter().zip(expected).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-9 * b.1);
        assert!(same, "found {found:?}, expected {expected:?}");
    }

    /// Function 0: ratios to execution 2, 8 and to request 2, 16; function 1: invoked once, 3 and 6.
    fn rows() -> Vec<Invocation> {
        vec![ok(0, 20, 10, 10), ok(1, 30, 10, 5), ok(0, 80, 10, 5)]
    }

    #[test]
    fn each_definition_of_plain_rows() {
        let of = |definition| values(&rows(), definition, FailurePolicy::Penalise);
        close(&of(Definition::Seed), &[(0, 5.0), (1, 3.0)]);
        close(&of(Definition::Artifact), &[(0, 32.0_f64.sqrt()), (1, 6.0)]);
        close(&of(Definition::MeanKept), &[(0, 9.0)]);
        close(&of(Definition::Tail), &[(0, 8.0), (1, 3.0)]);
    }

    #[test]
    fn a_failure_counts_with_the_timeout_or_not_at_all() {
        let mut rows = rows();
        rows.push(failed(0, Ending::Failed, 1, 10)); // penalised: 1000 ms / 10 ms
        close(&values(&rows, Definition::Seed, FailurePolicy::Penalise), &[(0, 110.0 / 3.0), (1, 3.0)]);
        close(&values(&rows, Definition::Seed, FailurePolicy::Drop), &[(0, 5.0), (1, 3.0)]);
        close(&values(&rows, Definition::Tail, FailurePolicy::Penalise), &[(0, 100.0), (1, 3.0)]);
        close(&values(&rows, Definition::MeanKept, FailurePolicy::Penalise), &[(0, 118.0 / 3.0)]);
    }

    #[test]
    fn timeouts_are_kept_by_artifact_and_dropped_by_mean_kept() {
        let mut rows = rows();
        rows.push(failed(0, Ending::TimedOut, 540, 10)); // as measured 54, penalised 100
        close(&values(&rows, Definition::Artifact, FailurePolicy::Drop), &[(0, 12.0), (1, 6.0)]);
        close(&values(&rows, Definition::Artifact, FailurePolicy::Penalise), &[(0, 3200.0_f64.cbrt()), (1, 6.0)]);
        for policy in FailurePolicy::ALL {
            close(&values(&rows, Definition::MeanKept, policy), &[(0, 9.0)]);
        }
    }

    #[test]
    fn artifact_drops_ratios_below_one_and_mean_kept_keeps_them() {
        let rows = [ok(0, 5, 5, 10), ok(0, 40, 10, 10)];
        close(&values(&rows, Definition::Artifact, FailurePolicy::Drop), &[(0, 4.0)]);
        close(&values(&rows, Definition::MeanKept, FailurePolicy::Drop), &[(0, 2.25)]);
    }

    #[test]
    fn an_execution_below_the_resolution_is_taken_as_the_resolution() {
        close(&values(&[ok(0, 1, 0, 0)], Definition::Seed, FailurePolicy::Drop), &[(0, 1_000.0)]);
    }

    #[test]
    fn a_function_of_which_nothing_is_left_has_no_slowdown() {
        let rows = [silent(0, 20, 10), failed(1, Ending::Failed, 3, 10), ok(2, 20, 10, 10)];
        close(&values(&rows, Definition::Seed, FailurePolicy::Drop), &[(2, 2.0)]);
        close(&values(&rows, Definition::Seed, FailurePolicy::Penalise), &[(1, 100.0), (2, 2.0)]);
    }

    #[test]
    fn a_function_whose_successes_report_no_execution_time_has_no_slowdown_of_its_failures_alone() {
        let rows = [silent(0, 20, 10), failed(0, Ending::Failed, 3, 10), ok(1, 20, 10, 10)];
        for definition in [Definition::Seed, Definition::Tail] {
            close(&values(&rows, definition, FailurePolicy::Penalise), &[(1, 2.0)]);
        }
        close(&values(&rows, Definition::MeanKept, FailurePolicy::Penalise), &[(0, 51.0)]);
        assert_eq!(Slowdowns::new(rows.to_vec(), TIMEOUT_NS).without_execution(), 1);
    }

    #[test]
    fn where_no_success_reports_an_execution_time_functions_that_only_failed_have_no_slowdown_either() {
        let rows = [silent(0, 20, 10), failed(1, Ending::TimedOut, 3, 10)];
        for definition in [Definition::Seed, Definition::Tail] {
            assert_eq!(values(&rows, definition, FailurePolicy::Penalise), []);
        }
        let failures = [failed(1, Ending::TimedOut, 3, 10)];
        close(&values(&failures, Definition::Seed, FailurePolicy::Penalise), &[(1, 100.0)]);
    }

    #[test]
    fn an_impossible_row_costs_its_function_no_slowdown() {
        let impossible = Invocation { response_ns: None, ..silent(0, 20, 10) };
        let rows = [impossible, ok(0, 20, 10, 10)];
        close(&values(&rows, Definition::Seed, FailurePolicy::Penalise), &[(0, 2.0)]);
        assert_eq!(Slowdowns::new(rows.to_vec(), TIMEOUT_NS).without_execution(), 0);
    }

    fn any_row() -> impl Strategy<Value = Invocation> {
        let ending = prop_oneof![8 => Just(Ending::Ok), 1 => Just(Ending::TimedOut), 1 => Just(Ending::Failed)];
        (0_u32..5, 1_u64..2_000, 1_u64..500, 1_u64..500, ending).prop_map(
            |(function, response, executed, requested, ending)| {
                let executed_ns = (ending == Ending::Ok).then_some(executed * MS);
                Invocation { executed_ns, ending, ..ok(function, response, executed, requested) }
            },
        )
    }

    proptest! {
        #[test]
        fn order_of_rows_does_not_matter(rows in prop::collection::vec(any_row(), 0..60)) {
            let reversed: Vec<_> = rows.iter().rev().copied().collect();
            for definition in Definition::ALL {
                for policy in FailurePolicy::ALL {
                    let (a, b) = (values(&rows, definition, policy), values(&reversed, definition, policy));
                    prop_assert_eq!(a.len(), b.len());
                    prop_assert!(a.iter().zip(&b).all(|(x, y)| x.0 == y.0 && (x.1 - y.1).abs() <= 1e-9 * y.1));
                }
            }
        }

        #[test]
        fn without_failures_the_policies_agree(rows in prop::collection::vec(any_row(), 0..60)) {
            let rows: Vec<_> = rows.into_iter().filter(|row| row.ending == Ending::Ok).collect();
            for definition in Definition::ALL {
                prop_assert_eq!(
                    values(&rows, definition, FailurePolicy::Penalise),
                    values(&rows, definition, FailurePolicy::Drop)
                );
            }
        }

        #[test]
        fn artifact_is_at_least_one(rows in prop::collection::vec(any_row(), 0..60)) {
            for policy in FailurePolicy::ALL {
                prop_assert!(values(&rows, Definition::Artifact, policy).iter().all(|(_, value)| *value >= 1.0 - 1e-12));
            }
        }
    }
}
