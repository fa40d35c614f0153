//! A run from its first step to its last: the order of its steps, and the results that are kept when one fails.

pub mod basis;
pub mod builder;
pub mod compatibility;
pub mod dependencies;
mod environment;
pub mod exhaustion;
pub mod functions;
pub mod harvest;
pub mod inputs;
pub mod join;
pub mod load;
pub mod manifest;
pub mod measured_system;
pub mod outcome;
pub mod outline;
pub mod plan;
pub mod preparation;
pub mod programs;
pub mod recorded_points;
pub mod repetition;
pub mod replayable;
pub mod resolved;
mod resuming;
mod schedules;
pub mod space;
pub mod state;
mod steps;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf, absolute},
    time::Instant,
};

use anyhow::Context;
use nix::unistd::{AccessFlags, access};
use record::{DirectoryLock, ExitState, LOCK_FILE, Manifest, RunDir};

use crate::{
    checkout::Checkout,
    exit::{Interrupted, UsageError},
    run::{
        environment::Environment,
        plan::{Action, Plan, Step, StepState},
        programs::Origin,
        repetition::now,
        resolved::{PlannedExperiment, ResolvedExperiment},
        resuming::Reconciliation,
        schedules::Schedules,
        state::{Earlier, RunState},
    },
    session::Session,
};

pub use steps::report;

/// A run with its directory, which it has locked. It performs the steps in order; each piece of state that steps change has
/// an owner of its own.
pub struct Run<'a> {
    session: &'a Session,
    checkout: &'a Checkout,
    experiment: ResolvedExperiment,
    environment: Environment,
    schedules: Schedules,
    /// Manifest and plan.
    pub state: RunState,
    _lock: DirectoryLock,
}

impl<'a> Run<'a> {
    /// Checks that a new run can be created in a place, without creating anything.
    ///
    /// # Errors
    /// If something is in it, it cannot be made, is another run's, or is on a disk that is too full.
    pub fn check_place(checkout: &Checkout, planned: &PlannedExperiment, out: Option<&Path>) -> anyhow::Result<()> {
        if let Some(path) = out {
            let refused = |problem: String| UsageError(format!("--out {}: {problem}", path.display()));
            let absolute = absolute(path).map_err(|error| refused(error.to_string()))?;
            let there = absolute.ancestors().find(|place| place.exists()).unwrap_or(Path::new("/"));
            if !there.is_dir() {
                return Err(refused(format!("expected a folder, found the file {}", there.display())).into());
            }
            access(there, AccessFlags::W_OK | AccessFlags::X_OK)
                .map_err(|errno| refused(format!("{}: {}", there.display(), io::Error::from(errno))))?;
            if has_contents(path) {
                DirectoryLock::check(path)?;
                return Err(not_empty(path).into());
            }
        }
        space::ensure_free(out.unwrap_or(&checkout.runs()), space::of_plan(&planned.plan, &planned.experiment.points))
    }

    /// Makes the directory of a new run and writes its manifest and plan.
    ///
    /// # Errors
    /// If the directory cannot be made, has something in it, is another run's, or is on a disk that is too full.
    pub fn begin(
        session: &'a Session,
        checkout: &'a Checkout,
        planned: PlannedExperiment,
        out: Option<&Path>,
    ) -> anyhow::Result<Self> {
        Self::check_place(checkout, &planned, out)?;
        let path = match out {
            Some(path) => path.to_owned(),
            None => fresh(checkout, &planned.plan)?,
        };
        let lock = session.lock(&path)?;
        // Another process may have created a run, and ended, before the lock was taken.
        if has_contents(&path) {
            return Err(not_empty(&path).into());
        }
        let dir = RunDir(path.canonicalize()?);
        let manifest = manifest::begin(checkout, &planned);
        let run = Self::new((session, checkout), planned, (dir, lock), manifest, None);
        run.state.save()?;
        Ok(run)
    }

    /// Resumes a run: a finished step is not repeated if its dependencies are unchanged. These are known once programs and
    /// schedules exist; until then nothing in the directory is changed. Then its report and the results of its checks are
    /// removed, and made again at its end. Finished repetitions that are no longer valid are measured again only if `again`
    /// is set.
    ///
    /// # Errors
    /// If the directory holds no run, or one that cannot be resumed.
    pub fn resume(
        session: &'a Session,
        checkout: &'a Checkout,
        mut planned: PlannedExperiment,
        (dir, lock): (RunDir, DirectoryLock),
        again: bool,
    ) -> anyhow::Result<Self> {
        let before = Plan::read(&dir)?;
        for step in &mut planned.plan.steps {
            if let Some(known) = before.steps.iter().find(|known| known.action == step.action) {
                *step = Step { seed: step.seed, estimate_s: step.estimate_s, ..known.clone() };
            }
        }
        space::ensure_free(&dir.0, space::of_plan(&planned.plan, &planned.experiment.points))?;
        let old = dir.read_manifest()?;
        let manifest = manifest::resumed(&old, manifest::begin(checkout, &planned), &planned.plan);
        let earlier = Some(Earlier { manifest: old, again });
        Ok(Self::new((session, checkout), planned, (dir, lock), manifest, earlier))
    }

    fn new(
        (session, checkout): (&'a Session, &'a Checkout),
        PlannedExperiment { experiment, plan }: PlannedExperiment,
        (dir, lock): (RunDir, DirectoryLock),
        manifest: Manifest,
        earlier: Option<Earlier>,
    ) -> Self {
        let environment = Environment::new(checkout.root());
        let schedules = Schedules::new(dir.clone());
        let state = RunState::new(dir, manifest, plan, earlier);
        Self { session, checkout, experiment, environment, schedules, state, _lock: lock }
    }

    /// Its plan as text.
    #[must_use]
    pub fn plan_text(&self) -> String {
        self.experiment.plan_text(&self.state.plan)
    }

    /// Performs every step that is not done, with `programs`.
    ///
    /// After a failed repetition the others are measured all the same; the manifest lists the failures.
    ///
    /// # Errors
    /// If another step failed; [`Interrupted`] when the user stopped it. The manifest says which.
    pub fn execute(&mut self, programs: Origin<'_>) -> anyhow::Result<()> {
        let result = self.all_steps(programs);
        if self.state.is_untouched() {
            // The earlier session's files must not be mixed with schedules of this one.
            self.schedules.drop_staged()?;
            return result;
        }
        self.state.manifest.ended = Some(now());
        self.state.manifest.exit = match &result {
            // The report has set this after checking the invariants.
            Ok(()) if self.state.manifest.exit == ExitState::Invalid => ExitState::Invalid,
            Ok(()) => self.state.measured(),
            Err(error) if error.is::<Interrupted>() => ExitState::Interrupted,
            Err(_) => ExitState::Failed,
        };
        if let Err(error) = &result {
            self.state.manifest.notes.push(format!("{error:#}"));
        }
        self.state.save()?;
        result
    }

    fn all_steps(&mut self, programs: Origin<'_>) -> anyhow::Result<()> {
        let mut printed = BTreeSet::new();
        for index in 0..self.state.plan.steps.len() {
            self.session.interrupt.check()?;
            let action = self.state.plan.steps[index].action.clone();
            if !matches!(action, Action::Build | Action::Schedule) {
                self.reconcile()?;
            }
            if let Some(line) = self.state.untried(index, &action, &self.environment)? {
                // The reason is the same for all repetitions of a system, so it is printed once.
                if printed.insert(line.clone()) {
                    self.session.console.line(&line);
                }
                continue;
            }
            if action == Action::Report {
                if self.state.dir.points()?.is_empty() {
                    break;
                }
                // The report shows the end of the run, so the manifest must have it before the report is made.
                self.state.manifest.ended = Some(now());
                self.state.manifest.exit = self.state.measured();
                self.state.save()?;
            }
            match (self.step(index, &action, programs), &action) {
                (Ok(()), _) => {}
                (Err(error), Action::Measure { system, point, repetition }) if !error.is::<Interrupted>() => {
                    let point = self.state.dir.point(system, point, *repetition);
                    let line = format!("{system}: {}", self.state.keep_failure(index, &point, &error)?);
                    if printed.insert(line.clone()) {
                        self.session.console.line(&line);
                    }
                }
                (Err(error), _) => return Err(error),
            }
        }
        Ok(())
    }

    /// Checks once which results of the earlier session are still valid.
    fn reconcile(&mut self) -> anyhow::Result<()> {
        let Self { state, schedules, experiment, environment, .. } = self;
        Reconciliation { state, schedules, experiment, environment }.reconcile()
    }

    /// Performs one step unless it is finished, and saves its state before and after.
    fn step(&mut self, index: usize, action: &Action, programs: Origin<'_>) -> anyhow::Result<()> {
        let fingerprint = self.fingerprint(action).context("finding out what is unfinished")?;
        let total = self.state.plan.steps.len();
        let title = format!("[{}/{total}] {}", index + 1, action.describe());
        let step = &self.state.plan.steps[index];
        let is_finished = match action {
            Action::Build | Action::Report => false,
            Action::Schedule => self.schedules.exist(&self.experiment.points) && step.is_finished(&fingerprint),
            // Its dependencies were compared when the run was resumed. A user may have removed its folder to have it
            // measured again.
            Action::Measure { system, point, repetition } => {
                let point = self.state.dir.point(system, point, *repetition);
                step.state == StepState::Done && point.invocations().is_file()
            }
        };
        if is_finished {
            self.session.console.line(&format!("{title}: already done"));
            // The manifest of an interrupted session may lack their checksums.
            if *action == Action::Schedule {
                self.schedules.list(&self.experiment.points, &mut self.state.manifest.checksums)?;
            }
            return Ok(());
        }
        self.session.console.line(&title);
        if let Some(why) = self.state.plan.steps[index].discards() {
            self.state.note_discarded(action, why);
        }
        self.state.update_step(index, StepState::Running, |step| {
            step.fingerprint = Some(fingerprint.clone());
            step.note = None;
        })?;
        let began = Instant::now();
        let result = match action {
            Action::Build => self.build(programs),
            Action::Schedule => self.schedule(),
            Action::Measure { system, point, repetition } => {
                let point = self.state.dir.point(system, point, *repetition);
                self.measure(&point, fingerprint).map(|()| self.state.forget_outcome(&point))
            }
            Action::Report => self.report(),
        };
        let (state, note) = match &result {
            Ok(()) => (StepState::Done, None),
            Err(error) if error.is::<Interrupted>() => (StepState::Interrupted, None),
            Err(error) => (StepState::Failed, Some(format!("{error:#}"))),
        };
        self.state.update_step(index, state, |step| {
            step.took_s = Some(began.elapsed().as_secs_f64());
            step.note = note;
        })?;
        result
    }
}

/// Creates a directory for a new run.
fn fresh(checkout: &Checkout, plan: &Plan) -> anyhow::Result<PathBuf> {
    let runs = checkout.runs();
    fs::create_dir_all(&runs).with_context(|| format!("creating {}", runs.display()))?;
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let name = format!("{time}-{}-{}", plan.scale, plan.experiment);
    let mut path = runs.join(&name);
    let mut number = 2u32;
    // Two runs in one second are possible; thousands are not.
    loop {
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                path = runs.join(format!("{name}-{number}"));
                number += 1;
            }
            made => return made.with_context(|| format!("creating {}", path.display())).map(|()| path),
        }
    }
}

/// Returns true if a directory for a new run is not empty: it may hold another run, which may be in progress.
fn has_contents(path: &Path) -> bool {
    let is_content = |entry: io::Result<fs::DirEntry>| entry.is_ok_and(|entry| entry.file_name() != LOCK_FILE);
    fs::read_dir(path).is_ok_and(|mut entries| entries.any(is_content))
}

fn not_empty(path: &Path) -> UsageError {
    UsageError(format!("--out {} is not empty; to resume a run use --resume", path.display()))
}
