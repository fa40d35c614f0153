//! Many invocations in one instant: the first ones of as many functions, or all of one function.

use std::{collections::BTreeSet, time::Duration};

use clap::Args;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    Common,
    cluster::Cluster,
    invocation::Client,
    registration::{in_bulk, specifications},
    report::Report,
};

/// What `driver burst` is told.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  driver burst\n  driver burst --one-function --run 1s")]
pub(crate) struct Options {
    /// Invocations, all sent at once on connections of their own
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    invocations: u32,

    /// All of one function, instead of each of its own
    #[arg(long)]
    one_function: bool,

    /// How long each runs
    #[arg(long, default_value = "0ms", value_parser = humantime::parse_duration)]
    run: Duration,

    /// How long a sandbox takes to make
    #[arg(long, default_value = "0ms", value_parser = humantime::parse_duration)]
    delay: Duration,
}

/// CPU of a function's sandbox, in millicores: thousands fit the nodes.
const SANDBOX_CPU: u32 = 10;

/// Measures.
///
/// # Errors
/// When a part does not start or an invocation fails.
pub(crate) fn run(common: &Common, options: &Options) -> anyhow::Result<Report> {
    let cluster = Cluster::start(common, 2, 50, options.delay)?;
    let functions = if options.one_function { 1 } else { options.invocations };
    let mut specs = specifications("f", functions)?;
    specs.iter_mut().for_each(|spec| spec.cpu = SANDBOX_CPU);
    in_bulk(cluster.control_plane.port("http"), &specs)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(options, functions, cluster.data_plane.port("invoke")))
}

async fn measure(options: &Options, functions: u32, data_plane: std::net::SocketAddr) -> anyhow::Result<Report> {
    let mut clients = Vec::new();
    for _ in 0..options.invocations {
        clients.push(Client::connect(data_plane).await?);
    }
    let run_ms = u64::try_from(options.run.as_millis()).unwrap_or(u64::MAX);
    let began = Instant::now();
    let mut invocations = JoinSet::new();
    for (mut client, number) in clients.into_iter().zip(0..) {
        invocations.spawn(async move {
            let answer = client.invoke(&format!("f{}", number % functions), run_ms).await?.check()?;
            anyhow::Ok((answer, began.elapsed()))
        });
    }
    let (mut latencies_us, mut sandboxes, mut cold) = (Vec::new(), BTreeSet::new(), 0);
    while let Some(ended) = invocations.join_next().await {
        let (answer, latency) = ended??;
        latencies_us.push(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        cold += u32::from(answer.cold);
        sandboxes.insert(answer.sandbox);
    }
    let mut report = Report::default();
    report.add("answered", latencies_us.len() as f64);
    report.add("cold", f64::from(cold));
    report.add("sandboxes", sandboxes.len() as f64);
    report.add_spread(["answered_after_p50_us", "answered_after_p99_us"], &mut latencies_us);
    report.add("last_answered_after_us", latencies_us.last().copied().unwrap_or(0) as f64);
    Ok(report)
}
