//! Many simultaneous invocations: the first ones of as many functions, or all of one function.

use std::{collections::BTreeSet, time::Duration};

use clap::Args;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    Common,
    cluster::Cluster,
    invocation::{Client, Response},
    registration::{in_bulk, specifications},
    report::Report,
};

/// The options of `driver burst`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  driver burst\n  driver burst --one-function --run 1s")]
pub(crate) struct Options {
    /// Invocations, all sent at once on connections of their own
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    invocations: u32,

    /// All of one function, instead of each of its own
    #[arg(long)]
    one_function: bool,

    /// Run time of each
    #[arg(long, default_value = "0ms", value_parser = humantime::parse_duration)]
    run: Duration,

    /// Time that the creation of a sandbox takes
    #[arg(long, default_value = "0ms", value_parser = humantime::parse_duration)]
    delay: Duration,
}

/// CPU of a function's sandbox, in millicores: the nodes have room for thousands.
const SANDBOX_CPU: u32 = 10;

/// Runs the measurement.
///
/// # Errors
/// If a component does not start or an invocation fails.
pub(crate) fn run(common: &Common, options: &Options) -> anyhow::Result<Report> {
    let cluster = Cluster::start(common, 2, 50, options.delay)?;
    let functions = if options.one_function { 1 } else { options.invocations };
    let mut specs = specifications("f", functions)?;
    specs.iter_mut().for_each(|spec| spec.cpu = SANDBOX_CPU);
    in_bulk(cluster.control_plane.port("http"), &specs)?;
    // One thread: the cluster that is measured shares the cores with this program.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(options, functions, cluster.data_plane.port("invoke")))
}

async fn measure(options: &Options, functions: u32, data_plane: std::net::SocketAddr) -> anyhow::Result<Report> {
    let mut clients = Vec::new();
    for _ in 0..options.invocations {
        // Before the clock starts: connecting is not part of what is measured.
        clients.push(Client::connect(data_plane).await?);
    }
    let run_ms = u64::try_from(options.run.as_millis()).unwrap_or(u64::MAX);
    let began = Instant::now();
    let mut invocations = JoinSet::new();
    for (mut client, number) in clients.into_iter().zip(0..) {
        invocations.spawn(async move {
            let response = client.invoke(&format!("f{}", number % functions), run_ms).await?.check()?;
            anyhow::Ok((response, began.elapsed()))
        });
    }
    let mut completed = Vec::new();
    while let Some(ended) = invocations.join_next().await {
        completed.push(ended??);
    }
    Ok(summarize(&completed))
}

/// The counts and latencies of the invocations, each with its response and latency.
fn summarize(completed: &[(Response, Duration)]) -> Report {
    let latency_us = |latency: &Duration| u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    let mut latencies_us: Vec<u64> = completed.iter().map(|(_, latency)| latency_us(latency)).collect();
    let cold = completed.iter().filter(|(response, _)| response.cold).count();
    let sandboxes: BTreeSet<_> = completed.iter().map(|(response, _)| &response.sandbox).collect();
    let mut report = Report::default();
    report.add("answered", latencies_us.len() as f64);
    report.add("cold", cold as f64);
    report.add("sandboxes", sandboxes.len() as f64);
    report.add_spread(["answered_after_p50_us", "answered_after_p99_us"], &mut latencies_us);
    report.add("last_answered_after_us", latencies_us.last().copied().unwrap_or(0) as f64);
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_summarized_by_its_cold_starts_sandboxes_and_latencies() {
        let completed: Vec<_> = [(30, true, "1-1"), (10, false, "1-1"), (20, true, "1-2")]
            .map(|(ms, cold, sandbox)| {
                let response = Response { status: http::StatusCode::OK, cold, sandbox: sandbox.to_owned() };
                (response, Duration::from_millis(ms))
            })
            .into();
        let json = summarize(&completed).render(terminal::Format::Json);
        let expected = "{\"answered\":3.0,\"answered_after_p50_us\":20000.0,\"answered_after_p99_us\":30000.0,\"cold\":2.0,\
            \"last_answered_after_us\":30000.0,\"sandboxes\":2.0}\n";
        assert_eq!(sorted(&json), sorted(expected));
        assert!(summarize(&[]).render(terminal::Format::Json).contains("\"last_answered_after_us\": 0.0"));
    }

    fn sorted(json: &str) -> std::collections::BTreeMap<String, f64> {
        serde_json::from_str(json).expect("a report is JSON")
    }
}
