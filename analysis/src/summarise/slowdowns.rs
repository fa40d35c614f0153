//! The four definitions of slowdown under both failure policies, over the functions of one repetition.

use record::{Outcome, SlowdownDefinition, SlowdownSummary};
use stats::{Definition, Ending, FailurePolicy, geometric_mean, quantile, sorted};

use crate::rows::Rows;

/// Every definition's slowdown per function.
#[derive(Debug)]
pub(crate) struct Slowdowns {
    /// Functions that have none under `seed` and `tail`, because they report no execution time.
    without_execution: usize,
    of: Vec<(Definition, FailurePolicy, Vec<f64>)>,
}

impl Slowdowns {
    pub(crate) fn of(rows: &Rows, timeout_ns: u64) -> Self {
        let grouped = group(rows, timeout_ns);
        let mut of = Vec::new();
        for definition in Definition::ALL {
            for policy in FailurePolicy::ALL {
                let values = grouped.per_function(definition, policy).into_iter().map(|(_, value)| value).collect();
                of.push((definition, policy, sorted(values)));
            }
        }
        Self { without_execution: grouped.without_execution(), of }
    }

    /// The functions left out of the definitions that need execution times; `None` if there are none.
    pub(crate) fn without_execution_note(&self) -> Option<String> {
        let names = [SlowdownDefinition::Seed, SlowdownDefinition::Tail].map(SlowdownDefinition::name).join("` and `");
        let count = self.without_execution;
        let note = || format!("functions without slowdown `{names}`, because they report no execution time: {count}");
        (count > 0).then(note)
    }

    /// The slowdown of each function, ascending.
    pub(crate) fn per_function(&self, definition: Definition, policy: FailurePolicy) -> &[f64] {
        let found = self.of.iter().find(|(d, p, _)| *d == definition && *p == policy);
        found.map_or(&[], |(_, _, values)| values)
    }

    /// Percentiles over functions; a definition under which no function has a slowdown is absent.
    pub(crate) fn summaries(&self) -> Vec<SlowdownSummary> {
        self.of.iter().filter_map(|(definition, policy, values)| summary(*definition, *policy, values)).collect()
    }
}

/// The rows as the definitions take them, grouped by function.
pub(crate) fn group(rows: &Rows, timeout_ns: u64) -> stats::Slowdowns {
    let invocations = rows.measured.iter().map(|row| stats::Invocation {
        function: row.function,
        response_ns: row.latency_ns(),
        executed_ns: row.executed_ns,
        requested_ns: row.requested_ns,
        ending: match row.outcome {
            Outcome::Ok => Ending::Ok,
            Outcome::Timeout => Ending::TimedOut,
            // Two of the definitions treat time-outs apart from other failures.
            Outcome::Refused | Outcome::Error | Outcome::Invalid | Outcome::Unsent => Ending::Failed,
        },
    });
    stats::Slowdowns::new(invocations.collect(), timeout_ns)
}

/// A definition as records name it. `stats` has its own type because it knows no file format.
pub(crate) fn recorded_definition(definition: Definition) -> SlowdownDefinition {
    match definition {
        Definition::Seed => SlowdownDefinition::Seed,
        Definition::Artifact => SlowdownDefinition::Artifact,
        Definition::MeanKept => SlowdownDefinition::MeanKept,
        Definition::Tail => SlowdownDefinition::Tail,
    }
}

/// A failure policy as records name it.
pub(crate) fn recorded_policy(policy: FailurePolicy) -> record::FailurePolicy {
    match policy {
        FailurePolicy::Penalise => record::FailurePolicy::Penalise,
        FailurePolicy::Drop => record::FailurePolicy::Drop,
    }
}

fn summary(definition: Definition, policy: FailurePolicy, values: &[f64]) -> Option<SlowdownSummary> {
    Some(SlowdownSummary {
        definition: recorded_definition(definition),
        failures: recorded_policy(policy),
        functions: values.len() as u64,
        p50: quantile(values, 0.5)?,
        p90: quantile(values, 0.9)?,
        p99: quantile(values, 0.99)?,
        max: *values.last()?,
        geometric_mean: geometric_mean(values),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Row;

    #[test]
    fn a_system_that_reports_no_execution_times_has_no_slowdown_that_needs_them_and_a_note_says_so() {
        let row = |function, outcome| Row {
            index: 0,
            function,
            scheduled_ns: 0,
            sent_ns: Some(0),
            done_ns: Some(5_000),
            requested_ns: 1_000,
            executed_ns: None,
            outcome,
            cold: None,
        };
        let of = |measured| Slowdowns::of(&Rows { measured, ..Rows::default() }, 9_000);
        let found = of(vec![row(0, Outcome::Ok), row(0, Outcome::Error), row(1, Outcome::Timeout)]);
        let known: Vec<&str> = found.summaries().into_iter().map(|summary| summary.definition.name()).collect();
        assert_eq!(known, ["artifact", "artifact", "mean-kept", "mean-kept"]);
        let note = found.without_execution_note().unwrap();
        assert_eq!(note, "functions without slowdown `seed` and `tail`, because they report no execution time: 1");
        assert_eq!(of(vec![row(1, Outcome::Timeout)]).without_execution_note(), None);
    }

    #[test]
    fn functions_of_which_one_has_no_slowdown_at_all_have_no_geometric_mean() {
        let of = |values: &[f64]| {
            let found = summary(Definition::Tail, FailurePolicy::Drop, values).unwrap();
            serde_json::to_value(found).unwrap()["geometric_mean"].clone()
        };
        assert_eq!(of(&[0.0, 2.0, 8.0]), serde_json::Value::Null, "0 would be the best of all");
        assert_eq!(of(&[2.0, 8.0]), serde_json::json!(4.0));
    }
}
