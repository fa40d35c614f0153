//! The capacity of a control plane alone: creations decided, dispatched and published at a constant rate.
//!
//! The driver connects over the real streams, as data planes and as thousands of nodes whose sandboxes do nothing.

mod data_plane;
mod measurement;
mod observations;
mod options;
mod pacing;
mod worker;

use std::sync::Arc;

use anyhow::Context;
use model::FunctionSpec;
use terminal::UsageError;
use tokio::time::{Instant, sleep};

pub(crate) use self::options::Options;
use self::{
    data_plane::DataPlane,
    measurement::{Measured, measure},
    observations::Observations,
    options::{KEEP_ALIVE, NAME_PREFIX},
};
use crate::{
    Common,
    daemon::Daemon,
    registration::{in_bulk, specifications},
    report::Report,
};

/// CPU that a function's sandbox reserves, in millicores, and memory, in MiB: any node has room for thousands.
const SANDBOX_CPU: u32 = 1;
const SANDBOX_MEMORY: u32 = 1;

/// Runs the measurement.
///
/// # Errors
/// If an option is out of bounds, the control plane fails, or the user interrupts.
pub(crate) fn run(common: &Common, options: &Options) -> anyhow::Result<Report> {
    options.check().map_err(UsageError::of)?;
    let directory = tempfile::tempdir().context("making a directory")?;
    let record = directory.path().display().to_string();
    let recording = ["--record", &record];
    let arguments = if options.no_record { &[][..] } else { &recording };
    let control_plane = Daemon::control_plane(&common.program()?, directory.path(), arguments)?;
    let functions = options.functions() + options.idle_functions;
    terminal::note!("registering {functions} functions");
    let mut specs = specifications(NAME_PREFIX, functions)?;
    specs.iter_mut().for_each(make_short_lived);
    let began = Instant::now();
    in_bulk(control_plane.port("http"), &specs)?;
    let registered_per_s = f64::from(functions) / began.elapsed().as_secs_f64();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(options.threads).enable_all().build()?;
    let measured = runtime.block_on(run_load(options, &control_plane))?;
    let mut report = measured.report(options);
    report.add("registered_in_bulk_per_s", registered_per_s);
    Ok(report)
}

/// Makes a function cold again soon after each invocation.
fn make_short_lived(spec: &mut FunctionSpec) {
    (spec.cpu, spec.memory) = (SANDBOX_CPU, SANDBOX_MEMORY);
    // A single sandbox, so that one invocation of a cold function is one creation.
    spec.scale.max = Some(1);
    spec.scale.stable_window = KEEP_ALIVE;
    spec.scale.panic_window = Some(KEEP_ALIVE);
}

/// Connects the workers and data planes, starts the load, and measures.
async fn run_load(options: &Options, control_plane: &Daemon) -> anyhow::Result<Measured> {
    let observations = Arc::new(Observations::default());
    terminal::note!("connecting {} nodes in {} workers", options.nodes, options.workers());
    let stream = control_plane.port("stream");
    let mut tasks = tokio::task::JoinSet::new();
    worker::start_all(options, stream, &mut tasks).await.context("connecting the workers")?;
    let mut data_planes = Vec::new();
    for number in 0..options.data_planes {
        let data_plane = DataPlane::connect(number, options, stream, &observations, &mut tasks).await;
        data_planes.push(data_plane.context("connecting a data plane")?);
    }
    terminal::note!("{} creations/s for {} s after {} s", options.rate, options.seconds, options.warmup);
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
        // The failure counts even if the measurement ends together with it.
        error = ended => Err(error.context("the control plane failed")),
        measured = async {
            sleep(options.warmup()).await;
            measure(options, control_plane, &observations).await
        } => measured,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted: nothing was measured"),
    }
}
