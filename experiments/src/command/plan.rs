//! `plan`: every step of an experiment and what it costs, without running anything.

use clap::Args;
use terminal::{Format, FormatOption, Table};

use super::Selection;
use crate::{
    checkout::Checkout,
    exit::Exit,
    run::{replayable, resolved::PlannedExperiment},
};

/// Arguments of the subcommand.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  repro plan azure-500 --quick\n  repro plan cold-start-sweep --rates 1000,4000 --seconds 60"
)]
pub struct Arguments {
    #[command(flatten)]
    selection: Selection,

    #[command(flatten)]
    output: FormatOption,
}

/// Prints the plan.
///
/// # Errors
/// If the experiment or a system is unknown or wrong.
pub fn run(arguments: &Arguments, checkout: &Checkout) -> anyhow::Result<Exit> {
    let PlannedExperiment { experiment, plan } = arguments.selection.planned(checkout)?;
    replayable::check(&experiment.points)?;
    if arguments.output.format == Format::Table {
        terminal::print(experiment.plan_text(&plan))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(["step", "action", "estimate_s"]);
    for (index, step) in plan.steps.iter().enumerate() {
        table.row([(index + 1).to_string(), step.action.describe(), step.estimate_s.to_string()]);
    }
    table.print(arguments.output.format)?;
    Ok(Exit::Done)
}
