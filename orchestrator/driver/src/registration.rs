//! Registrations: in bulk, for every measurement; and the rate at which a control plane accepts them.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    net::SocketAddr,
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;
use model::FunctionSpec;
use tokio::time::Instant;

use crate::{Common, cluster::Cluster, http::agent, report::Report};

/// Functions in one bulk request.
const CHUNK: usize = 10_000;
/// Length of the measurement of the disk's own rate of durable writes.
const DISK_PROBE_TIME: Duration = Duration::from_secs(1);

/// The options of `driver registration`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: driver registration --clients 16")]
pub(crate) struct Options {
    /// Clients that register one function after the other
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,

    /// Functions that each of them registers
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    functions: u32,

    /// Functions registered in bulk
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    bulk: u32,
}

/// Runs the measurement.
///
/// # Errors
/// If a component does not start or a registration is refused.
pub(crate) fn run(common: &Common, options: &Options) -> anyhow::Result<Report> {
    let cluster = Cluster::start(common, 1, 1, Duration::ZERO)?;
    let http = cluster.control_plane.port("http");
    let mut report = Report::default();
    let mut latencies_us = Vec::new();
    let (began, cpu_us) = (Instant::now(), cluster.control_plane.cpu_us()?);
    let clients = (0..options.clients).map(|client| {
        let functions = options.functions;
        thread::spawn(move || one_by_one(http, client, functions))
    });
    for client in clients.collect::<Vec<_>>() {
        latencies_us.extend(client.join().map_err(|_| anyhow::anyhow!("a client failed"))??);
    }
    let count = latencies_us.len() as f64;
    report.add("one_by_one_per_s", count / began.elapsed().as_secs_f64());
    report.add("one_by_one_cpu_us_each", (cluster.control_plane.cpu_us()? - cpu_us) as f64 / count);
    report.add_spread(["one_by_one_p50_us", "one_by_one_p99_us"], &mut latencies_us);
    let specs = specifications("bulk-", options.bulk)?;
    let (began, cpu_us) = (Instant::now(), cluster.control_plane.cpu_us()?);
    in_bulk(http, &specs)?;
    report.add("in_bulk_per_s", f64::from(options.bulk) / began.elapsed().as_secs_f64());
    report.add("in_bulk_cpu_us_each", (cluster.control_plane.cpu_us()? - cpu_us) as f64 / f64::from(options.bulk));
    // For comparison: no registration is acknowledged before it is durable.
    report.add("fdatasync_per_s", disk_rate(&cluster.control_plane.path("sync"))?);
    Ok(report)
}

/// A function of that name with everything at its default.
///
/// # Errors
/// If `name` is no function name.
fn specification(name: &str) -> anyhow::Result<FunctionSpec> {
    Ok(FunctionSpec::new(name.parse()?, "builtin:function"))
}

/// Functions called `prefix` and a number from 0.
///
/// # Errors
/// If that is no function name.
pub(crate) fn specifications(prefix: &str, count: u32) -> anyhow::Result<Vec<FunctionSpec>> {
    (0..count).map(|number| specification(&format!("{prefix}{number}"))).collect()
}

/// Registers functions, many in one request.
///
/// # Errors
/// If one is refused.
pub(crate) fn in_bulk(http: SocketAddr, specs: &[FunctionSpec]) -> anyhow::Result<()> {
    let (agent, url) = (agent(), format!("http://{http}/v1/functions"));
    // In parts, because a bulk request has 250,000 lines at most.
    for chunk in specs.chunks(CHUNK) {
        let lines = chunk.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        let request = agent.post(&url).header("content-type", "application/x-ndjson");
        let mut response = request.send(lines.join("\n")).context("registering functions")?;
        let results = response.body_mut().read_to_string()?;
        if let Some(refused) = first_refusal(&results) {
            bail!("a function was refused: {refused}");
        }
    }
    Ok(())
}

/// The first line of the results of a bulk request that has an error.
fn first_refusal(results: &str) -> Option<&str> {
    results.lines().find(|line| line.contains("\"error\":\""))
}

/// Registers functions one by one on one connection. Returns the latency of each, in microseconds.
fn one_by_one(http: SocketAddr, client: u32, functions: u32) -> anyhow::Result<Vec<u64>> {
    let agent = agent();
    (0..functions)
        .map(|number| {
            let began = Instant::now();
            let url = format!("http://{http}/v1/functions/one-{client}-{number}");
            let request = agent.put(&url).header("content-type", "application/json");
            request.send(r#"{"image":"builtin:function"}"#).context("registering a function")?;
            Ok(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX))
        })
        .collect()
}

/// Durable writes of one page per second.
fn disk_rate(path: &Path) -> anyhow::Result<f64> {
    let mut file = File::create(path).context("making a file")?;
    let (began, mut count) = (Instant::now(), 0.0);
    while began.elapsed() < DISK_PROBE_TIME {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        count += 1.0;
    }
    Ok(count / began.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_numbered_from_0_and_an_invalid_prefix_is_refused() {
        let specs = specifications("f-", 3).unwrap();
        let names: Vec<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(names, ["f-0", "f-1", "f-2"]);
        assert!(specs.iter().all(|spec| spec.image == "builtin:function"));
        assert!(specifications("F", 1).is_err(), "function names are DNS labels");
    }

    #[test]
    fn the_first_refused_function_of_a_bulk_request_is_found() {
        let accepted = "{\"name\":\"f0\",\"error\":null}";
        let refused = "{\"name\":\"f1\",\"error\":\"image: expected one\"}";
        assert_eq!(first_refusal(&[accepted, refused, refused].join("\n")), Some(refused));
        assert_eq!(first_refusal(accepted), None);
    }
}
