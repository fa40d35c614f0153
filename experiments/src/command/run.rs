//! `run`: measure, check and report an experiment, or resume a run that was stopped.

use std::{
    collections::BTreeMap,
    fmt::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf, absolute},
};

use anyhow::Context;
use clap::Args;
use record::{DirectoryLock, FailedRepetition, RunDir};
use terminal::Format;

use super::Selection;
use crate::{
    checkout::Checkout,
    claims,
    exit::{self, Exit, Interrupted, WouldDiscard},
    isolation,
    run::{
        Run,
        plan::Plan,
        programs::{Origin, Programs},
        replayable,
        resolved::PlannedExperiment,
    },
    session::Session,
    system::{System, Systems, needs},
    verify,
};

/// Arguments of the subcommand.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  repro run azure-500 --trace DIR --minutes 30\n  repro run warm-sweep --points one-connection"
)]
pub struct Arguments {
    #[command(flatten)]
    selection: Selection,

    /// Directory of the run, instead of artifacts/runs/TIME-SCALE-EXPERIMENT
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,

    /// Resume a run. Finished repetitions and recorded system failures are kept if nothing they depend on has changed;
    /// all others are measured
    #[arg(long, value_name = "DIR", conflicts_with_all = ["experiment", "scale", "Overrides"])]
    resume: Option<PathBuf>,

    /// With --resume: measure finished repetitions again whose programs, settings or machine have changed. Without this
    /// option such a run is refused. Old rows are kept in REPETITION.replaced until new ones replace them
    #[arg(long, requires = "resume")]
    again: bool,

    /// Folder of programs built from this checkout; they are used instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,

    /// Set in the isolated process: the context from the process outside.
    #[arg(skip)]
    isolated: Option<Inside>,

    /// Print the effective settings of all points as TOML and exit
    #[arg(long)]
    print_config: bool,
}

/// Context that the process outside passes to the isolated one.
#[derive(Clone, Debug)]
pub(super) struct Inside {
    /// The folder of built programs.
    pub(super) programs: PathBuf,
    /// The reasons why programs of systems were not built, by system.
    pub(super) unbuilt: BTreeMap<String, String>,
    /// Process id of the outermost process, as the user knows it.
    pub(super) runner: u32,
}

impl Inside {
    /// Origin of the programs inside.
    fn origin(&self) -> Origin<'_> {
        Origin::Done(&self.programs, &self.unbuilt)
    }
}

impl Arguments {
    /// The main experiment on this machine.
    pub(super) fn main(quick: bool) -> Self {
        Self {
            selection: Selection::main(quick),
            out: None,
            resume: None,
            again: false,
            programs: None,
            isolated: None,
            print_config: false,
        }
    }

    /// Refuses what can be known to be wrong before anything is built or a directory is made.
    fn check(&self, planned: &PlannedExperiment, checkout: &Checkout) -> anyhow::Result<()> {
        if self.resume.is_none() {
            replayable::check(&planned.experiment.points)?;
            Run::check_place(checkout, planned, self.out.as_deref())?;
        }
        match &self.programs {
            Some(folder) => Ok(Programs::check_folder(folder, &planned.experiment.systems)?),
            None => Ok(()),
        }
    }

    /// The same inside a private namespace, if this process is.
    pub(super) fn inside(self, isolated: Option<Inside>) -> Self {
        Self { isolated, ..self }
    }
}

/// Runs an experiment.
///
/// # Errors
/// If a step fails that is no measurement, or the user stops it: what was measured is kept.
pub fn run(arguments: &Arguments, checkout: &Checkout) -> anyhow::Result<Exit> {
    let planned = match &arguments.resume {
        None => arguments.selection.planned(checkout)?,
        Some(dir) => planned_of(dir, checkout)?,
    };
    if arguments.print_config {
        terminal::print(planned.experiment.to_toml())?;
        return Ok(Exit::Done);
    }
    if arguments.isolated.is_none() {
        arguments.check(&planned, checkout)?;
    }
    let mut session = super::session()?;
    if let Some(inside) = &arguments.isolated {
        session.process = inside.runner;
    }
    let resumed = arguments.resume.as_deref().map(|dir| resumed(dir, &session)).transpose()?;
    // A system that cannot run here needs no isolation: its step gives the reason.
    let needs_it = |system: &System| system.isolated && needs::missing(system).is_empty();
    if arguments.isolated.is_none() && planned.experiment.systems.iter().any(|known| needs_it(&known.system)) {
        return isolate(arguments, checkout, (&planned, resumed), &session);
    }
    let mut run = match resumed {
        None => Run::begin(&session, checkout, planned, arguments.out.as_deref())?,
        Some(resumed) => Run::resume(&session, checkout, planned, resumed, arguments.again)?,
    };
    if arguments.isolated.is_some() {
        run.state.note(isolation::PLACE)?;
    }
    session.console.line(run.plan_text().trim_end());
    session.console.line(&format!("everything is left in {}", run.state.dir().0.display()));
    run.state.take_programs_from(programs_of(arguments).as_deref())?;
    let typed = || Origin::typed(arguments.programs.as_deref());
    let programs = arguments.isolated.as_ref().map_or_else(typed, Inside::origin);
    // Processes were stopped while a panic unwound; only the manifest does not show the failure yet.
    let executed = catch_unwind(AssertUnwindSafe(|| run.execute(programs))).unwrap_or_else(|_| {
        run.state.mark_failed("the runner itself failed")?;
        Err(anyhow::anyhow!("the runner itself failed"))
    });
    match executed {
        Ok(()) => check(&session, &run, &resume_command(arguments, checkout, &run)),
        Err(error) => {
            session.console.line(&what_next(&error, arguments, checkout, &run)?);
            Err(error)
        }
    }
}

/// The directory of an earlier run, locked at once, so that a conflict is reported before anything takes time.
fn resumed(dir: &Path, session: &Session) -> anyhow::Result<(RunDir, DirectoryLock)> {
    let dir = dir.canonicalize()?;
    let lock = session.lock(&dir)?;
    Ok((RunDir(dir), lock))
}

/// The state of a run after an error, and the command to continue.
fn what_next(
    error: &anyhow::Error,
    arguments: &Arguments,
    checkout: &Checkout,
    run: &Run<'_>,
) -> anyhow::Result<String> {
    let what = match error.is::<Interrupted>() {
        _ if run.state.is_untouched() => "nothing in the run was changed",
        true => "what was measured is kept",
        false => "the run is incomplete",
    };
    let command = resume_command(arguments, checkout, run);
    let has_other_programs = programs_of(arguments).as_deref() != run.state.programs_folder();
    let next = match (error.downcast_ref(), exit::of(error)) {
        (Some(WouldDiscard { can_be_made_again: false, .. }), _) => {
            format!("to resume where it can be measured, or with the recorded programs: {command}")
        }
        (Some(_), _) if has_other_programs => format!("to resume with the recorded programs: {command}"),
        // The same command would be refused again.
        (Some(_), _) => format!("to measure it again: {command} --again"),
        // A resumed run has the same values, so it would fail again.
        (None, Exit::Usage) if run.state.dir().points()?.is_empty() => {
            "begin another one, with other values".to_owned()
        }
        (None, _) => format!("to resume: {command}"),
    };
    Ok(format!("{what}; {next}"))
}

/// The command that resumes a run, with the checkout and programs that its repetitions were measured with.
fn resume_command(arguments: &Arguments, checkout: &Checkout, run: &Run<'_>) -> String {
    let mut command = format!("repro run --resume {}", quoted(&run.state.dir().0));
    let typed = programs_of(arguments);
    // With --again, repetitions are measured with the programs that the user named, not with the recorded ones.
    let recorded = run.state.programs_folder().filter(|_| !arguments.again);
    let programs = recorded.or(typed.as_deref());
    if arguments.again && run.state.is_untouched() {
        command.push_str(" --again");
    }
    let named = [("--programs", programs), ("--checkout", checkout.named())];
    for (option, place) in named.into_iter().filter_map(|(option, place)| Some((option, place?))) {
        let _ = write!(command, " {option} {}", quoted(place));
    }
    command
}

/// The folder of programs that the user named, as an absolute path: the printed command works in any directory.
fn programs_of(arguments: &Arguments) -> Option<PathBuf> {
    arguments.programs.as_deref().map(|typed| absolute(typed).unwrap_or_else(|_| typed.to_owned()))
}

/// A path as a shell takes it for one word.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=:,@%".contains(&byte);
    if text.bytes().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Builds what the run needs outside, because that needs the network, and does everything else inside: systems and load
/// generator must be in the same network namespace.
fn isolate(
    arguments: &Arguments,
    checkout: &Checkout,
    (planned, resumed): (&PlannedExperiment, Option<(RunDir, DirectoryLock)>),
    session: &Session,
) -> anyhow::Result<Exit> {
    let origin = Origin::typed(arguments.programs.as_deref());
    let programs = Programs::new(origin, checkout, &planned.experiment.systems, session.watch())?;
    session.interrupt.check()?;
    session.console.line("continuing in private mount, pid and network namespaces");
    // The process inside takes the lock again; a lock held here would keep it out.
    drop(resumed);
    isolation::continue_inside(&programs, &session.interrupt)
}

/// Plan of an earlier run, from the present definition and systems.
fn planned_of(dir: &Path, checkout: &Checkout) -> anyhow::Result<PlannedExperiment> {
    let plan = Plan::read(&RunDir(dir.to_owned()))?;
    let definition = crate::definition::find(&checkout.definitions(), &plan.experiment)?;
    PlannedExperiment::new(definition, &Systems::read(&checkout.systems())?, &plan.scale, &plan.overrides)
}

/// Prints the result of a run that has just ended: failures, broken invariants, the place of its report, and last the
/// claims. `resume_command` is the command that measures the rest.
fn check(session: &Session, run: &Run<'_>, resume_command: &str) -> anyhow::Result<Exit> {
    let (mut exit, mut again, mut stands) = (Exit::Done, false, false);
    for failure in run.state.failures() {
        exit = Exit::Failed;
        let FailedRepetition { system, point, repetition, reason, untried } = failure;
        if *untried {
            again = true
        } else {
            stands = true
        }
        let reason = reason.lines().next().unwrap_or_default();
        session.console.line(&format!("not measured: {system}, point {point}, repetition {repetition}: {reason}"));
    }
    if again {
        session.console.line(&format!("to measure what failed: {resume_command}"));
    }
    if stands {
        let next =
            format!("that a system failed is its result; to measure another version of it: {resume_command} --again");
        session.console.line(&next);
    }
    if run.state.dir().points()?.is_empty() {
        return Ok(exit);
    }
    let invariants = run.state.dir().read_invariants()?.context("the report left no invariants.json")?;
    let validity = verify::invariant::exit(&invariants);
    verify::print(&invariants, false, Format::Table)?;
    session.console.line(&verify::count(&invariants, &run.state.dir().0));
    if validity == Exit::Invalid && exit == Exit::Done {
        session.console.line("the run is invalid: see the invariants above that do not hold");
    }
    session.console.line(&format!("report: {}", run.state.dir().report().join("index.html").display()));
    Ok(exit.or(validity).or(claims::print_of(run.state.dir())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_command_to_type_is_one_word() {
        for (path, expected) in
            [("/a/b-1.toml", "/a/b-1.toml"), ("/my runs/x", "'/my runs/x'"), ("/it's/$HOME", r"'/it'\''s/$HOME'")]
        {
            assert_eq!(quoted(Path::new(path)), expected);
        }
    }
}
