//! Whether a run may be used: the rule that makes a late generator invalid and a slow system merely slow.

use record::LagSummary;

/// The bound on lag's p99 when the median latency is small, in nanoseconds.
const LEAST_BOUND_NS: u64 = 1_000_000;

/// The share of the median latency that lag's p99 may reach: 1/50.
const LATENCY_PER_LAG: u64 = 50;

/// Of 1,000 scheduled invocations, so many must have been sent.
const SENT_PER_MILLE: u64 = 995;

/// The share of its cores above which the generator itself is suspect, in percent.
const CPU_PERCENT: u64 = 70;

/// What the rule looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence {
    /// Lag of the measured rows.
    pub(crate) lag: LagSummary,
    /// Median latency of the successful measured rows, in nanoseconds; 0 when there are none.
    pub(crate) latency_p50_ns: u64,
    /// Rows in the schedule.
    pub(crate) scheduled: u64,
    /// Rows sent.
    pub(crate) sent: u64,
    /// Measured rows.
    pub(crate) measured: u64,
    /// Measured rows that succeeded.
    pub(crate) measured_ok: u64,
    /// CPU time the generator used, in microseconds.
    pub(crate) cpu_us: u64,
    /// What it could have used: wall-clock time times its cores, in microseconds.
    pub(crate) cpu_available_us: u64,
}

/// The rule applied.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    /// The bound that lag's p99 had to keep, in nanoseconds.
    pub(crate) lag_bound_ns: u64,
    /// Why the run may not be used; nothing when it may.
    pub(crate) faults: Vec<String>,
    /// What a reader should know although the run may be used.
    pub(crate) warnings: Vec<String>,
}

impl Validity {
    /// Judges a run.
    pub(crate) fn of(evidence: &Evidence) -> Self {
        let lag_bound_ns = LEAST_BOUND_NS.max(evidence.latency_p50_ns / LATENCY_PER_LAG);
        let mut faults = Vec::new();
        if evidence.lag.p99_ns > lag_bound_ns {
            faults.push(format!(
                "invalid: lag p99 is {}, the bound is {} (max of 1 ms and 2 % of the median latency)",
                ms(evidence.lag.p99_ns),
                ms(lag_bound_ns)
            ));
        }
        if evidence.sent.saturating_mul(1000) < evidence.scheduled.saturating_mul(SENT_PER_MILLE) {
            faults.push(format!(
                "invalid: {} of {} scheduled invocations were sent, fewer than 99.5 %",
                evidence.sent, evidence.scheduled
            ));
        }
        if evidence.measured > 0 && evidence.measured_ok == 0 {
            faults.push("invalid: no measured invocation succeeded".to_owned());
        }
        let mut warnings = Vec::new();
        let percent = evidence.cpu_us.saturating_mul(100) / evidence.cpu_available_us.max(1);
        if percent > CPU_PERCENT {
            warnings.push(format!(
                "the load generator used {percent} % of the cores it may run on, more than {CPU_PERCENT} %: \
                 it may have slowed the system or itself"
            ));
        }
        Self { lag_bound_ns, faults, warnings }
    }
}

/// Nanoseconds as milliseconds in words.
fn ms(ns: u64) -> String {
    format!("{}.{:03} ms", ns / 1_000_000, ns / 1000 % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Evidence = Evidence {
        lag: LagSummary { p50_ns: 50_000, p99_ns: 1_000_000, max_ns: 9_000_000 },
        latency_p50_ns: 5_000_000,
        scheduled: 1000,
        sent: 995,
        measured: 1000,
        measured_ok: 1,
        cpu_us: 70,
        cpu_available_us: 100,
    };

    #[test]
    fn a_run_on_every_bound_is_valid() {
        assert_eq!(Validity::of(&GOOD), Validity { lag_bound_ns: 1_000_000, faults: vec![], warnings: vec![] });
    }

    #[test]
    fn a_late_generator_is_invalid() {
        let late = Evidence { lag: LagSummary { p99_ns: 1_000_001, ..GOOD.lag }, ..GOOD };
        let faults = Validity::of(&late).faults;
        assert!(faults.len() == 1 && faults[0].contains("lag p99 is 1.000 ms"), "{faults:?}");
    }

    #[test]
    fn a_slow_system_allows_two_percent_of_its_latency() {
        let slow =
            Evidence { latency_p50_ns: 1_000_000_000, lag: LagSummary { p99_ns: 20_000_000, ..GOOD.lag }, ..GOOD };
        assert_eq!(Validity::of(&slow).lag_bound_ns, 20_000_000);
        assert!(Validity::of(&slow).faults.is_empty());
    }

    #[test]
    fn too_few_sent_is_invalid_and_a_busy_generator_is_flagged() {
        assert_eq!(Validity::of(&Evidence { sent: 994, ..GOOD }).faults.len(), 1);
        let busy = Validity::of(&Evidence { cpu_us: 71, ..GOOD });
        assert!(busy.faults.is_empty() && busy.warnings.len() == 1, "{busy:?}");
        let failed = Validity::of(&Evidence { measured_ok: 0, ..GOOD });
        assert_eq!(failed.faults, ["invalid: no measured invocation succeeded"]);
        let none = Evidence { scheduled: 0, sent: 0, measured: 0, measured_ok: 0, ..GOOD };
        assert!(Validity::of(&none).faults.is_empty());
    }
}
