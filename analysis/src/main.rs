//! The program `analysis`: turns the files of a run into statistics, claim outcomes, figures and a page.

mod arguments;
mod destination;
mod locked;

use std::process::ExitCode;

use analysis::{
    ExportError, ReadError, ReportError, Run, RunReport, compare, draw_figure, evaluate_claims, export, print_claims,
    print_comparison, print_summary, write_report,
};
use anyhow::Result;
use arguments::{Arguments, Command};
use clap::ArgMatches;
use destination::write_to;
use locked::locked;
use record::Claims;
use terminal::{Exit, Format, FormatOption, Program, columns};

impl Program for Arguments {
    const EXIT_CODES: &'static [Exit] = &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Invalid, Exit::NotHeld];

    /// A file of the run that cannot be read is for the user to correct.
    fn exit(error: &anyhow::Error) -> Exit {
        let exit = Exit::of(error);
        if exit == Exit::Failed && is_bad_input(error) { Exit::Usage } else { exit }
    }

    fn run(self, _: &ArgMatches) -> Result<Exit> {
        run(self.command)
    }
}

fn main() -> ExitCode {
    terminal::main::<Arguments>()
}

fn run(command: Command) -> Result<Exit> {
    match command {
        Command::Report { source, output: FormatOption { format }, under_lock } => {
            // That it is a run is known before anything is made in the directory; what it holds may change until it is locked.
            source.open()?;
            let _lock = locked(&source.run_dir, under_lock)?;
            let report = write_report(&source.open()?)?;
            let mut text = Vec::new();
            print_summary(&report.summary, format, columns(), &mut text)?;
            print(text, format)?;
            terminal::note!("page: {}", report.page.display());
            return Ok(report_exit_code(&report));
        }
        Command::Figure { source, name, palette, output } => {
            let svg = draw_figure(&source.open()?, name, palette)?;
            write_to(output.as_deref(), |out| Ok(writeln!(out, "{svg}")?))?;
        }
        Command::Export { source, table, output } => {
            let run = source.open()?;
            write_to(output.as_deref(), |out| Ok(export(&run, table, out)?))?;
        }
        Command::Claims { source, output: FormatOption { format } } => {
            let claims = evaluate_claims(&source.open()?)?;
            let mut text = Vec::new();
            print_claims(&claims, format, columns(), &mut text)?;
            print(text, format)?;
            return Ok(claims_exit_code(&claims));
        }
        Command::Compare { before, after, timeout, output: FormatOption { format } } => {
            let compared = compare(&Run::open(&before, timeout)?, &Run::open(&after, timeout)?)?;
            let mut text = Vec::new();
            print_comparison(&compared, format, columns(), &mut text)?;
            print(text, format)?;
            compared.notes.iter().for_each(|note| terminal::note!("{note}"));
            return Ok(if compared.any_worse() { Exit::NotHeld } else { Exit::Done });
        }
    }
    Ok(Exit::Done)
}

/// Prints a result on standard output, without what commands a terminal: it holds texts of the run's files.
fn print(result: Vec<u8>, format: Format) -> Result<()> {
    let result = String::from_utf8(result)?;
    let shown = if format == Format::Json { terminal::visible_json(&result) } else { terminal::visible_lines(&result) };
    Ok(terminal::print(shown)?)
}

fn report_exit_code(report: &RunReport) -> Exit {
    let mut code = Exit::Done;
    for broken in &report.broken {
        terminal::note!("invalid: {broken}");
        code = Exit::Invalid;
    }
    for point in report.summary.points.iter().filter(|point| point.validity.valid == Some(false)) {
        let is_reported = |reason: &&String| report.broken.iter().any(|broken| broken.ends_with(reason.as_str()));
        let reasons: Vec<&str> =
            point.validity.reasons.iter().filter(|reason| !is_reported(reason)).map(String::as_str).collect();
        if !reasons.is_empty() {
            let reasons = reasons.join("; ");
            terminal::note!("invalid: {}, {}, repetition {}: {reasons}", point.system, point.point, point.repetition);
        }
        code = Exit::Invalid;
    }
    code
}

/// Exit code of evaluated claims: invalid before not held.
fn claims_exit_code(claims: &Claims) -> Exit {
    if claims.claims.iter().any(|claim| claim.outcome == record::ClaimOutcome::Invalid) {
        Exit::Invalid
    } else if claims.all_evaluated_hold() {
        Exit::Done
    } else {
        Exit::NotHeld
    }
}

/// Returns true if a file of the run is the cause.
fn is_bad_input(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<ReadError>()
            || matches!(cause.downcast_ref(), Some(ReportError::Read(_)))
            || matches!(cause.downcast_ref(), Some(ExportError::Read(_) | ExportError::NoRates))
    })
}
