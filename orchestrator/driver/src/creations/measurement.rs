//! What was measured of a control plane under a constant rate of creations.

use std::{fs, time::Duration};

use anyhow::Context;
use record::{ColdStart, read_table};
use tokio::time::{Instant, sleep};

use super::{
    observed::{Counts, Observed},
    options::Options,
};
use crate::{daemon::Daemon, report::Report};

/// Time for the record of the last creations to reach the disk.
const SETTLE: Duration = Duration::from_millis(500);

/// One run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    took_s: f64,
    cpu_us: f64,
    memory_kib: u64,
    counts: Counts,
    /// Of the creations that were recorded meanwhile.
    cold_starts: Vec<ColdStart>,
}

/// Measures for the time that the options say.
///
/// # Errors
/// When the control plane has ended, or what it recorded cannot be read.
pub(crate) async fn measure(
    options: &Options,
    control_plane: &Daemon,
    observed: &Observed,
) -> anyhow::Result<Measured> {
    let recorded = || if options.no_record { Ok(Vec::new()) } else { cold_starts(control_plane) };
    let recorded_before = recorded()?.len();
    observed.take();
    let (began, cpu_before_us) = (Instant::now(), control_plane.cpu_us()?);
    sleep(Duration::from_secs(options.seconds)).await;
    let (took_s, cpu_us) = (began.elapsed().as_secs_f64(), control_plane.cpu_us()? - cpu_before_us);
    let (counts, memory_kib) = (observed.take(), control_plane.memory_kib()?);
    sleep(SETTLE).await;
    let mut recorded = recorded()?;
    let cold_starts = recorded.split_off(recorded_before.min(recorded.len()));
    Ok(Measured { took_s, cpu_us: cpu_us as f64, memory_kib, counts, cold_starts })
}

/// How each creation went, as far as it is written.
fn cold_starts(control_plane: &Daemon) -> anyhow::Result<Vec<ColdStart>> {
    // The control plane goes on writing: the row that is being written is left out.
    let mut text = fs::read(control_plane.path("coldstarts.csv")).context("reading coldstarts.csv")?;
    text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1));
    let whole = control_plane.path("coldstarts-whole.csv");
    fs::write(&whole, text).context("copying coldstarts.csv")?;
    Ok(read_table(&whole)?)
}

impl Measured {
    /// As numbers.
    pub(crate) fn report(mut self, options: &Options) -> Report {
        let created = self.counts.latencies_us.len() as f64;
        let per_s = |count: f64| count / self.took_s;
        let mut report = Report::default();
        report.add("nodes", f64::from(options.nodes));
        report.add("workers", f64::from(options.workers()));
        report.add("data_planes", f64::from(options.data_planes));
        report.add("functions_invoked", f64::from(options.functions()));
        report.add("functions_idle", f64::from(options.idle_functions));
        report.add("asked_for_per_s", per_s(self.counts.asked as f64));
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
