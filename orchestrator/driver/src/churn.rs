//! Functions that come, are started cold and go, at a rate and for long: what every part has open in the last quarter of
//! the time, compared with the first.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, anyhow, ensure};
use clap::Args;
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

/// What `driver churn` is told.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Fails when a part has grown past a bound: descriptors and connections by 64, threads by 4, memory \
    by 16 MiB and a tenth of itself.\n\nExample: driver churn --seconds 600 --rate 100"
)]
pub(crate) struct Options {
    /// How long, in seconds
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
/// How long a sandbox takes to make.
const DELAY: Duration = Duration::from_millis(5);
/// CPU of a function's sandbox, in millicores.
const SANDBOX_CPU: u32 = 10;
/// Clients at once.
const CLIENTS: u32 = 4;
/// Functions that a client registers in one request.
const BATCH: u32 = 25;
/// Time between two looks at the parts; shorter when there would be few.
const LOOK: Duration = Duration::from_secs(10);
/// Looks of a short run.
const FEWEST_LOOKS: u32 = 8;

/// What may be open in the last quarter beyond the first. Connections are pooled, and how many depends on who happens to
/// wait; threads that block on files come and go.
const MORE_DESCRIPTORS: f64 = 64.0;
const MORE_THREADS: f64 = 4.0;
/// Memory beyond that of the first quarter: the cache of the command log's file, which fills to 8 MiB over some 12,000
/// functions, what allocators keep, and tables that grow by doubling. At the default rate and time 45,000 functions come
/// between the middles of the two quarters, so a leak of 400 bytes for each is noticed, also where there is no such cache.
const MORE_MEMORY_KIB: f64 = 16.0 * 1024.0;
/// And that share of it, since a heap in use is not packed.
const MORE_MEMORY_SHARE: f64 = 0.1;

/// Measures.
///
/// # Errors
/// When a part does not start, a registration, an invocation or a deletion fails, or something is left at the end.
pub(crate) fn run(common: &Common, options: &Options) -> anyhow::Result<Report> {
    ensure!(options.seconds > 0 && options.rate > 0, "--seconds and --rate must be above 0");
    let cluster = Cluster::start(common, options.workers, NODES_PER_WORKER, DELAY)?;
    let (http, invoke) = (cluster.control_plane.port("http"), cluster.data_plane.port("invoke"));
    let parts = named_parts(&cluster);
    let began = Instant::now();
    let (length, cold_starts) = (Duration::from_secs(options.seconds), AtomicU64::new(0));
    let client = Churn { http, invoke, until: began + length, rate: options.rate, cold_starts: &cold_starts };
    let looks = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || client.run(number))).collect();
        let looks = look_at(&parts, began, length);
        for client in clients {
            client.join().map_err(|_| anyhow!("a client failed"))??;
        }
        looks
    })?;
    cluster.reach(|status| {
        let left = ["functions", "sandboxes_ready", "sandboxes_starting", "sandboxes_leaving"];
        left.iter().all(|left| status[*left] == 0)
    })?;
    let mut report = Report::default();
    let count = cold_starts.into_inner() as f64;
    report.add("functions", count);
    report.add("cold_starts_per_s", count / length.as_secs_f64());
    for (number, (name, _)) in parts.iter().enumerate() {
        let of_part: Vec<Usage> = looks.iter().map(|look| look[number]).collect();
        compare(&mut report, name, &of_part, length);
    }
    Ok(report)
}

fn named_parts(cluster: &Cluster) -> Vec<(String, &Daemon)> {
    let planes = [("control_plane", &cluster.control_plane), ("data_plane", &cluster.data_plane)];
    let planes = planes.into_iter().map(|(name, daemon)| (name.to_owned(), daemon));
    planes.chain(cluster.workers.iter().zip(0..).map(|(daemon, number)| (format!("worker_{number}"), daemon))).collect()
}

/// Looks at all parts at regular times.
fn look_at(parts: &[(String, &Daemon)], began: Instant, length: Duration) -> anyhow::Result<Vec<Vec<Usage>>> {
    let every = LOOK.min(length / FEWEST_LOOKS);
    let count = u32::try_from(length.as_millis() / every.as_millis().max(1))?;
    let look = |number: u32| {
        sleep((began + every * number).saturating_duration_since(Instant::now()));
        parts.iter().map(|(_, part)| Usage::of(part)).collect()
    };
    (1..=count).map(look).collect()
}

/// Adds what one part had open in the first and the last quarter, and notes what grew past its bound.
fn compare(report: &mut Report, part: &str, looks: &[Usage], length: Duration) {
    let quarter = looks.len() / 4;
    let first = Usage::mean(&looks[..quarter]);
    let last = Usage::mean(&looks[looks.len() - quarter..]);
    let minutes_between = length.as_secs_f64() / 60.0 * 0.75;
    let memory_bound = MORE_MEMORY_KIB + first.memory_kib * MORE_MEMORY_SHARE;
    for (what, first, last, bound) in [
        ("descriptors", first.descriptors, last.descriptors, MORE_DESCRIPTORS),
        ("connections", first.connections, last.connections, MORE_DESCRIPTORS),
        ("threads", first.threads, last.threads, MORE_THREADS),
        ("memory_kib", first.memory_kib, last.memory_kib, memory_bound),
    ] {
        report.add(format!("{part}_{what}_first_quarter"), first);
        report.add(format!("{part}_{what}_last_quarter"), last);
        report.add(format!("{part}_{what}_growth_per_min"), (last - first) / minutes_between);
        if last - first > bound {
            let part = part.replace('_', " ");
            report.object(format!("{what} of the {part} grew from {first:.0} to {last:.0}, by more than {bound:.0}"));
        }
    }
}

/// What one client does.
#[derive(Clone, Copy)]
struct Churn<'a> {
    http: SocketAddr,
    invoke: SocketAddr,
    until: Instant,
    rate: u32,
    cold_starts: &'a AtomicU64,
}

impl Churn<'_> {
    /// Batch after batch until the time is over.
    fn run(self, client: u32) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let pace = Duration::from_secs(1) * (BATCH * CLIENTS) / self.rate;
        let mut batch = 0_u64;
        loop {
            let due = Instant::now() + pace;
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
                let answer = client.invoke(spec.name.as_str(), 0).await?.check()?;
                ensure!(answer.cold, "{} had a sandbox already", spec.name);
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
    fn what_grew_past_its_bound_is_named_and_what_did_not_is_not() {
        let look = |descriptors, memory_kib| Usage { descriptors, memory_kib, ..Usage::default() };
        let looks = [look(10.0, 10_000.0), look(50.0, 15_000.0), look(80.0, 20_000.0), look(100.0, 27_000.0)];
        let mut report = Report::default();
        compare(&mut report, "data_plane", &looks, Duration::from_secs(80));
        let objections = report.objections();
        assert_eq!(objections, ["descriptors of the data plane grew from 10 to 100, by more than 64"]);
    }
}
