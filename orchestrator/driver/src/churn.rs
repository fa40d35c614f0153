//! Functions that are registered, started cold and deleted at a constant rate. Compares the resources of every
//! component in the last quarter of the time with the first, to find leaks.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use terminal::UsageError;
use tokio::{runtime::Runtime, time::Instant};

use crate::{
    Common,
    cluster::Cluster,
    daemon::{Daemon, sleep},
    http::agent,
    invocation::Client,
    registration::{in_bulk, specifications},
    report::Report,
    usage::Usage,
};

/// The options of `driver churn`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Fails if a component has grown past a bound: descriptors and connections by 64, threads by 4, memory \
    by 16 MiB and a tenth of itself.\n\nExample: driver churn --seconds 600 --rate 100"
)]
pub(crate) struct Options {
    /// Length, in seconds
    #[arg(long, default_value_t = 600)]
    seconds: u64,

    /// Functions registered, invoked once and deleted per second, at most
    #[arg(long, default_value_t = 100)]
    rate: u32,

    /// Workers, of ten nodes each
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    workers: u32,
}

const NODES_PER_WORKER: u32 = 10;
/// Time that the creation of a sandbox takes.
const DELAY: Duration = Duration::from_millis(5);
/// CPU of a function's sandbox, in millicores.
const SANDBOX_CPU: u32 = 10;
/// Number of concurrent clients.
const CLIENTS: u32 = 4;
/// Functions that a client registers in one request.
const BATCH: u32 = 25;
/// Longest time between two samples of the components.
const POLL_INTERVAL: Duration = Duration::from_secs(10);
/// Samples of a short run, in which the time between them is shorter.
const MIN_SAMPLES: u32 = 8;

/// Largest growth from the first quarter to the last. The size of a connection pool depends on which requests happen to
/// overlap, and threads for blocking file operations come and go.
const MAX_MORE_DESCRIPTORS: f64 = 64.0;
const MAX_MORE_THREADS: f64 = 4.0;
/// Largest growth of memory: the cache of the command log's file, which fills to 8 MiB over some 12,000 functions, what
/// allocators keep, and tables that grow by doubling. At the default rate and time 45,000 functions come between the
/// middles of the two quarters, so a leak of 400 bytes for each is noticed, also where there is no such cache.
const MAX_MORE_MEMORY_KIB: f64 = 16.0 * 1024.0;
/// Additional growth as a share of the first quarter, because a heap fragments.
const MAX_MORE_MEMORY_SHARE: f64 = 0.1;

/// Runs the measurement.
///
/// # Errors
/// If a component does not start, a registration, an invocation or a deletion fails, or functions or sandboxes are left
/// at the end.
pub(crate) fn run(common: &Common, options: &Options) -> anyhow::Result<Report> {
    let is_measurable = options.seconds > 0 && options.rate > 0;
    ensure!(is_measurable, UsageError("--seconds and --rate must be above 0".to_owned()));
    let cluster = Cluster::start(common, options.workers, NODES_PER_WORKER, DELAY)?;
    let (http, invoke) = (cluster.control_plane.port("http"), cluster.data_plane.port("invoke"));
    let components = named_components(&cluster);
    let began = Instant::now();
    let (length, cold_starts) = (Duration::from_secs(options.seconds), AtomicU64::new(0));
    let client = Churn { http, invoke, until: began + length, rate: options.rate, cold_starts: &cold_starts };
    let samples = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || client.run(number))).collect();
        let samples = sample_components(&components, began, length);
        // Joined before the samples are looked at: if a client has failed, its error says most.
        for client in clients {
            client.join().map_err(|_| anyhow!("a client failed"))??;
        }
        samples
    })?;
    // Every function has been deleted, so whatever is left has leaked.
    cluster.reach(|status| {
        let left = ["functions", "sandboxes_ready", "sandboxes_starting", "sandboxes_leaving"];
        left.iter().all(|left| status[*left] == 0)
    })?;
    let mut report = Report::default();
    let count = cold_starts.into_inner() as f64;
    report.add("functions", count);
    report.add("cold_starts_per_s", count / length.as_secs_f64());
    for (number, (name, _)) in components.iter().enumerate() {
        let of_component: Vec<Usage> = samples.iter().map(|sample| sample[number]).collect();
        compare(&mut report, name, &of_component, length);
    }
    Ok(report)
}

fn named_components(cluster: &Cluster) -> Vec<(String, &Daemon)> {
    let planes = [("control_plane", &cluster.control_plane), ("data_plane", &cluster.data_plane)];
    let planes = planes.into_iter().map(|(name, daemon)| (name.to_owned(), daemon));
    planes.chain(cluster.workers.iter().zip(0..).map(|(daemon, number)| (format!("worker_{number}"), daemon))).collect()
}

/// Samples all components at regular times.
fn sample_components(
    components: &[(String, &Daemon)],
    began: Instant,
    length: Duration,
) -> anyhow::Result<Vec<Vec<Usage>>> {
    let (period, count) = sampling(length)?;
    let sample = |number: u32| {
        sleep((began + period * number).saturating_duration_since(Instant::now()));
        components.iter().map(|(_, component)| Usage::of(component)).collect()
    };
    (1..=count).map(sample).collect()
}

/// The time between two samples, and their number.
///
/// # Errors
/// If the run is too long for the number to be counted.
fn sampling(length: Duration) -> anyhow::Result<(Duration, u32)> {
    let period = POLL_INTERVAL.min(length / MIN_SAMPLES);
    Ok((period, u32::try_from(length.as_millis() / period.as_millis().max(1))?))
}

/// Adds the resources of one component in the first and the last quarter, and a violation for each that grew too much.
fn compare(report: &mut Report, component: &str, samples: &[Usage], length: Duration) {
    let quarter = samples.len() / 4;
    let first = Usage::mean(&samples[..quarter]);
    let last = Usage::mean(&samples[samples.len() - quarter..]);
    // The middles of the first and the last quarter are three quarters of the time apart.
    let minutes_between = length.as_secs_f64() / 60.0 * 0.75;
    let memory_bound = MAX_MORE_MEMORY_KIB + first.memory_kib * MAX_MORE_MEMORY_SHARE;
    for (what, first, last, bound) in [
        ("descriptors", first.descriptors, last.descriptors, MAX_MORE_DESCRIPTORS),
        ("connections", first.connections, last.connections, MAX_MORE_DESCRIPTORS),
        ("threads", first.threads, last.threads, MAX_MORE_THREADS),
        ("memory_kib", first.memory_kib, last.memory_kib, memory_bound),
    ] {
        report.add(format!("{component}_{what}_first_quarter"), first);
        report.add(format!("{component}_{what}_last_quarter"), last);
        report.add(format!("{component}_{what}_growth_per_min"), (last - first) / minutes_between);
        if last - first > bound {
            let component = component.replace('_', " ");
            report.add_violation(format!(
                "{what} of the {component} grew from {first:.0} to {last:.0}, by more than {bound:.0}"
            ));
        }
    }
}

/// One client.
#[derive(Clone, Copy)]
struct Churn<'a> {
    http: SocketAddr,
    invoke: SocketAddr,
    until: Instant,
    rate: u32,
    cold_starts: &'a AtomicU64,
}

impl Churn<'_> {
    /// Runs batch after batch until the time is over.
    fn run(self, client: u32) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Each client sends one batch per period.
        let period = Duration::from_secs(1) * (BATCH * CLIENTS) / self.rate;
        let mut batch = 0_u64;
        loop {
            let due = Instant::now() + period;
            if Instant::now() >= self.until {
                return Ok(());
            }
            self.one_batch(&runtime, &format!("c{client}-{batch}-"))?;
            batch += 1;
            sleep(due.min(self.until).saturating_duration_since(Instant::now()));
        }
    }

    fn one_batch(self, runtime: &Runtime, prefix: &str) -> anyhow::Result<()> {
        let mut specs = specifications(prefix, BATCH)?;
        specs.iter_mut().for_each(|spec| spec.cpu = SANDBOX_CPU);
        in_bulk(self.http, &specs)?;
        let agent = agent();
        runtime.block_on(async {
            let mut client = Client::connect(self.invoke).await?;
            for spec in &specs {
                let response = client.invoke(spec.name.as_str(), 0).await?.check()?;
                ensure!(response.cold, "{} had a sandbox already", spec.name);
                self.cold_starts.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })?;
        for spec in &specs {
            let url = format!("http://{}/v1/functions/{}", self.http, spec.name);
            agent.delete(&url).call().context("deleting a function")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_past_a_bound_is_a_violation() {
        let usage = |descriptors, memory_kib| Usage { descriptors, memory_kib, ..Usage::default() };
        let samples = [usage(10.0, 10_000.0), usage(50.0, 15_000.0), usage(80.0, 20_000.0), usage(100.0, 27_000.0)];
        let mut report = Report::default();
        compare(&mut report, "data_plane", &samples, Duration::from_secs(80));
        let violations = report.violations();
        assert_eq!(violations, ["descriptors of the data plane grew from 10 to 100, by more than 64"]);
    }

    #[test]
    fn growth_is_reported_per_minute_between_the_middles_of_the_quarters() {
        let threads = |threads| Usage { threads, ..Usage::default() };
        let samples = [1.0, 3.0, 9.0, 9.0, 9.0, 9.0, 4.0, 6.0].map(threads);
        let mut report = Report::default();
        // The middles of the quarters are three quarters of the length apart: a minute.
        compare(&mut report, "worker_0", &samples, Duration::from_secs(80));
        let json: serde_json::Value = serde_json::from_str(&report.render(terminal::Format::Json)).unwrap();
        assert_eq!(json["worker_0_threads_first_quarter"], 2.0);
        assert_eq!(json["worker_0_threads_last_quarter"], 5.0);
        assert_eq!(json["worker_0_threads_growth_per_min"], 3.0);
        assert!(report.violations().is_empty(), "3 threads are within the bound");
    }

    #[test]
    fn memory_may_grow_by_a_share_of_the_first_quarter_and_no_more() {
        let grown_by = |kib: f64| {
            let memory = |memory_kib| Usage { memory_kib, ..Usage::default() };
            let first = 100_000.0;
            let samples = [first, first, first, first + kib].map(memory);
            let mut report = Report::default();
            compare(&mut report, "data_plane", &samples, Duration::from_secs(80));
            report.violations().len()
        };
        let bound = MAX_MORE_MEMORY_KIB + 10_000.0;
        assert_eq!((grown_by(bound), grown_by(bound + 1.0)), (0, 1));
    }

    #[test]
    fn a_short_run_has_the_fewest_samples_and_a_long_one_a_sample_per_period() {
        assert_eq!(sampling(Duration::from_secs(4)).unwrap(), (Duration::from_millis(500), 8));
        assert_eq!(sampling(Duration::from_secs(600)).unwrap(), (POLL_INTERVAL, 60));
    }
}
