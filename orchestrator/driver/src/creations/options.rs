//! What `driver creations` is told, and the numbers that follow from it.

use std::time::Duration;

use anyhow::ensure;
use clap::Args;

/// Functions' names are this and a number.
pub(crate) const NAME_PREFIX: &str = "f";
/// How long a data plane keeps an idle sandbox. The shortest that is allowed, so that functions are soon cold again.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// From the end of the keep-alive until the sandbox is surely gone: samples come each second, and so do questions.
const DELETION: Duration = Duration::from_secs(4);

/// What `driver creations` is told.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: driver creations --nodes 5000 --rate 10000 --seconds 20")]
pub(crate) struct Options {
    /// Nodes in the cluster
    #[arg(long, default_value_t = 5000)]
    pub(crate) nodes: u32,

    /// Nodes that share one worker's stream; 1: each has its own connections, as on real machines
    #[arg(long, default_value_t = 1)]
    pub(crate) nodes_per_worker: u32,

    /// Data planes; each has its share of the functions
    #[arg(long, default_value_t = 1)]
    pub(crate) data_planes: u32,

    /// Creations asked for per second, over all data planes
    #[arg(long, default_value_t = 10_000.0)]
    pub(crate) rate: f64,

    /// Length of the measured part, in seconds
    #[arg(long, default_value_t = 20)]
    pub(crate) seconds: u64,

    /// Load before the measured part, in seconds; deletions begin within it
    #[arg(long, default_value_t = 6)]
    pub(crate) warmup: u64,

    /// Functions that are registered and never invoked, besides those that are
    #[arg(long, default_value_t = 0)]
    pub(crate) idle_functions: u32,

    /// How long nodes take to make a sandbox
    #[arg(long, default_value = "0ms", value_parser = humantime::parse_duration)]
    pub(crate) delay: Duration,

    /// Threads of the driver itself
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,

    /// Do without coldstarts.csv, and so without phases
    #[arg(long)]
    pub(crate) no_record: bool,
}

impl Options {
    /// # Errors
    /// When a number is out of bounds.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!(self.nodes >= 1 && self.nodes_per_worker >= 1, "--nodes and --nodes-per-worker must be at least 1");
        ensure!(self.data_planes >= 1, "--data-planes must be at least 1");
        ensure!(self.rate > 0.0 && self.rate <= 1e6, "--rate must be above 0 and at most 1000000");
        ensure!(self.seconds >= 1, "--seconds must be at least 1");
        ensure!(self.threads >= 1, "--threads must be at least 1");
        Ok(())
    }

    /// Workers that serve the nodes.
    pub(crate) fn workers(&self) -> u32 {
        self.nodes.div_ceil(self.nodes_per_worker)
    }

    /// Functions called in turn: enough that each is cold again when its turn comes.
    pub(crate) fn functions(&self) -> u32 {
        let cycle = KEEP_ALIVE + DELETION + self.delay;
        // Bounded by the check of the rate.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and some 10^7")]
        let functions = (self.rate * cycle.as_secs_f64()).ceil() as u32;
        functions.max(self.data_planes)
    }

    /// Load before the measured part.
    pub(crate) fn warmup(&self) -> Duration {
        Duration::from_secs(self.warmup)
    }

    /// Name of a function: those that are invoked come first.
    pub(crate) fn function_name(number: u32) -> String {
        format!("{NAME_PREFIX}{number}")
    }
}
