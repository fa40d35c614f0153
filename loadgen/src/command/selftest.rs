//! `loadgen selftest`: how precisely this machine sleeps and sends, before any system is blamed for it.

use std::{fs, path::PathBuf, process, time::Duration};

use anyhow::Context;
use clap::Args;
use record::{LagSummary, LoadSummary, Outcome};
use serde::Serialize;
use terminal::{Exit, FormatOption, Table, UsageError, columns, print_result};
use trace::rate::{self, RateOptions};

use crate::{
    http::target::{Connections, Protocol, Spread, Target},
    machine::{
        clock::{NANOS_PER_SECOND, Realtime, clock_source},
        floor::Floor,
    },
    measure::{results::Results, summary::time},
    mock::Mock,
    replay::{
        drive::{Resources, drive},
        stop::Stop,
    },
    target_profile::{DEFAULT_TARGET, TargetProfiles},
};

/// Arguments of `loadgen selftest`.
#[derive(Args, Debug, Serialize)]
pub(crate) struct SelftestArgs {
    /// Sleeps and invocations per second
    #[arg(long, value_name = "PER_SECOND", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// Duration of the sleeps, and of the invocations after them
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    duration: Duration,
    /// The protocol to send with
    #[arg(long, value_enum, default_value = "http1")]
    protocol: Protocol,
    /// Use of connections: kept, or one for each invocation
    #[arg(long, value_enum, default_value = "pooled")]
    connections: Connections,
    /// Threads that ask for real-time priority
    #[arg(long, value_enum, default_value = "all")]
    realtime: Realtime,
    #[command(flatten)]
    #[serde(flatten)]
    output: FormatOption,
}

/// The result of the test.
#[derive(Debug, Serialize)]
struct Precision {
    rate_per_s: u64,
    pacing: String,
    clock: &'static str,
    /// Delay of the ends of bare sleeps, in nanoseconds.
    sleep: LagSummary,
    /// CPU time of one bare sleep and wake, in nanoseconds; an invocation needs two wakes.
    cpu_per_sleep_ns: u64,
    /// Lag of invocations of a server in this process.
    send: LagSummary,
    /// CPU time of the generator per invocation, that server's not counted, in nanoseconds.
    cpu_per_invocation_ns: u64,
    answered: u64,
    valid: bool,
    notes: Vec<String>,
}

/// Time-out of an invocation of the server in this process.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Sleeps, then sends.
pub(crate) fn run(args: &SelftestArgs) -> anyhow::Result<Exit> {
    let sleeps = u64::try_from(args.duration.as_nanos()).unwrap_or(u64::MAX) / (NANOS_PER_SECOND / args.rate);
    let floor = Floor::measure(args.rate, sleeps, args.realtime.pacing()).context("starting a thread")?;
    let stop = Stop::listen().context("listening for Ctrl-C")?;
    let mock = Mock::start().context("starting a server to send to")?;
    let rate_per_s = f64::from(u32::try_from(args.rate).unwrap_or(u32::MAX));
    let options = RateOptions { rate_per_s, duration: args.duration, run_us: 0, ..RateOptions::default() };
    let schedule = rate::warm(&options).map_err(UsageError::of)?;
    let target = Target {
        addresses: vec![mock.address],
        first_address: mock.address.to_string(),
        profile: TargetProfiles::load(None)?.get(DEFAULT_TARGET).map_err(anyhow::Error::msg)?.clone(),
        protocol: args.protocol,
        connections: args.connections,
        open: 0,
        spread: Spread::RoundRobin,
        headers: Vec::new(),
        timeout: TIMEOUT,
    };
    let out = Scratch::new();
    let results = Results::create(&out.0, true)?;
    let mock_before_us = mock.cpu_us();
    let resources = Resources { realtime: args.realtime, io_threads: 1 };
    let summary = drive((schedule, target), resources, &results, &stop)?;
    let cpu_us = summary.cpu_us.saturating_sub(mock.cpu_us() - mock_before_us);
    let precision = Precision {
        rate_per_s: args.rate,
        pacing: floor.class.to_string(),
        clock: clock_source(),
        sleep: LagSummary { p50_ns: floor.at(0.5), p99_ns: floor.at(0.99), max_ns: floor.at(1.0) },
        cpu_per_sleep_ns: floor.cpu_per_sleep_ns,
        send: summary.lag,
        cpu_per_invocation_ns: cpu_us.saturating_mul(1000).checked_div(summary.sent).unwrap_or(0),
        answered: answered(&summary),
        valid: summary.valid,
        notes: summary.notes,
    };
    print_result(args.output.format, &precision, table)?;
    Ok(if precision.valid { Exit::Done } else { Exit::Invalid })
}

fn answered(summary: &LoadSummary) -> u64 {
    summary.outcomes.get(&Outcome::Ok).copied().unwrap_or(0)
}

fn table(precision: &Precision) -> String {
    let mut table = Table::new(["at this rate", "p50", "p99", "max"]).align_right(1..4);
    for (name, LagSummary { p50_ns, p99_ns, max_ns }) in
        [("a bare sleep ends late by", precision.sleep), ("an invocation is sent late by", precision.send)]
    {
        table.row([name, &time(p50_ns), &time(p99_ns), &time(max_ns)]);
    }
    let notes: String = precision.notes.iter().map(|note| format!("{note}\n")).collect();
    format!(
        "{}{} per second; {}; clock {}; {} answered\nCPU: {} per bare sleep, {} per invocation (two wakes)\n{notes}",
        table.text(columns()),
        precision.rate_per_s,
        precision.pacing,
        precision.clock,
        precision.answered,
        time(precision.cpu_per_sleep_ns),
        time(precision.cpu_per_invocation_ns)
    )
}

/// A directory for rows that nobody needs; removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("loadgen-selftest-{}", process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left in the temporary directory, where the system clears up.
        let _ = fs::remove_dir_all(&self.0);
    }
}
