//! `run`: measure, check, report; and go on with a run that was stopped.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

use clap::Args;
use record::{RunDir, read_json};

use super::Choice;
use crate::{
    checkout::Checkout,
    enclosure,
    exit::{Exit, Interrupted},
    run::{
        Run,
        order::Order,
        plan::Plan,
        programs::{Origin, Programs},
    },
    session::Session,
    system::{System, Systems, needs},
    table::Format,
    verify,
};

/// What was typed.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  repro run azure-500 --trace DIR --minutes 30\n  repro run warm-sweep --points one-connection"
)]
pub struct Arguments {
    #[command(flatten)]
    choice: Choice,

    /// Where to leave everything, instead of artifacts/runs/TIME-SCALE-EXPERIMENT
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,

    /// Go on with an earlier run: steps that are done and still depend on the same are skipped; a repetition whose
    /// folder was removed is measured again
    #[arg(long, value_name = "DIR", conflicts_with_all = ["experiment", "scale", "Overrides"])]
    resume: Option<PathBuf>,

    /// Take this checkout's built programs from here instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,

    /// The folder of built programs, inside the private namespace that a system needs.
    #[arg(skip)]
    enclosed: Option<PathBuf>,

    /// Print the effective settings and exit
    #[arg(long)]
    print_config: bool,
}

impl Arguments {
    /// The main experiment on this machine.
    pub(super) fn main(quick: bool) -> Self {
        Self {
            choice: Choice::main(quick),
            out: None,
            resume: None,
            programs: None,
            enclosed: None,
            print_config: false,
        }
    }

    /// The same inside a private namespace, if there are programs that were built for it.
    pub(super) fn inside(self, programs: Option<PathBuf>) -> Self {
        Self { enclosed: programs, ..self }
    }
}

/// Runs an experiment.
///
/// # Errors
/// When a step fails, or the user stops it: what was measured is kept.
pub fn run(arguments: &Arguments, checkout: &Checkout) -> anyhow::Result<Exit> {
    let order = match &arguments.resume {
        None => arguments.choice.order(checkout)?,
        Some(dir) => order_of(dir.clone(), checkout)?,
    };
    if arguments.print_config {
        print!("{}", order.to_toml());
        return Ok(Exit::Done);
    }
    let session = super::session()?;
    // Nothing is enclosed for a system that cannot run here: its step says so.
    let needs_it = |system: &System| system.enclosed && needs::missing(system).is_empty();
    if arguments.enclosed.is_none() && order.systems.iter().any(|(_, system)| needs_it(system)) {
        return enclose(arguments, checkout, &order, &session);
    }
    let mut run = match &arguments.resume {
        None => Run::begin(&session, checkout, order, arguments.out.as_deref())?,
        Some(dir) => Run::resume(&session, checkout, order, RunDir(dir.canonicalize()?))?,
    };
    if arguments.enclosed.is_some() {
        run.note(enclosure::PLACE)?;
    }
    session.console.line(run.plan_text().trim_end());
    session.console.line(&format!("everything is left in {}", run.dir().0.display()));
    let typed = || Origin::typed(arguments.programs.as_deref());
    let programs = arguments.enclosed.as_deref().map_or_else(typed, Origin::Done);
    // Whatever started processes has stopped them by the time a panic arrives here; the manifest must still say so.
    let executed = catch_unwind(AssertUnwindSafe(|| run.execute(programs))).unwrap_or_else(|_| {
        run.mark_failed("the runner itself failed")?;
        Err(anyhow::anyhow!("the runner itself failed"))
    });
    match executed {
        Ok(()) => judge(&session, &mut run),
        Err(error) => {
            let dir = run.dir().0.display();
            let resume = format!("repro run --resume {dir}");
            let what = if error.is::<Interrupted>() { "what was measured is kept" } else { "the run is incomplete" };
            session.console.line(&format!("{what}; to go on: {resume}"));
            Err(error)
        }
    }
}

/// Builds what the run needs, which takes the network, and does everything else inside: every system of the run and
/// the load generator are on the same side of that boundary.
fn enclose(arguments: &Arguments, checkout: &Checkout, order: &Order, session: &Session) -> anyhow::Result<Exit> {
    let origin = Origin::typed(arguments.programs.as_deref());
    let programs = Programs::new(origin, checkout, &order.systems, &session.console)?;
    session.interrupt.check()?;
    session.console.line("going on in a private mount, pid and network namespace");
    enclosure::go_on_inside(programs.folder(), &session.interrupt)
}

/// The order that an earlier run was given, from the definition and systems as they are now.
fn order_of(dir: PathBuf, checkout: &Checkout) -> anyhow::Result<Order> {
    let plan: Plan = read_json(&RunDir(dir).plan())?;
    let definition = crate::definition::find(&checkout.definitions(), &plan.experiment)?;
    Order::new(definition, &Systems::read(&checkout.systems())?, &plan.scale, &plan.overrides)
}

/// Checks the invariants of a run that has just ended, and says where its report is.
fn judge(session: &Session, run: &mut Run<'_>) -> anyhow::Result<Exit> {
    let invariants = verify::judge(run.dir())?;
    verify::table(&invariants).print(Format::Table)?;
    let exit = verify::invariant::exit(&invariants);
    if exit == Exit::Invalid {
        run.mark_invalid()?;
        session.console.line("the run is invalid: see the invariants above that do not hold");
    }
    session.console.line(&format!("report: {}", run.dir().report().join("index.html").display()));
    Ok(exit)
}
