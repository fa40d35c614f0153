//! The program `driver`: what a control plane carries by itself.
//!
//! It starts `dirigent control-plane`, speaks the real streams to it as data planes and as thousands of nodes that make
//! sandboxes without doing anything, and reports creations per second, their latency and the control plane's CPU time.

mod data_plane;
mod measurement;
mod observed;
mod options;
mod pacing;
mod subject;
mod worker;

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;
use clap::Parser;
use tokio::time::sleep;

use crate::{
    data_plane::DataPlane,
    measurement::{Measurement, measure},
    observed::Observed,
    options::Options,
    subject::Subject,
};

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(measurement) => {
            print!("{}", measurement.render(options.format));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<Measurement> {
    options.check()?;
    let subject = Subject::start(options)?;
    eprintln!("registering {} functions", options.functions() + options.idle_functions);
    let registered_in = subject.register(options)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(options.threads).enable_all().build()?;
    let mut measurement = runtime.block_on(drive(options, &subject))?;
    measurement.registered_per_s = subject.registered(options) / registered_in.as_secs_f64();
    Ok(measurement)
}

/// Connects everybody, paces, and measures.
async fn drive(options: &Options, subject: &Subject) -> anyhow::Result<Measurement> {
    let observed = Arc::new(Observed::default());
    eprintln!("connecting {} nodes in {} workers", options.nodes, options.workers());
    let stream = subject.stream();
    let mut tasks = tokio::task::JoinSet::new();
    worker::start_all(options, stream, &mut tasks).await.context("connecting the workers")?;
    let mut data_planes = Vec::new();
    for number in 0..options.data_planes {
        let data_plane = DataPlane::connect(number, options, stream, &observed, &mut tasks).await;
        data_planes.push(data_plane.context("connecting a data plane")?);
    }
    eprintln!("{} creations/s for {} s after {} s", options.rate, options.seconds, options.warmup);
    for data_plane in data_planes {
        tasks.spawn(pacing::pace(data_plane, options.rate / f64::from(options.data_planes)));
    }
    let ended = async {
        match tasks.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(stopped)) => anyhow::Error::new(stopped),
            Some(Ok(Ok(()))) | None => anyhow::anyhow!("a stream was closed"),
        }
    };
    tokio::select! {
        biased;
        error = ended => Err(error.context("the control plane does not go along")),
        measured = async {
            sleep(options.warmup()).await;
            measure(options, subject, &observed).await
        } => measured,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted: nothing was measured"),
    }
}
