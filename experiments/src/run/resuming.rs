//! Resuming a run: finished repetitions are compared with what would be measured now, before anything on disk is changed.
//! Valid ones are kept. Others are measured again only if the user asks for it and it is possible, and their rows are kept
//! until there are new ones.

use std::fs;

use anyhow::Context;
use record::{DiscardedTry, Manifest, PointDir, read_json, write_json};

use crate::{
    definition::points,
    exit::WouldDiscard,
    machine::host,
    run::{
        basis::{self, Basis},
        dependencies::{Dependencies, MeasuredWith},
        environment::Environment,
        outcome::Failed,
        plan::{Action, Step, StepState},
        preparation,
        repetition::RepetitionFacts,
        resolved::ResolvedExperiment,
        schedules::Schedules,
        state::{Earlier, RunState},
    },
    verify,
};

/// Beginning of the reason why a finished repetition is discarded.
const SET_ASIDE: &str = "what it depends on had changed";

/// A finished repetition, and its step in the plan.
struct Finished {
    index: usize,
    point: PointDir,
    /// True if its result is that the system failed.
    has_failed: bool,
}

/// The fate of all finished repetitions.
#[derive(Default)]
struct Decision {
    /// Repetitions with the same dependencies as before, with their fingerprints.
    stands: Vec<(Finished, String)>,
    /// Repetitions that were set aside for other programs, settings or another machine, and are valid again in this
    /// session.
    comes_back: Vec<(Finished, String)>,
    /// Repetitions that are no longer valid.
    stale: Vec<Finished>,
}

/// Compares the results of earlier sessions with what would be measured now, and updates the state of the run.
pub(super) struct Reconciliation<'a> {
    /// Manifest and plan of the run.
    pub(super) state: &'a mut RunState,
    /// The schedules, which are moved into place once no result speaks against it.
    pub(super) schedules: &'a mut Schedules,
    /// The experiment as it would be measured now.
    pub(super) experiment: &'a ResolvedExperiment,
    /// This session's programs and machine.
    pub(super) environment: &'a Environment,
}

impl Reconciliation<'_> {
    /// Compares, and ends the comparison with the earlier session, after which the directory is written to. Programs and
    /// schedules must be known.
    ///
    /// # Errors
    /// If finished repetitions would have to be measured again, and that was not asked for or cannot be done.
    pub(super) fn reconcile(mut self) -> anyhow::Result<()> {
        let Some(earlier) = self.state.earlier() else { return Ok(()) };
        let machine = host::differences(&earlier.manifest.host, &self.environment.host);
        let Decision { stands, comes_back, stale } = self.decide(&machine)?;
        let all = stands.len() + stale.len();
        let changes = self.changes(&earlier.manifest, &machine, &stale);
        if !stale.is_empty() {
            self.refuse_to_lose(earlier, &stale, (all, &changes))?;
        }
        let one_session = (!earlier.manifest.is_resumed()).then(|| earlier.manifest.clone());
        if stale.len() == all {
            self.state.manifest.host.clone_from(&self.environment.host);
        }
        verify::forget(&self.state.dir)?;
        for (Finished { index, point, has_failed }, fingerprint) in stands {
            if has_failed {
                self.state.let_failure_stand(index, &point, fingerprint)?;
                continue;
            }
            if let Some(before) = &one_session {
                complete_facts(&point, before, &fingerprint)?;
            }
            // A killed session may have measured it without recording that.
            if self.state.plan.steps[index].state != StepState::Done {
                self.state.forget_outcome(&point);
            }
            self.state.plan.steps[index].finish(fingerprint);
        }
        for (one, fingerprint) in comes_back {
            self.take_back(&one, fingerprint)?;
        }
        for one in &stale {
            self.set_aside(one, &changes)?;
        }
        self.state.leave_earlier();
        self.schedules.adopt(&self.experiment.points)?;
        self.state.save()
    }

    /// Compares all finished repetitions with what would be measured now; `machine` lists differences to the earlier one.
    fn decide(&self, machine: &[String]) -> anyhow::Result<Decision> {
        let mut decision = Decision::default();
        for (index, step) in self.state.plan.steps.iter().enumerate() {
            let Action::Measure { system, point, repetition } = &step.action else { continue };
            let kept = self.state.dir.replaced(system, point, *repetition);
            let point = self.state.dir.point(system, point, *repetition);
            let known = finished_as(step, &point);
            let has_failed = known.is_none() && self.state.failed(&point).is_some();
            if known.is_none() && !has_failed && !kept.exists() {
                continue;
            }
            let settings = self.experiment.point(&point.point)?.settings.of_repetition(*repetition);
            let inputs = self.schedules.inputs(&point.point, *repetition);
            let loadgen = self.state.manifest.checksums.get("loadgen");
            let dependencies = Dependencies::of(&step.action, &settings, &inputs, loadgen);
            let dependencies = dependencies.context("finding out what is unfinished")?;
            let now = self.state.manifest.systems.get(system);
            let kept = PointDir { path: kept, ..point.clone() };
            let failed = step.failed_with();
            let failed_with = MeasuredWith { fingerprint: failed.fingerprint, system: None };
            let finished = Finished { index, point, has_failed };
            match known {
                Some(known) if dependencies.are_those_of(&known, now) && machine.is_empty() => {
                    decision.stands.push((finished, dependencies.fingerprint(now)));
                }
                Some(_) => decision.stale.push(finished),
                None if self.is_as_now(&kept, &dependencies) => {
                    decision.comes_back.push((finished, dependencies.fingerprint(now)));
                }
                None if has_failed && dependencies.are_those_of(&failed_with, now) && machine.is_empty() => {
                    decision.stands.push((finished, dependencies.fingerprint(now)));
                }
                None if has_failed && !failed.set_aside => decision.stale.push(finished),
                None => {}
            }
        }
        Ok(decision)
    }

    /// Returns true if a repetition that was set aside was measured with this session's programs and settings, on its
    /// machine.
    fn is_as_now(&self, kept: &PointDir, dependencies: &Dependencies) -> bool {
        let now = self.state.manifest.systems.get(&kept.system);
        let basis = read_json::<RepetitionFacts>(&kept.facts()).ok().and_then(|facts| facts.measured_with);
        let is_same = |basis: Basis| {
            host::differences(&basis.host, &self.environment.host).is_empty()
                && dependencies.are_those_of(&basis.into(), now)
        };
        kept.invocations().is_file() && basis.is_some_and(is_same)
    }

    /// Refuses to discard finished repetitions unless the user asked for it and they can be measured again.
    fn refuse_to_lose(
        &self,
        earlier: &Earlier,
        stale: &[Finished],
        (all, changes): (usize, &str),
    ) -> anyhow::Result<()> {
        let count = format!("{} of {all} finished repetitions do not stand any longer", stale.len());
        let why_unable = |one: &Finished| Some((one.point.system.clone(), self.environment.unable(&one.point.system)?));
        if let Some((system, why)) = stale.iter().find_map(why_unable) {
            let problem = format!("{count} (changed: {changes}), and {system} cannot be measured again here: {why}");
            return Err(WouldDiscard { message: problem, can_be_made_again: false }.into());
        }
        if earlier.again {
            return Ok(());
        }
        let programs =
            earlier.manifest.programs.as_ref().filter(|known| Some(*known) != self.state.manifest.programs.as_ref());
        let programs = programs.map(|known| format!(" Their programs were taken from {}.", known.display()));
        let message = format!(
            "{count}, because what they depend on has changed: {changes}.{} With --again they are measured again; their \
             rows are kept in REPETITION.replaced until others are there",
            programs.unwrap_or_default()
        );
        Err(WouldDiscard { message, can_be_made_again: true }.into())
    }

    /// Changes since an earlier session in the dependencies of finished repetitions, in words.
    fn changes(&self, before: &Manifest, machine: &[String], stale: &[Finished]) -> String {
        let mut changes: Vec<String> = Vec::new();
        for (name, facts) in &self.state.manifest.systems {
            if stale.iter().any(|one| one.point.system == *name) {
                let found = before.systems.get(name).map(|known| basis::system_changes(known, facts));
                let found = found.unwrap_or_else(|| vec!["what it was is not on record".to_owned()]);
                changes.extend((!found.is_empty()).then(|| format!("{name}: {}", found.join(", "))));
            }
        }
        let known = points::read(&before.definition).unwrap_or_default();
        for point in self.experiment.points.iter().filter(|point| stale.iter().any(|one| one.point.point == point.name))
        {
            let found = match known.iter().find(|known| known.name == point.name) {
                Some(known) => basis::setting_changes(&known.settings, &point.settings),
                None => vec!["its settings are not on record".to_owned()],
            };
            changes.extend((!found.is_empty()).then(|| format!("point {}: {}", point.name, found.join(", "))));
        }
        let sum = |manifest: &Manifest, name: &str| manifest.checksums.get(name).cloned();
        if sum(before, "loadgen") != sum(&self.state.manifest, "loadgen") {
            changes.push("the load generator".to_owned());
        }
        changes.extend((!machine.is_empty()).then(|| format!("the machine: {}", machine.join(", "))));
        if changes.is_empty() {
            changes.push(
                "their schedule or functions, or what is said of them in plan.json and repetition.json".to_owned(),
            );
        }
        changes.join("; ")
    }

    /// Moves the rows of a finished repetition to where no analysis reads them. A recorded system failure stays until
    /// another try has ended.
    fn set_aside(&mut self, stale: &Finished, changes: &str) -> anyhow::Result<()> {
        let Finished { index, point, has_failed } = stale;
        let step = &mut self.state.plan.steps[*index];
        if *has_failed {
            step.failed = Some(Failed { set_aside: true, ..step.failed_with() });
            return Ok(());
        }
        let kept = self.state.dir.replaced(&point.system, &point.point, point.repetition);
        preparation::remove(&kept)?;
        fs::rename(&point.path, &kept).with_context(|| format!("keeping {}", point.path.display()))?;
        (step.state, step.fingerprint, step.took_s, step.note) = (StepState::Planned, None, None, None);
        let action = step.action.clone();
        self.state.note_discarded(&action, format!("{SET_ASIDE}: {changes}"));
        Ok(())
    }

    /// Restores rows that were set aside, with the facts that they were measured with. Results of other tries in their
    /// place are listed as discarded.
    fn take_back(&mut self, one: &Finished, fingerprint: String) -> anyhow::Result<()> {
        let Finished { index, point, .. } = one;
        let kept = self.state.dir.replaced(&point.system, &point.point, point.repetition);
        preparation::remove(&point.path)?;
        fs::rename(&kept, &point.path).with_context(|| format!("taking back {}", kept.display()))?;
        let is_aside = |tried: &DiscardedTry| {
            (&tried.system, &tried.point, tried.repetition) == (&point.system, &point.point, point.repetition)
                && tried.reason.starts_with(SET_ASIDE)
        };
        let results_backup = self.state.manifest.discarded.iter().rposition(is_aside);
        let changes =
            results_backup.map(|place| self.state.manifest.discarded.remove(place).reason).unwrap_or_default();
        let known = self.state.manifest.discarded.len();
        let step = &self.state.plan.steps[*index];
        let (action, stopped) = (step.action.clone(), step.discards());
        if let Some(why) = stopped {
            self.state.note_discarded(&action, why);
        }
        self.state.forget_outcome(point);
        for tried in &mut self.state.manifest.discarded[known..] {
            tried.reason = format!("{}, and the rows from before count again ({changes})", tried.reason);
        }
        self.state.plan.steps[*index].finish(fingerprint);
        Ok(())
    }
}

/// Adds programs and machine to the facts of a repetition that an earlier version measured without recording them. Its run
/// had one session so far, so they are those in the manifest.
fn complete_facts(point: &PointDir, before: &Manifest, fingerprint: &str) -> anyhow::Result<()> {
    let Ok(facts) = read_json::<RepetitionFacts>(&point.facts()) else { return Ok(()) };
    let known = (before.systems.get(&point.system), before.checksums.get("loadgen"));
    let (None, (Some(system), Some(loadgen))) = (&facts.measured_with, known) else { return Ok(()) };
    let basis = Basis {
        fingerprint: fingerprint.to_owned(),
        system: system.clone(),
        loadgen: loadgen.clone(),
        // Neither the repetition nor the plan has a fingerprint.
        runner: String::new(),
        git_revision: before.git_revision.clone(),
        host: before.host.clone(),
    };
    Ok(write_json(&point.facts(), &RepetitionFacts { measured_with: Some(basis), ..facts })?)
}

/// Programs and settings of a finished repetition: by its own record, or the plan's if it is older. `None` if it is not
/// finished.
fn finished_as(step: &Step, point: &PointDir) -> Option<MeasuredWith> {
    if !point.invocations().is_file() {
        return None;
    }
    let planned = step.fingerprint.clone().filter(|_| step.state == StepState::Done);
    let planned = planned.map(|fingerprint| MeasuredWith { fingerprint, system: None });
    match read_json::<RepetitionFacts>(&point.facts()) {
        Ok(facts) if facts.interrupted => None,
        Ok(facts) => Some(facts.measured_with.map(MeasuredWith::from).or(planned).unwrap_or_default()),
        Err(_) => planned,
    }
}
