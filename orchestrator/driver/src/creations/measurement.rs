//! The measurement of a control plane under a constant rate of creations.

use std::{fs, time::Duration};

use anyhow::Context;
use record::{ColdStart, read_table};
use tokio::time::{Instant, sleep};

use super::{
    observations::{Counts, Observations},
    options::Options,
};
use crate::{daemon::Daemon, report::Report};

/// Wait until the rows of the last creations are written.
const SETTLE_TIME: Duration = Duration::from_millis(500);

/// The raw results of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    took_s: f64,
    cpu_us: f64,
    memory_kib: u64,
    counts: Counts,
    /// The creations that were recorded during the run.
    cold_starts: Vec<ColdStart>,
}

/// Measures for `--seconds`.
///
/// # Errors
/// If the control plane has ended or its records cannot be read.
pub(crate) async fn measure(
    options: &Options,
    control_plane: &Daemon,
    observations: &Observations,
) -> anyhow::Result<Measured> {
    let recorded = || if options.no_record { Ok(Vec::new()) } else { cold_starts(control_plane) };
    let recorded_before = recorded()?.len();
    // Discards what was counted during the warm-up.
    observations.take();
    let (began, cpu_before_us) = (Instant::now(), control_plane.cpu_us()?);
    sleep(Duration::from_secs(options.seconds)).await;
    let (took_s, cpu_us) = (began.elapsed().as_secs_f64(), control_plane.cpu_us()? - cpu_before_us);
    let (counts, memory_kib) = (observations.take(), control_plane.memory_kib()?);
    sleep(SETTLE_TIME).await;
    let mut recorded = recorded()?;
    let cold_starts = recorded.split_off(recorded_before.min(recorded.len()));
    Ok(Measured { took_s, cpu_us: cpu_us as f64, memory_kib, counts, cold_starts })
}

/// The creations that the control plane has recorded so far.
fn cold_starts(control_plane: &Daemon) -> anyhow::Result<Vec<ColdStart>> {
    let text = fs::read(control_plane.path("coldstarts.csv")).context("reading coldstarts.csv")?;
    let complete = control_plane.path("coldstarts-complete.csv");
    fs::write(&complete, complete_rows(&text)).context("copying coldstarts.csv")?;
    Ok(read_table(&complete)?)
}

/// The text without its last row if that is incomplete: the control plane may be writing it.
fn complete_rows(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    &text[..end]
}

impl Measured {
    /// The numbers to print.
    pub(crate) fn report(mut self, options: &Options) -> Report {
        let created = self.counts.latencies_us.len() as f64;
        let per_s = |count: f64| count / self.took_s;
        let mut report = Report::default();
        report.add("nodes", f64::from(options.nodes));
        report.add("workers", f64::from(options.workers()));
        report.add("data_planes", f64::from(options.data_planes));
        report.add("functions_invoked", f64::from(options.functions()));
        report.add("functions_idle", f64::from(options.idle_functions));
        report.add("asked_for_per_s", per_s(self.counts.requested as f64));
        report.add("created_per_s", per_s(created));
        report.add("still_warm_per_s", per_s(self.counts.still_warm as f64));
        report.add("still_waiting_per_s", per_s(self.counts.still_waiting as f64));
        report.add("cpu_us_per_creation", self.cpu_us / created.max(1.0));
        report.add("cores", self.cpu_us / 1e6 / self.took_s);
        report.add("memory_mib", self.memory_kib as f64 / 1024.0);
        let names = ["demand_to_endpoint_p50_us", "demand_to_endpoint_p99_us"];
        report.add_spread(names, &mut self.counts.latencies_us);
        let rows = &self.cold_starts;
        let sum = |row: &ColdStart| [row.decide_us, row.place_us, row.dispatch_us].into_iter().sum::<Option<u64>>();
        let mut dispatch_us: Vec<_> = rows.iter().filter_map(sum).collect();
        let mut publish_us: Vec<_> = rows.iter().filter_map(|row| row.publish_us).collect();
        report.add_spread(["decide_place_dispatch_p50_us", "decide_place_dispatch_p99_us"], &mut dispatch_us);
        report.add_spread(["publish_p50_us", "publish_p99_us"], &mut publish_us);
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use clap::Parser;

    /// The options as the command line has them.
    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn a_row_that_is_being_written_is_left_out() {
        assert_eq!(complete_rows(b"a,b\n1,2\n3,"), b"a,b\n1,2\n");
        assert_eq!(complete_rows(b"a,b\n1,2\n"), b"a,b\n1,2\n");
        assert_eq!(complete_rows(b"a,"), b"", "not even the header is complete");
    }

    #[test]
    fn counts_become_rates_and_phases_of_complete_rows_are_summed() {
        let options =
            CommandLine::parse_from(["driver", "--nodes", "10", "--nodes-per-worker", "4", "--rate", "2"]).options;
        let counts = Counts { requested: 30, still_warm: 10, still_waiting: 5, latencies_us: vec![300, 100, 200, 400] };
        let row = |decide_us, place_us, dispatch_us, publish_us| ColdStart {
            decide_us,
            place_us,
            dispatch_us,
            publish_us,
            function: "f0".to_owned(),
            sandbox: "1-1".to_owned(),
            node: "n0".to_owned(),
            requested_ns: 0,
            create_us: None,
            ready_us: None,
            net_worker_us: None,
            net_dataplane_us: None,
            outcome: record::CreationOutcome::Ready,
            create_steps: None,
        };
        let cold_starts = vec![row(Some(1), Some(2), Some(3), Some(9)), row(Some(1), None, Some(3), None)];
        let measured = Measured { took_s: 5.0, cpu_us: 1e6, memory_kib: 2048, counts, cold_starts };
        let report = measured.report(&options).render(terminal::Format::Json);
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        for (name, expected) in [
            ("workers", 3.0),
            ("asked_for_per_s", 6.0),
            ("created_per_s", 0.8),
            ("still_warm_per_s", 2.0),
            ("still_waiting_per_s", 1.0),
            ("cpu_us_per_creation", 250_000.0),
            ("cores", 0.2),
            ("memory_mib", 2.0),
            ("demand_to_endpoint_p99_us", 400.0),
            ("decide_place_dispatch_p99_us", 6.0),
            ("publish_p99_us", 9.0),
        ] {
            assert_eq!(report[name], expected, "{name}");
        }
    }
}
