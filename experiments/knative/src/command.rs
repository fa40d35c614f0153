//! The command line: build, version, start, register, remove.

use std::{future::Future, os::unix::process::CommandExt, path::PathBuf, str::FromStr, time::Duration};

use anyhow::{Context, bail};
use clap::{ArgAction, ArgMatches, Args, Parser, Subcommand};
use terminal::{Exit, Program, UsageError};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    api,
    cache::Cache,
    compile,
    credentials::{Credentials, Identity},
    launch::{self, LaunchArguments},
    network::Network,
    objects::manifests::Windows,
    pods,
    prepared::{Facts, Prepared},
    register,
    testbed::{Settings, Testbed},
    variant::Variant,
    versions,
};

/// Poll interval of the running components.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Enters namespaces of its own, and is root in them; what is started ends with it.
macro_rules! unshare {
    () => {
        "unshare --user --map-root-user --mount --pid --net --fork --kill-child --mount-proc"
    };
}

/// The real Kubernetes and Knative control plane on one machine, with hollow nodes
#[derive(Parser, Debug)]
#[command(
    version = env!("PROGRAM_VERSION"),
    after_help = concat!(
        "Example, in a private namespace:\n  knative build\n  ",
        unshare!(),
        " \\\n    knative start --folder /tmp/testbed"
    )
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Download the Go modules and build everything into the cache, unless it is there
    Build(Build),
    /// Print the versions that are built and, where they are, a sum over the built programs
    Version,
    /// Start a testbed and keep it until a signal; needs a private mount, pid and network namespace
    Start(Start),
    /// Start a testbed, register the functions of a file, end it, and keep what later ones may begin from; needs private
    /// namespaces as `start` does
    Prepare(Prepare),
    /// Register the functions of a file and wait until each is ready
    Register(Register),
    /// Remove every function that was registered here
    Remove(At),
    /// Ask Knative's own autoscaler what it desires: a series of samples and ticks as JSON on standard input
    Kpa(Build),
    #[command(hide = true)]
    Launch(LaunchArguments),
    #[command(hide = true)]
    Pods(Pods),
}

#[derive(Args, Debug)]
struct Build {
    /// Folder of built programs [default: dirigent-baseline in your cache folder]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

/// Options of every testbed.
#[derive(Args, Debug)]
struct TestbedOptions {
    /// Folder of built programs [default: dirigent-baseline in your cache folder]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Folder of all files of the testbed, on a disk with durable writes
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
    /// Hollow nodes
    #[arg(long, default_value_t = 10)]
    nodes: u32,
    /// Windows of the autoscaler: released, or stable window, grace and retention as 6s,1s,1s
    #[arg(long, default_value = "released")]
    windows: ChosenWindows,
}

#[derive(Args, Debug)]
struct Start {
    #[command(flatten)]
    form: TestbedOptions,
    /// The form of it
    #[arg(long, value_enum, default_value_t = Variant::Stock)]
    variant: Variant,
    /// Workers of each controller, of the tuned form: released, or a number
    #[arg(long, default_value = "released")]
    workers: ChosenWorkers,
    /// Modelled delay of a sandbox's creation
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = humantime::parse_duration)]
    delay: Duration,
    /// Mode of the functions: sleep or spin
    #[arg(long, default_value = "sleep")]
    mode: hollow::Mode,
    /// Begin from what `prepare` kept here, with the same nodes and windows
    #[arg(long, value_name = "DIR")]
    prepared: Option<PathBuf>,
    /// Record every request to the API server and every change in the store, in actions.csv; costs CPU
    #[arg(long, value_name = "true|false", action = ArgAction::Set, default_value_t = false)]
    anatomy: bool,
}

#[derive(Args, Debug)]
struct Prepare {
    #[command(flatten)]
    form: TestbedOptions,
    /// The functions, one JSON object a line
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Folder of the prepared state that later testbeds start from
    #[arg(long, value_name = "DIR")]
    keep: PathBuf,
}

/// Workers as typed.
#[derive(Clone, Debug)]
struct ChosenWorkers(Option<u32>);

impl FromStr for ChosenWorkers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("released", _) => Ok(Self(None)),
            (_, Ok(number)) if number > 0 => Ok(Self(Some(number))),
            _ => Err("expected released or a number from 1".to_owned()),
        }
    }
}

/// Windows as typed.
#[derive(Clone, Debug)]
struct ChosenWindows(Option<Windows>);

impl FromStr for ChosenWindows {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "released" {
            return Ok(Self(None));
        }
        match text.split(',').map(str::trim).collect::<Vec<_>>()[..] {
            [stable, grace, retention] => {
                let [stable, grace, retention] = [stable, grace, retention].map(str::to_owned);
                Ok(Self(Some(Windows { stable, grace, retention })))
            }
            _ => Err(format!("{text:?}: expected released, or three durations such as 6s,1s,1s")),
        }
    }
}

#[derive(Args, Debug)]
struct At {
    /// Folder of the running testbed
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
}

#[derive(Args, Debug)]
struct Register {
    #[command(flatten)]
    at: At,
    /// The functions, one JSON object a line
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
}

#[derive(Args, Debug)]
struct Pods {
    #[arg(long)]
    credentials: PathBuf,
    #[arg(long)]
    folder: PathBuf,
    #[arg(long)]
    mode: hollow::Mode,
}

impl Program for Cli {
    fn run(self, _: &ArgMatches) -> anyhow::Result<Exit> {
        run(self.command).map(|()| Exit::Done)
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Build(build) => compile::build(&Cache::new(build.cache)?).map(drop),
        Command::Version => {
            // Without a place for it nothing was built.
            let line = Cache::new(None).map_or_else(|_| Ok(versions::line()), |cache| cache.built().version())?;
            Ok(terminal::print(format!("{line}\n"))?)
        }
        Command::Start(start) => on_this_thread(run_testbed(start)),
        Command::Prepare(arguments) => on_this_thread(prepare(arguments)),
        Command::Register(arguments) => on_this_thread(async move {
            let credentials = Credentials::in_folder(&arguments.at.folder.join("credentials"));
            let client = api::client(&credentials, Identity::Admin)?;
            register::register(&client, &arguments.from).await.map(drop)
        }),
        Command::Remove(at) => on_this_thread(async move {
            let client = api::client(&Credentials::in_folder(&at.folder.join("credentials")), Identity::Admin)?;
            let removed = register::remove(&client).await?;
            terminal::note!("{removed} functions removed");
            Ok(())
        }),
        Command::Kpa(at) => {
            let built = Cache::new(at.cache)?.built();
            built.require()?;
            let program = built.program("kpa");
            Err(std::process::Command::new(&program).exec()).with_context(|| format!("starting {}", program.display()))
        }
        Command::Launch(arguments) => launch::become_part(&arguments),
        Command::Pods(arguments) => on_this_thread(async move {
            let client = api::client(&Credentials::in_folder(&arguments.credentials), Identity::Nodes)?;
            pods::serve(client, &arguments.folder, arguments.mode).await
        }),
    }
}

/// Runs a future on this thread: children are tied to the thread that started them, which must live as long as they.
fn on_this_thread(task: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(task)
}

impl TestbedOptions {
    fn settings(self) -> anyhow::Result<Settings> {
        std::fs::create_dir_all(&self.folder).with_context(|| format!("creating {}", self.folder.display()))?;
        Ok(Settings {
            built: Cache::new(self.cache)?.built(),
            variant: Variant::Stock,
            workers: None,
            folder: self.folder.canonicalize()?,
            nodes: self.nodes,
            delay: Duration::ZERO,
            windows: self.windows.0,
            mode: hollow::Mode::Sleep,
            prepared: None,
            anatomy: false,
        })
    }
}

/// Signals that end a program: SIGTERM and Ctrl-C.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listening to signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn come(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Refuses a network that is not this program's alone: the testbed's bridge, routes and API server would be in the
/// machine's own, and would stay there when it is killed.
async fn require_own_network() -> anyhow::Result<()> {
    let links = Network::here()?.links_to_others().await?;
    if links.is_empty() {
        return Ok(());
    }
    let typed: Vec<String> = std::env::args_os().map(|word| quoted(&word.to_string_lossy())).collect();
    let again = [unshare!(), &typed.join(" ")].join(" ");
    bail!("a testbed needs a network namespace of its own, and this one has {}: {again}", links.join(", "))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=:,+@%".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Starts a testbed and keeps it until it is told to end or a part ends by itself.
async fn run_testbed(start: Start) -> anyhow::Result<()> {
    if let (Variant::Stock, ChosenWorkers(Some(_))) = (start.variant, &start.workers) {
        bail!(UsageError("the stock form has the released workers: with --workers comes --variant tuned".to_owned()));
    }
    require_own_network().await?;
    let settings = Settings {
        variant: start.variant,
        workers: start.workers.0,
        delay: start.delay,
        mode: start.mode,
        prepared: start.prepared.as_deref().map(Prepared::in_folder),
        anatomy: start.anatomy,
        ..start.form.settings()?
    };
    let mut signals = Signals::listen()?;
    let mut testbed = tokio::select! {
        started = Testbed::start(&settings) => started?,
        () = signals.come() => return Ok(()),
    };
    testbed.announce()?;
    terminal::note!("ready: {}, {}", versions::line(), settings.variant);
    let mut poll = tokio::time::interval(POLL_INTERVAL);
    loop {
        tokio::select! {
            () = signals.come() => break,
            _ = poll.tick() => testbed.check()?,
        }
    }
    testbed.stop().await
}

/// Registers functions in a testbed whose limits are lifted: what is registered does not depend on them, only how long it
/// takes.
async fn prepare(arguments: Prepare) -> anyhow::Result<()> {
    require_own_network().await?;
    let settings = Settings { variant: Variant::Tuned, ..arguments.form.settings()? };
    let mut signals = Signals::listen()?;
    let kept = async {
        let testbed = Testbed::start(&settings).await?;
        let functions = register::register(testbed.client(), &arguments.from).await?;
        let facts = Facts::new(settings.config_maps(), settings.nodes, functions);
        testbed.stop_keeping(&Prepared::in_folder(&arguments.keep), &facts).await
    };
    tokio::select! {
        kept = kept => kept,
        () = signals.come() => bail!("interrupted: nothing was kept"),
    }
}

#[cfg(test)]
mod tests;
