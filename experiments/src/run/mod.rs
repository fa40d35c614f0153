//! A run from its first step to its last: what is done, in which order, and what is kept when something goes wrong.

pub mod functions;
pub mod harvest;
pub mod inputs;
pub mod join;
pub mod load;
pub mod manifest;
pub mod order;
pub mod outline;
pub mod plan;
pub mod preparation;
pub mod programs;
pub mod repetition;
mod steps;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, bail};
use record::{ExitState, Manifest, RunDir, read_json, write_json};

use crate::{
    checkout::Checkout,
    exit::{Interrupted, UsageError},
    run::{
        order::Order,
        plan::{Action, Plan, Step, StepState},
        programs::{Origin, Programs},
        repetition::now,
    },
    session::Session,
};

pub use steps::report;

/// A run that has a directory.
pub struct Run<'a> {
    session: &'a Session,
    checkout: &'a Checkout,
    order: Order,
    dir: RunDir,
    manifest: Manifest,
    programs: Option<Programs>,
}

impl<'a> Run<'a> {
    /// Makes the directory of a new run and writes its manifest and plan.
    ///
    /// # Errors
    /// When the directory cannot be made, or has something in it.
    pub fn begin(
        session: &'a Session,
        checkout: &'a Checkout,
        order: Order,
        out: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let path = out.map_or_else(|| fresh(checkout, &order.plan), Path::to_owned);
        if fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(UsageError(format!("{} is not empty; to go on with a run use --resume", path.display())).into());
        }
        fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        let dir = RunDir(path.canonicalize()?);
        let manifest = manifest::begin(checkout, &order);
        let run = Self { session, checkout, order, dir, manifest, programs: None };
        run.save()?;
        Ok(run)
    }

    /// Goes on with a run: what its plan says is done need not be done again, if it still depends on the same.
    ///
    /// # Errors
    /// When the directory holds no run.
    pub fn resume(session: &'a Session, checkout: &'a Checkout, mut order: Order, dir: RunDir) -> anyhow::Result<Self> {
        let before: Plan = read_json(&dir.plan())?;
        for step in &mut order.plan.steps {
            if let Some(known) = before.steps.iter().find(|known| known.action == step.action) {
                *step = known.clone();
            }
        }
        let old = dir.read_manifest()?;
        let mut manifest = manifest::begin(checkout, &order);
        manifest.notes.extend(old.notes.into_iter().filter(|note| !manifest.notes.contains(note)).collect::<Vec<_>>());
        manifest.notes.push(format!("resumed {}", manifest.started));
        manifest.started = old.started;
        let run = Self { session, checkout, order, dir, manifest, programs: None };
        run.save()?;
        Ok(run)
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &RunDir {
        &self.dir
    }

    /// Its plan for people.
    #[must_use]
    pub fn plan_text(&self) -> String {
        self.order.plan_text()
    }

    /// Does every step that is not done; `programs` is where they come from.
    ///
    /// A repetition that fails does not keep other systems, or the same one at other points, from being measured.
    ///
    /// # Errors
    /// When a step failed; [`Interrupted`] when the user stopped it. The manifest says which.
    pub fn execute(&mut self, programs: Origin<'_>) -> anyhow::Result<()> {
        let result = self.all_steps(programs);
        self.manifest.ended = Some(now());
        self.manifest.exit = match &result {
            Ok(()) => ExitState::Done,
            Err(error) if error.is::<Interrupted>() => ExitState::Interrupted,
            Err(_) => ExitState::Failed,
        };
        if let Err(error) = &result {
            self.manifest.notes.push(format!("{error:#}"));
        }
        self.save()?;
        result
    }

    /// Says something in the manifest, once.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn note(&mut self, note: &str) -> anyhow::Result<()> {
        if !self.manifest.notes.iter().any(|known| known == note) {
            self.manifest.notes.push(note.to_owned());
        }
        self.save()
    }

    /// Marks the run as one that may not be used.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn mark_invalid(&mut self) -> anyhow::Result<()> {
        self.manifest.exit = ExitState::Invalid;
        self.save()
    }

    /// Marks the run as failed, for a reason.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn mark_failed(&mut self, reason: &str) -> anyhow::Result<()> {
        self.manifest.exit = ExitState::Failed;
        self.manifest.notes.push(reason.to_owned());
        self.save()
    }

    fn all_steps(&mut self, programs: Origin<'_>) -> anyhow::Result<()> {
        let mut failures = Vec::new();
        let mut failed = BTreeSet::new();
        for index in 0..self.order.plan.steps.len() {
            self.session.interrupt.check()?;
            let action = self.order.plan.steps[index].action.clone();
            if let Action::Measure { system, point, .. } = &action
                && failed.contains(&(system.clone(), point.clone()))
            {
                continue;
            }
            if action == Action::Report {
                if self.dir.points()?.is_empty() {
                    break;
                }
                // The report says how the run ended; that of the report itself is all that is still open.
                self.manifest.ended = Some(now());
                self.manifest.exit = if failures.is_empty() { ExitState::Done } else { ExitState::Failed };
                self.save()?;
            }
            let result = self.step(index, &action, programs);
            match (result, action) {
                (Ok(()), _) => {}
                (Err(error), Action::Measure { system, point, .. }) if !error.is::<Interrupted>() => {
                    self.session.console.line(&format!("{system}: {error:#}"));
                    failures.push(format!("{system}: {error:#}"));
                    failed.insert((system, point));
                }
                (Err(error), _) => return Err(error),
            }
        }
        match failures.first() {
            None => Ok(()),
            Some(first) => bail!("{} of the measurements failed, the first: {first}", failures.len()),
        }
    }

    /// Does one step, unless it is finished, and keeps its state on disk before and after.
    fn step(&mut self, index: usize, action: &Action, programs: Origin<'_>) -> anyhow::Result<()> {
        let fingerprint = self.fingerprint(action).context("finding out what is unfinished")?;
        let total = self.order.plan.steps.len();
        let title = format!("[{}/{total}] {}", index + 1, action.describe());
        let repeat = match action {
            Action::Build | Action::Report => true,
            Action::Schedule => false,
            // Its folder may have been removed, to have it measured again.
            Action::Measure { system, point, repetition } => {
                !self.dir.point(system, point, *repetition).invocations().is_file()
            }
        };
        if !repeat && self.order.plan.steps[index].is_finished(&fingerprint) {
            self.session.console.line(&format!("{title}: already done"));
            return Ok(());
        }
        self.session.console.line(&title);
        self.update(index, StepState::Running, |step| {
            step.fingerprint = Some(fingerprint);
            step.note = None;
        })?;
        let began = Instant::now();
        let result = match action {
            Action::Build => self.build(programs),
            Action::Schedule => self.schedule(),
            Action::Measure { system, point, repetition } => {
                let point = self.dir.point(system, point, *repetition);
                self.measure(&point)
            }
            Action::Report => self.report(),
        };
        let (state, note) = match &result {
            Ok(()) => (StepState::Done, None),
            Err(error) if error.is::<Interrupted>() => (StepState::Interrupted, None),
            Err(error) => (StepState::Failed, Some(format!("{error:#}"))),
        };
        self.update(index, state, |step| {
            step.took_s = Some(began.elapsed().as_secs_f64());
            step.note = note;
        })?;
        result
    }

    fn update(&mut self, index: usize, state: StepState, change: impl FnOnce(&mut Step)) -> anyhow::Result<()> {
        let step = &mut self.order.plan.steps[index];
        step.state = state;
        change(step);
        self.save()
    }

    fn save(&self) -> anyhow::Result<()> {
        write_json(&self.dir.manifest(), &self.manifest)?;
        write_json(&self.dir.plan(), &self.order.plan)?;
        Ok(())
    }
}

/// A directory for a new run that is not there yet.
fn fresh(checkout: &Checkout, plan: &Plan) -> PathBuf {
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let name = format!("{time}-{}-{}", plan.scale, plan.experiment);
    let mut path = checkout.runs().join(&name);
    let mut number = 2u32;
    // Two runs in one second are possible; thousands are not.
    while path.exists() {
        path = checkout.runs().join(format!("{name}-{number}"));
        number += 1;
    }
    path
}
