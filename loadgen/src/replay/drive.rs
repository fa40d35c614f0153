//! Drives a replay from its first thread to its last row.

use std::{
    mem,
    sync::Arc,
    thread::{self, JoinHandle},
};

use anyhow::Context;
use record::LoadSummary;
use trace::Schedule;

use crate::{
    http::{
        h2c::H2c,
        http1::{self, Http1, Opened},
        target::{Connections, Protocol, Target},
    },
    machine::{
        clock::Realtime,
        floor::Floor,
        usage::{SpareFiles, process_cpu_us, raise_open_files},
    },
    measure::{
        collector::{Collector, FLUSH, Progress},
        histogram,
        results::Results,
        summary::{Interruption, RunFacts, summarise},
        tally::Tally,
        view::View,
    },
    replay::{
        Replay,
        dispatch::DispatchQueue,
        io_thread::{self, Transport},
        pacer::{Pacer, PacingReport},
        stop::Stop,
    },
};

/// The threads of a replay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resources {
    /// The threads that ask for real-time priority.
    pub(crate) realtime: Realtime,
    /// I/O threads.
    pub(crate) io_threads: usize,
}

/// Bare sleeps before a run, and how many of them per second: 0.2 s in all.
const FLOOR_SLEEPS: u64 = 200;
const FLOOR_RATE_PER_S: u64 = 1000;

/// Replays a schedule, leaves its files in `results` and says how it went. The schedule's notes go into the
/// summary.
///
/// # Errors
/// If a file cannot be written or a thread not be started; never because of the system's responses. The summary on
/// disk then says that the run was interrupted, and by what.
pub(crate) fn drive(
    plan: (Schedule, Target),
    resources: Resources,
    results: &Results,
    stop: &Arc<Stop>,
) -> anyhow::Result<LoadSummary> {
    let mut notes = plan.0.notes.clone();
    let schedule_sha256 = plan.0.checksum();
    let floor = Floor::measure(FLOOR_RATE_PER_S, FLOOR_SLEEPS, resources.realtime.pacing())
        .context("measuring how late this machine wakes")?;
    notes.extend(raise_open_files().filter(|files| *files < MIN_OPEN_FILES).map(|files| {
        format!("only {files} files may be open, so at most that many invocations can be in flight over HTTP/1.1")
    }));
    let spare = SpareFiles::reserve().context("keeping descriptors free for the results")?;
    let opened = http1::open(&plan.1).context("opening connections before the start")?;
    let replay = Arc::new(Replay::new(plan.0, plan.1)?);
    let mut facts = RunFacts {
        schedule_sha256,
        cpu_us: 0,
        wall_us: 0,
        pacing: floor.class.to_string(),
        machine_floor_p99_ns: floor.at(0.99),
        interrupted: Some(Interruption::Unfinished),
        notes,
    };
    results.begin(&summarise(&replay, &mut Tally::new(0), facts.clone()))?;
    let mut collector = Collector::create(&results.invocations(), Arc::clone(&replay))?;
    let cpu_before_us = process_cpu_us();
    let pacing = start(&replay, resources, stop, opened)?;
    let paced = collect(&replay, &mut collector, pacing, stop);
    facts.cpu_us = process_cpu_us().saturating_sub(cpu_before_us);
    facts.wall_us = replay.clock.now_ns() / 1000;
    let interrupted = stop.is_requested() && !collector.is_complete();
    facts.interrupted = interrupted.then_some(Interruption::User);
    let written = paced.and_then(|paced| {
        if paced.is_none() && !interrupted {
            facts.notes.push("the pacing thread failed: this is a fault in the load generator".to_owned());
        }
        facts.pacing = paced.map_or_else(|| mem::take(&mut facts.pacing), |report| report.pacing);
        Ok(collector.close(interrupted)?)
    });
    drop(spare);
    if let Err(error) = &written {
        stop.abort();
        facts.interrupted = Some(Interruption::Failure(format!("rows could not be written: {error:#}")));
    }
    if collector.tally.nothing_succeeded() && !stop.is_requested() {
        facts.notes.extend(replay.target.diagnose());
    }
    let summary = summarise(&replay, &mut collector.tally, facts);
    // First what a reader cannot do without.
    results.finish(&summary)?;
    written.context("the run was given up")?;
    histogram::write(&results.histogram(), &collector.tally.latency_us).context("writing histogram.hgrm")?;
    Ok(summary)
}

/// With fewer files a few thousand invocations in flight would be this machine's limit, which a reader must know.
const MIN_OPEN_FILES: u64 = 4096;

/// Starts the I/O threads, and the one that paces.
fn start(
    replay: &Arc<Replay>,
    resources: Resources,
    stop: &Arc<Stop>,
    mut opened: Vec<Opened>,
) -> anyhow::Result<JoinHandle<PacingReport>> {
    let io_threads: Vec<Arc<DispatchQueue>> = (0..resources.io_threads.max(1)).map(|_| Arc::default()).collect();
    let pooled = replay.target.connections == Connections::Pooled;
    let mut direct = None;
    for (number, queue) in io_threads.iter().enumerate() {
        // Each thread gets an equal part of the open connections.
        let share = opened.len().div_ceil(io_threads.len() - number);
        let opened = opened.split_off(opened.len() - share);
        let transport = match replay.target.protocol {
            // One pool for all I/O threads: the pacing thread must find every idle connection.
            Protocol::Http1 => {
                Transport::Http1(Arc::clone(direct.get_or_insert_with(|| Arc::new(Http1::new(Arc::clone(replay))))))
            }
            Protocol::H2c => Transport::H2c(Arc::new(H2c::new(Arc::clone(replay)))),
        };
        io_thread::start(Arc::clone(queue), transport, opened, resources.realtime.io())
            .context("starting a thread that carries connections")?;
    }
    let pacer = Pacer {
        replay: Arc::clone(replay),
        direct: direct.filter(|_| pooled),
        io_threads,
        stop: Arc::clone(stop),
        priority: resources.realtime.pacing(),
    };
    thread::Builder::new().name("pace".to_owned()).spawn(move || pacer.run()).context("starting the pacing thread")
}

/// Writes rows until the replay is over; what the pacing thread reports, if it got that far.
fn collect(
    replay: &Arc<Replay>,
    collector: &mut Collector,
    pacing: JoinHandle<PacingReport>,
    stop: &Stop,
) -> anyhow::Result<Option<PacingReport>> {
    let mut view = View::new(replay.schedule.invocations.len() as u64);
    let mut progress = Progress { paced_ns: None, stop_requested_ns: None };
    let outcome = loop {
        thread::sleep(FLUSH);
        if let Err(error) = collector.collect() {
            break Err(error);
        }
        let now_ns = replay.clock.now_ns();
        if progress.paced_ns.is_none() && pacing.is_finished() {
            progress.paced_ns = Some(now_ns);
        }
        if progress.stop_requested_ns.is_none() && stop.is_requested() {
            progress.stop_requested_ns = Some(now_ns);
            terminal::note!("stopping: waiting for the responses under way, Ctrl-C again to stop at once");
        }
        view.update(replay, &mut collector.tally);
        if collector.is_over(progress, stop) {
            break Ok(());
        }
    };
    view.finish();
    outcome?;
    let report = if pacing.is_finished() { pacing.join().ok() } else { None };
    Ok(report)
}
