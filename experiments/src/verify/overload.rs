//! Test for a rate that the system surely failed. There warm rows are to be expected: a system that falls behind keeps
//! its sandboxes for longer than the time until a function is invoked again.
//!
//! Warm rows are marked there, and must not favour the system: rows that are warm first and cold later grow of
//! themselves, so that growth is tested before the first warm row only. Rows that become warm later hide growth from a
//! test of all rows, so that `analysis` counts a marked rate of a claim's subject as not sustained.

use record::{Invocation, LoadSummary, Outcome, Phase};
use stats::{RateWindow, growth, is_long};

/// Rows of a load of a constant rate, collected in one pass.
#[derive(Debug, Default)]
pub struct OverloadTest {
    /// Measured rows, by when they were due, in nanoseconds from the start.
    due_ns: Vec<u64>,
    /// The measured rows that succeeded.
    responses: Vec<Response>,
    /// Ends of the successes of the warm-up: some are within the measured window.
    warmup_done_ns: Vec<u64>,
}

/// A measured row that succeeded.
#[derive(Clone, Copy, Debug)]
struct Response {
    due_ns: u64,
    done_ns: u64,
    is_cold: bool,
}

impl OverloadTest {
    /// Counts a row.
    pub fn observe(&mut self, row: &Invocation) {
        let done_ns = row.done_ns.filter(|_| row.outcome == Outcome::Ok);
        if row.phase != Phase::Measured {
            self.warmup_done_ns.extend(done_ns);
            return;
        }
        let (due_ns, is_cold) = (row.scheduled_ns, row.cold == Some(1));
        self.due_ns.push(due_ns);
        self.responses.extend(done_ns.map(|done_ns| Response { due_ns, done_ns, is_cold }));
    }

    /// The reason why the rate was surely failed; `None` if the system may have kept up.
    #[must_use]
    pub fn overload(&self, load: Option<&LoadSummary>) -> Option<String> {
        let from_ns = *self.due_ns.iter().min()?;
        let to_ns = load.map_or(0, |load| load.span_ns).max(*self.due_ns.iter().max()?);
        let done = self.responses.iter().map(|response| response.done_ns).chain(self.warmup_done_ns.iter().copied());
        let window = RateWindow {
            rows: self.due_ns.len() as u64,
            ok: self.responses.len() as u64,
            achieved: done.filter(|done| (from_ns..=to_ns).contains(done)).count() as u64,
            slope_lower_percent_per_min: self.growth_before_warm(from_ns, to_ns),
        };
        window.overload().map(|why| why.to_string())
    }

    /// The lower bound of the slope of latency, of the rows before the first one that was not cold.
    fn growth_before_warm(&self, from_ns: u64, to_ns: u64) -> Option<f64> {
        let warm = self.responses.iter().filter(|response| !response.is_cold).map(|response| response.due_ns).min();
        let end_ns = warm.unwrap_or(to_ns);
        let rows = self.due_ns.iter().filter(|due| **due < end_ns).count() as u64;
        let window_s = end_ns.saturating_sub(from_ns) as f64 / 1e9;
        let cold = self.responses.iter().filter(|response| response.due_ns < end_ns);
        let latencies =
            cold.map(|response| (response.due_ns, response.done_ns.saturating_sub(response.due_ns))).collect();
        let is_long = window_s > 0.0 && is_long(window_s, rows as f64 / window_s, rows);
        growth(latencies).filter(|_| is_long).map(|growth| growth.slope.lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two minutes of two rows per second, of which a function says how long they take in milliseconds and whether they are cold.
    fn overload(row: impl Fn(u64) -> (u64, bool)) -> Option<String> {
        let mut test = OverloadTest::default();
        for index in 0..240 {
            let (latency_ms, is_cold) = row(index);
            let due_ns = index * 500_000_000;
            test.observe(&Invocation {
                function: "f".to_owned(),
                index,
                phase: Phase::Measured,
                scheduled_ns: due_ns,
                sent_ns: Some(due_ns),
                first_byte_ns: None,
                done_ns: Some(due_ns + latency_ms * 1_000_000),
                requested_us: 0,
                memory_mib: 1,
                executed_us: None,
                queue_us: None,
                cold_us: None,
                exec_us: None,
                status: Some(200),
                outcome: Outcome::Ok,
                cold: Some(u8::from(is_cold)),
                sandbox: None,
                attempts: Some(1),
                error: None,
                address: None,
            });
        }
        test.overload(None)
    }

    /// Latencies that wander by a tenth, of a load that is kept up.
    fn steady(index: u64) -> u64 {
        1_000 + index * 7919 % 101
    }

    #[test]
    fn a_system_that_falls_behind_before_the_first_warm_row_was_surely_asked_too_much() {
        let grows = "latency grew by at least";
        let growing = |index: u64| steady(index) + 20 * index;
        assert!(overload(|index| (growing(index), true)).unwrap().contains(grows));
        assert!(overload(|index| (growing(index), index < 220)).unwrap().contains(grows));
        assert_eq!(overload(|index| (growing(index), index < 110)), None, "55 s of cold rows say nothing");
        assert_eq!(overload(|index| (steady(index), index % 20 != 0)), None);
        assert_eq!(overload(|index| (steady(index), true)), None);
        let behind = overload(|index| (steady(index) + 500 * index, index % 2 == 0)).unwrap();
        assert!(behind.contains("of it were achieved, below 95 %"), "whichever are warm: {behind}");
    }

    #[test]
    fn growth_that_warm_rows_at_the_beginning_make_is_none() {
        // Ever fewer of them are warm.
        let fading = |index: u64| if index * 97 % 240 > index { (10, false) } else { (steady(index), true) };
        let rows = (0..240).map(|index| (index * 500_000_000, fading(index).0 * 1_000_000)).collect();
        assert!(growth(rows).unwrap().slope.lower > 5.0, "all rows together would say that it grew");
        assert_eq!(overload(fading), None);
    }
}
