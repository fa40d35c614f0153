//! The options of `driver creations`, and the numbers that follow from them.

use std::time::Duration;

use anyhow::ensure;
use clap::Args;

/// Prefix of the functions' names; a number follows.
pub(crate) const NAME_PREFIX: &str = "f";
/// Keep-alive of idle sandboxes. The shortest that is allowed, so that functions are soon cold again.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Longest time from the end of the keep-alive to the end of the sandbox: samples and revocations are sent once a
/// second.
const DELETION: Duration = Duration::from_secs(4);

/// The options of `driver creations`.
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

    /// Creations requested per second, over all data planes
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

    /// Time that the creation of a sandbox takes
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
    /// If a number is out of bounds.
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

    /// Functions that are invoked round-robin: so many that each is cold again at its next invocation.
    pub(crate) fn functions(&self) -> u32 {
        let cycle = KEEP_ALIVE + DELETION + self.delay;
        // Bounded by the check of the rate.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and some 10^7")]
        let functions = (self.rate * cycle.as_secs_f64()).ceil() as u32;
        // One for each data plane at least.
        functions.max(self.data_planes)
    }

    /// Load before the measured part.
    pub(crate) fn warmup(&self) -> Duration {
        Duration::from_secs(self.warmup)
    }

    /// Name of a function. The invoked ones have the lowest numbers.
    pub(crate) fn function_name(number: u32) -> String {
        format!("{NAME_PREFIX}{number}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use clap::Parser;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        options: Options,
    }

    fn options(arguments: &[&str]) -> Options {
        CommandLine::parse_from([&["creations"], arguments].concat()).options
    }

    #[test]
    fn numbers_out_of_bounds_are_refused_with_their_option() {
        assert!(options(&[]).check().is_ok());
        for (option, values) in [
            ("--nodes", &["0"][..]),
            ("--nodes-per-worker", &["0"]),
            ("--data-planes", &["0"]),
            ("--rate", &["0", "-1", "1000001", "NaN"]),
            ("--seconds", &["0"]),
            ("--threads", &["0"]),
        ] {
            for value in values {
                let refused = options(&[&format!("{option}={value}")]).check();
                assert!(refused.is_err_and(|error| error.to_string().contains(option)), "{option} {value}");
            }
        }
    }

    #[test]
    fn the_last_worker_has_the_remaining_nodes() {
        let workers = |nodes, each| options(&["--nodes", nodes, "--nodes-per-worker", each]).workers();
        assert_eq!((workers("5", "2"), workers("4", "2"), workers("1", "100")), (3, 2, 1));
    }

    #[test]
    fn there_are_functions_for_a_whole_cycle_of_keep_alive_deletion_and_creation() {
        let functions = |rate, delay| options(&["--rate", rate, "--delay", delay]).functions();
        assert_eq!(functions("100", "0ms"), 500, "a function is cold again after 5 s");
        assert_eq!(functions("100", "1s"), 600);
        assert_eq!(functions("0.1", "0ms"), 1);
        assert_eq!(options(&["--rate", "0.1", "--data-planes", "3"]).functions(), 3, "each data plane has one");
    }
}
