//! `loadgen run`: replays a schedule against a system and leaves rows, summary and histogram.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Args;
use record::LoadSummary;
use serde::Serialize;
use terminal::{Exit, FormatOption, UsageError, print_result};

use crate::{
    command::OUTPUT,
    deployer::{DeployError, Deployer},
    functions,
    http::target::{Connections, Protocol, Spread, Target, resolve_all},
    machine::clock::Realtime,
    measure::{results::Results, summary},
    replay::{
        drive::{Resources, drive},
        stop::Stop,
    },
    source::SourceArgs,
    target_profile::{Registration, TargetProfile, options::TargetProfileArgs},
};

/// Arguments of `loadgen run`.
#[derive(Args, Debug, Serialize)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    machine: MachineArgs,
    /// The directory to leave invocations.csv.zst, loadgen.json and histogram.hgrm in; made if it is not there
    #[arg(long, value_name = "DIR", help_heading = OUTPUT)]
    out: PathBuf,
    /// Remove the files of an earlier run from --out first; without it such a directory is refused
    #[arg(long, help_heading = OUTPUT)]
    overwrite: bool,
    #[command(flatten, next_help_heading = OUTPUT)]
    #[serde(flatten)]
    output: FormatOption,
    /// Print the effective options as TOML and do nothing
    #[arg(long, help_heading = OUTPUT)]
    #[serde(skip)]
    print_config: bool,
}

/// The system.
#[derive(Args, Debug, Serialize)]
#[command(next_help_heading = "Target")]
struct TargetArgs {
    #[command(flatten)]
    #[serde(flatten)]
    profile: TargetProfileArgs,
    /// Address for invocations; several, and all of a name that has several, are used as --spread says. Of a name
    /// with IPv4 and IPv6 addresses those of IPv4, unless only IPv6 accepts connections
    #[arg(long, value_name = "HOST:PORT", required = true, value_delimiter = ',')]
    address: Vec<String>,
    /// The protocol
    #[arg(long, value_enum, default_value = "http1")]
    protocol: Protocol,
    /// Use of connections: kept, or one for each invocation
    #[arg(long, value_enum, default_value = "pooled")]
    connections: Connections,
    /// Connections to open before the first invocation is due and to use round-robin, further ones on demand; without, each
    /// is opened when none is idle, and the last one used is used first. Of pooled connections over http1
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=MAX_OPEN_CONNECTIONS))]
    open_connections: u32,
    /// Spread of invocations over the addresses, if there are several
    #[arg(long, value_enum, default_value = "round-robin")]
    spread: Spread,
    /// Time-out of an invocation, from when it was sent
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    timeout: Duration,
    /// Register the functions at this control plane first, by the interface of the system. With the one of this project,
    /// wait until every data plane knows them, and remove those this created at the end
    #[arg(long, value_name = "URL")]
    register: Option<String>,
    /// Image of the functions that --register registers [default: as the target says]
    #[arg(long, requires = "register")]
    image: Option<String>,
    /// File with the token of the control plane that --register names, which it leaves in its data directory; not needed
    /// where the control plane runs with --no-auth
    #[arg(long, value_name = "FILE", requires = "register")]
    token_file: Option<PathBuf>,
}

/// This machine.
#[derive(Args, Debug, Serialize)]
#[command(next_help_heading = "This machine")]
struct MachineArgs {
    /// Threads that ask for real-time priority; what was granted is in the summary
    #[arg(long, value_enum, default_value = "all")]
    realtime: Realtime,
    /// I/O threads, in addition to the one that paces
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=MAX_IO_THREADS))]
    threads: u16,
}

/// More threads than this cannot help one pacing thread.
const MAX_IO_THREADS: i64 = 64;

/// More idle connections than this would use up the descriptors that invocations in flight need.
const MAX_OPEN_CONNECTIONS: i64 = 10_000;

/// Replays.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    // Also before printing: options that would be refused are not effective ones.
    let target = target(&args.target)?;
    if args.print_config {
        crate::command::print(&toml::to_string(args)?)?;
        return Ok(Exit::Done);
    }
    let loaded = args.source.load_to_send()?;
    let deployer = args.target.deployer(&target.profile)?;
    // Before anything is registered or sent: a directory that cannot be used must cost nothing.
    let results = Results::create(&args.out, args.overwrite)?;
    let stop = Stop::listen().context("listening for Ctrl-C")?;
    let resources = Resources { realtime: args.machine.realtime, io_threads: usize::from(args.machine.threads) };
    let created = match &deployer {
        Some(deployer) => {
            register(deployer, &loaded.schedule, args.target.image.as_deref().unwrap_or(&target.profile.image), &stop)?
        }
        None => Vec::new(),
    };
    let driven = drive((loaded.schedule, target), resources, &results, &stop);
    let removed = deployer.map_or(Ok(()), |deployer| deployer.remove(&created));
    let summary = driven?;
    print_result(args.output.format, &summary, summary::table)?;
    removed.context("the run is complete, but cleaning up after it failed")?;
    Ok(exit(&summary))
}

fn exit(summary: &LoadSummary) -> Exit {
    if summary.interrupted {
        Exit::Failed
    } else if summary.valid {
        Exit::Done
    } else {
        Exit::Invalid
    }
}

impl TargetArgs {
    /// The deployer of the functions, if they are to be registered.
    fn deployer(&self, profile: &TargetProfile) -> anyhow::Result<Option<Deployer>> {
        let Some(control_plane) = &self.register else { return Ok(None) };
        let usage = |problem: String| Err(UsageError::of(anyhow::anyhow!(problem)));
        match profile.register {
            Registration::None => {
                let name = &profile.name;
                return usage(format!("--register: functions of the target {name:?} are registered by other means"));
            }
            Registration::Form if self.token_file.is_some() => {
                return usage(
                    "--token-file: the form that registers functions of this target takes no token".to_owned(),
                );
            }
            Registration::Form | Registration::Json => {}
        }
        let deployer = Deployer::new("--register", control_plane, profile.register == Registration::Form)?;
        deployer.with_token_file(self.token_file.as_deref()).map(Some)
    }
}

fn target(args: &TargetArgs) -> anyhow::Result<Target> {
    let addresses: anyhow::Result<Vec<_>> = args.address.iter().map(|address| resolve_all(address)).collect();
    let addresses = addresses.context("--address");
    let (profile, headers) = args.profile.resolve()?;
    if args.timeout.is_zero() {
        return Err(UsageError::of(anyhow::anyhow!("--timeout: expected more than 0, found 0s")));
    }
    if args.open_connections > 0 && (args.protocol, args.connections) != (Protocol::Http1, Connections::Pooled) {
        let problem = "--open-connections applies to pooled connections over http1 only (--connections, --protocol)";
        return Err(UsageError::of(anyhow::anyhow!(problem)));
    }
    Ok(Target {
        addresses: addresses.map_err(UsageError::of)?.concat(),
        first_address: args.address.first().cloned().unwrap_or_default(),
        profile,
        protocol: args.protocol,
        connections: args.connections,
        open: args.open_connections,
        spread: args.spread,
        headers,
        timeout: args.timeout,
    })
}

/// Registers the functions of a schedule; removes again what was created when that fails half-way.
fn register(deployer: &Deployer, schedule: &trace::Schedule, image: &str, stop: &Stop) -> anyhow::Result<Vec<String>> {
    let functions = functions::of_schedule(schedule, image);
    deployer.register(&functions, stop).map_err(|error: DeployError| {
        let removed = deployer.remove(&error.created);
        let error = anyhow::Error::new(error);
        match removed {
            Ok(()) => error,
            Err(left) => error.context(left.to_string()),
        }
    })
}
