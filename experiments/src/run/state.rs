//! State of a run as its directory keeps it: the manifest and the plan. It alone writes them, and not before the results
//! of an earlier session have been checked.

use std::path::Path;

use record::{ExitState, FailedRepetition, Manifest, RunDir, SystemFacts, write_json};

use crate::run::{
    basis,
    plan::{Plan, Step, StepState},
};

/// Manifest, plan and directory of a run.
pub struct RunState {
    /// Its directory.
    pub(super) dir: RunDir,
    /// Record of the programs and machine that were measured with, and of the end of the run.
    pub(super) manifest: Manifest,
    /// Its steps.
    pub(super) plan: Plan,
    /// The session that this one resumes, until its results have been checked: nothing is written before.
    earlier: Option<Earlier>,
}

/// An earlier session of a run, of which nothing has been changed so far.
#[derive(Debug)]
pub(super) struct Earlier {
    /// Its manifest.
    pub(super) manifest: Manifest,
    /// True if finished repetitions may be measured again.
    pub(super) again: bool,
}

impl RunState {
    pub(super) fn new(dir: RunDir, manifest: Manifest, plan: Plan, earlier: Option<Earlier>) -> Self {
        Self { dir, manifest, plan, earlier }
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &RunDir {
        &self.dir
    }

    /// The repetitions that could not be measured.
    #[must_use]
    pub fn failures(&self) -> &[FailedRepetition] {
        &self.manifest.failures
    }

    /// Returns true if this session has changed nothing on disk so far.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.earlier.is_some()
    }

    /// The session that this one resumes; `None` once its results have been checked.
    pub(super) fn earlier(&self) -> Option<&Earlier> {
        self.earlier.as_ref()
    }

    /// Ends the comparison with the earlier session: from now on the directory is written to.
    pub(super) fn leave_earlier(&mut self) {
        self.earlier = None;
    }

    /// Writes manifest and plan, unless the directory is not to be written to yet.
    pub(super) fn save(&self) -> anyhow::Result<()> {
        if self.is_untouched() {
            return Ok(());
        }
        write_json(&self.dir.manifest(), &self.manifest)?;
        write_json(&self.dir.plan(), &self.plan)?;
        Ok(())
    }

    /// Changes the state and other fields of a step.
    pub(super) fn update_step(
        &mut self,
        index: usize,
        state: StepState,
        change: impl FnOnce(&mut Step),
    ) -> anyhow::Result<()> {
        let step = &mut self.plan.steps[index];
        step.state = state;
        change(step);
        self.save()
    }

    /// Records the folder of its programs, if the user named one.
    ///
    /// # Errors
    /// If the manifest cannot be written.
    pub fn take_programs_from(&mut self, folder: Option<&Path>) -> anyhow::Result<()> {
        self.manifest.programs = folder.map(Path::to_owned);
        self.save()
    }

    /// Folder of the programs that its repetitions were measured with, if one was given.
    #[must_use]
    pub fn programs_folder(&self) -> Option<&Path> {
        self.earlier.as_ref().map_or(&self.manifest, |earlier| &earlier.manifest).programs.as_deref()
    }

    /// Adds a note to the manifest unless it is there.
    ///
    /// # Errors
    /// If the manifest cannot be written.
    pub fn note(&mut self, note: &str) -> anyhow::Result<()> {
        if !self.manifest.notes.iter().any(|known| known == note) {
            self.manifest.notes.push(note.to_owned());
        }
        self.save()
    }

    /// Marks the run as failed, for a reason.
    ///
    /// # Errors
    /// If the manifest cannot be written.
    pub fn mark_failed(&mut self, reason: &str) -> anyhow::Result<()> {
        self.manifest.exit = ExitState::Failed;
        self.manifest.notes.push(reason.to_owned());
        self.save()
    }

    /// Final state of a run whose steps have all been tried.
    pub(super) fn measured(&self) -> ExitState {
        if self.manifest.failures.is_empty() { ExitState::Done } else { ExitState::Failed }
    }

    /// Keeps the facts of a system, unless they are known, if only from another folder.
    pub(super) fn know_system(&mut self, name: &str, facts: SystemFacts) {
        let known = self.manifest.systems.get(name);
        if known.is_none_or(|known| !basis::system_changes(known, &facts).is_empty()) {
            self.manifest.systems.insert(name.to_owned(), facts);
        }
    }
}
