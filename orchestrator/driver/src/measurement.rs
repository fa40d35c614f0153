//! What was measured, and how it is printed.

use std::{fmt::Write, time::Duration};

use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::{
    observed::Observed,
    options::{Format, Options},
    subject::Subject,
};

/// Time for the record of the last creations to reach the disk.
const SETTLE: Duration = Duration::from_millis(500);

/// Median and 99th percentile.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Spread {
    p50: u64,
    p99: u64,
}

/// One run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Measurement {
    nodes: u32,
    workers: u32,
    data_planes: u32,
    functions: u32,
    idle_functions: u32,
    /// Creations per second: asked for, and come.
    asked_per_s: f64,
    created_per_s: f64,
    /// Turns of functions that were not cold or still waited, per second.
    not_cold_per_s: f64,
    still_waiting_per_s: f64,
    /// The control plane's CPU time for each creation, its deletion included.
    cpu_us_per_creation: f64,
    /// Cores that the control plane used.
    cores: f64,
    memory_kib: u64,
    /// Demand reported to endpoint received, in microseconds.
    latency_us: Spread,
    /// From demand read to handed to the worker's connection, in microseconds: decide + place + dispatch.
    dispatch_us: Spread,
    /// Ready event read to endpoint handed to the data plane's connection, in microseconds.
    publish_us: Spread,
    pub(crate) registered_per_s: f64,
}

/// Measures for the time that the options say.
///
/// # Errors
/// When the control plane has ended, or what it recorded cannot be read.
pub(crate) async fn measure(options: &Options, subject: &Subject, observed: &Observed) -> anyhow::Result<Measurement> {
    let recorded_before = if options.no_record { 0 } else { subject.cold_starts()?.len() };
    observed.take();
    let (began, cpu_before_us) = (Instant::now(), subject.cpu_us()?);
    sleep(Duration::from_secs(options.seconds)).await;
    let (took_s, cpu_us) = (began.elapsed().as_secs_f64(), subject.cpu_us()? - cpu_before_us);
    let mut counts = observed.take();
    let memory_kib = subject.memory_kib()?;
    sleep(SETTLE).await;
    let rows = if options.no_record { Vec::new() } else { subject.cold_starts()?.split_off(recorded_before) };
    let sum = |parts: [Option<u64>; 3]| parts.into_iter().sum::<Option<u64>>();
    let mut dispatch_us: Vec<_> =
        rows.iter().filter_map(|row| sum([row.decide_us, row.place_us, row.dispatch_us])).collect();
    let mut publish_us: Vec<_> = rows.iter().filter_map(|row| row.publish_us).collect();
    let created = counts.latencies_us.len() as f64;
    Ok(Measurement {
        nodes: options.nodes,
        workers: options.workers(),
        data_planes: options.data_planes,
        functions: options.functions(),
        idle_functions: options.idle_functions,
        asked_per_s: counts.asked as f64 / took_s,
        created_per_s: created / took_s,
        not_cold_per_s: counts.still_warm as f64 / took_s,
        still_waiting_per_s: counts.still_waiting as f64 / took_s,
        cpu_us_per_creation: cpu_us as f64 / created.max(1.0),
        cores: cpu_us as f64 / 1e6 / took_s,
        memory_kib,
        latency_us: spread(&mut counts.latencies_us),
        dispatch_us: spread(&mut dispatch_us),
        publish_us: spread(&mut publish_us),
        registered_per_s: 0.0,
    })
}

fn spread(values: &mut [u64]) -> Spread {
    values.sort_unstable();
    let at = |q| stats::quantile(values, q).unwrap_or(0);
    Spread { p50: at(0.5), p99: at(0.99) }
}

impl Measurement {
    /// As text.
    pub(crate) fn render(&self, format: Format) -> String {
        match format {
            Format::Json => serde_json::to_string_pretty(self).expect("plain numbers") + "\n",
            Format::Table => self.table(),
        }
    }

    fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<24} {value}");
        };
        let spread = |spread: Spread| format!("p50 {} µs, p99 {} µs", spread.p50, spread.p99);
        line("nodes", format!("{} in {} workers", self.nodes, self.workers));
        line("data planes", self.data_planes.to_string());
        line("functions", format!("{} invoked, {} idle", self.functions, self.idle_functions));
        line("registered", format!("{:.0}/s", self.registered_per_s));
        line("creations asked for", format!("{:.0}/s", self.asked_per_s));
        line("creations", format!("{:.0}/s", self.created_per_s));
        let others = (self.not_cold_per_s, self.still_waiting_per_s);
        line("turns without one", format!("{:.1}/s still warm, {:.1}/s still waiting", others.0, others.1));
        line("control plane", format!("{:.1} CPU-µs/creation, {:.2} cores", self.cpu_us_per_creation, self.cores));
        line("memory", format!("{:.1} MiB", self.memory_kib as f64 / 1024.0));
        line("demand to endpoint", spread(self.latency_us));
        line("decide+place+dispatch", spread(self.dispatch_us));
        line("publish", spread(self.publish_us));
        text
    }
}
