//! The command line.

use std::{path::PathBuf, time::Duration};

use analysis::{ExportTable, FigureName, Palette, ReadError, Run};
use clap::{Args, Parser, Subcommand};
use terminal::FormatOption;

const EXAMPLES: &str = "Examples:
  analysis report artifacts/runs/RUN
  analysis claims artifacts/runs/RUN --format json
  analysis compare artifacts/runs/BEFORE artifacts/runs/AFTER
  analysis figure artifacts/runs/RUN slowdown --output slowdown.svg
  analysis export artifacts/runs/RUN --table functions > functions.csv

A file of a run that cannot be read is a usage error. `compare` ends with 4 if something became
worse; `report` never does, because it writes outcomes down. `report` locks the run, and fails if
another process is writing into it.";

/// Turns the files of a run into statistics, claim outcomes, figures and a page.
#[derive(Debug, Parser)]
#[command(name = "analysis", version = env!("PROGRAM_VERSION"), after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compute the statistics of a run and evaluate the claims; write summary.json, claims.json and report/, and print the
    /// summary.
    #[command(after_help = "Example: analysis report artifacts/runs/RUN")]
    Report {
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        output: FormatOption,
        /// Accept that the process that started this one, such as `repro`, holds the lock of the run's directory. If
        /// nobody holds it, it is taken; if another process holds it, the command fails.
        #[arg(long)]
        under_lock: bool,
    },
    /// Evaluate the claims about a run's experiment and print the outcomes; nothing is written.
    #[command(after_help = "Example: analysis claims artifacts/runs/RUN --format csv")]
    Claims {
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        output: FormatOption,
    },
    /// Compare two runs of an experiment: print the ratio of each statistic with its confidence interval, and whether the
    /// difference is significant. Each run needs five repetitions.
    #[command(after_help = "Example: analysis compare artifacts/runs/BEFORE artifacts/runs/AFTER")]
    Compare {
        /// Directory of the first run.
        before: PathBuf,
        /// Directory of the second run.
        after: PathBuf,
        /// Latency of a penalised failure in both runs [default: the load's time-out by each definition, else 300s].
        #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
        timeout: Option<Duration>,
        #[command(flatten)]
        output: FormatOption,
    },
    /// Draw one figure as SVG.
    #[command(after_help = "Example: analysis figure artifacts/runs/RUN slowdown --output slowdown.svg")]
    Figure {
        #[command(flatten)]
        source: Source,
        /// Name of the figure.
        #[arg(value_enum)]
        name: FigureName,
        /// Colours of the figure.
        #[arg(long, value_name = "PALETTE", value_enum, default_value = "paper")]
        palette: Palette,
        /// File to write instead of standard output.
        #[arg(long, short)]
        output: Option<PathBuf>,
    },
    /// Write a run's data as CSV.
    #[command(after_help = "Example: analysis export artifacts/runs/RUN --table functions > functions.csv")]
    Export {
        #[command(flatten)]
        source: Source,
        /// Table to write.
        #[arg(long, value_enum, default_value = "statistics")]
        table: ExportTable,
        /// File to write instead of standard output.
        #[arg(long, short)]
        output: Option<PathBuf>,
    },
}

/// The run, and values that its files lack.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// Directory of the run, with manifest.json.
    pub(crate) run_dir: PathBuf,
    /// Latency of a penalised failure at every point [default: the load's time-out by the definition, else 300s].
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub(crate) timeout: Option<Duration>,
}

impl Source {
    /// Opens the run.
    pub(crate) fn open(&self) -> Result<Run, ReadError> {
        Run::open(&self.run_dir, self.timeout)
    }
}
