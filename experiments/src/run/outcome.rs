//! Outcome of a repetition that is tried: the record of an earlier try stays until it is replaced. A failed repetition
//! leaves a reason and no rows, so that it is neither counted nor forgotten. If the system failed, that is its result,
//! and it is tried again only if a dependency has changed: otherwise a user could interrupt and resume a run until it
//! has no failure.

use std::fs;

use anyhow::Context;
use record::{DiscardedTry, FailedRepetition, PointDir};
use serde::{Deserialize, Serialize};

use crate::{
    exit::SystemFailed,
    run::{
        environment::Environment,
        plan::{Action, Step, StepState},
        preparation,
        repetition::now,
        state::RunState,
    },
};

/// The record of a repetition whose result is that the system failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// SHA-256 of everything the failure depends on.
    pub fingerprint: String,
    /// True if the failure need not be preserved any longer, because a dependency had changed and the user had the
    /// repetition measured again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub set_aside: bool,
}

impl Step {
    /// Records that the system failed; the result depends on `fingerprint`.
    pub fn fail(&mut self, fingerprint: String) {
        self.state = StepState::Failed;
        self.failed = Some(Failed { fingerprint: fingerprint.clone(), set_aside: false });
        self.fingerprint = Some(fingerprint);
    }

    /// The recorded failures of the system. Plans from before this record have the last try only.
    #[must_use]
    pub fn failed_with(&self) -> Failed {
        let last = || self.fingerprint.clone().filter(|_| self.state == StepState::Failed);
        let of_last = || Failed { fingerprint: last().unwrap_or_default(), set_aside: false };
        self.failed.clone().unwrap_or_else(of_last)
    }
}

/// A repetition in the manifest's notes.
#[must_use]
pub fn place(point: &PointDir) -> String {
    format!("{} {} repetition {}", point.system, point.point, point.repetition)
}

impl RunState {
    /// Removes the failure and files of earlier tries after a repetition was measured. If something cannot be removed, that
    /// is only noted: the measurement is valid all the same.
    pub(super) fn forget_outcome(&mut self, point: &PointDir) {
        self.discard_failure(point);
        let (system, name, number) = (&point.system, &point.point, point.repetition);
        for folder in [self.dir.failed(system, name, number), self.dir.replaced(system, name, number)] {
            if let Err(error) = preparation::remove(&folder) {
                self.manifest.notes.push(format!("{}: {error:#}", place(point)));
            }
        }
    }

    /// Removes the notes of an earlier try at a repetition.
    pub(super) fn take_back_notes(&mut self, point: &PointDir) {
        let said = format!("{}: ", place(point));
        self.manifest.notes.retain(|note| !note.starts_with(&said));
    }

    /// Records that an earlier try at a repetition is discarded, and why.
    pub(super) fn note_discarded(&mut self, action: &Action, reason: String) {
        let Action::Measure { system, point, repetition } = action else { return };
        let [system, point] = [system, point].map(Clone::clone);
        self.manifest.discarded.push(DiscardedTry { system, point, repetition: *repetition, at: now(), reason });
    }

    /// The recorded failure of a repetition, if the repetition had been begun: then it has left files.
    fn begun(&self, point: &PointDir) -> Option<&FailedRepetition> {
        let left = self.dir.failed(&point.system, &point.point, point.repetition);
        let mut failures = self.manifest.failures.iter().filter(|failure| is_of(failure, point));
        failures.find(|failure| !failure.untried || left.exists())
    }

    /// The system failure that is the result of a repetition.
    pub(super) fn failed(&self, point: &PointDir) -> Option<&FailedRepetition> {
        self.manifest.failures.iter().find(|failure| is_of(failure, point) && !failure.untried)
    }

    /// Preserves a system's failure as the result of a repetition. An interrupted later try is discarded.
    pub(super) fn let_failure_stand(
        &mut self,
        index: usize,
        point: &PointDir,
        fingerprint: String,
    ) -> anyhow::Result<()> {
        let step = &self.plan.steps[index];
        if let Some(why) = step.discards() {
            let action = step.action.clone();
            self.note_discarded(&action, why);
        }
        preparation::remove(&point.path)?;
        self.plan.steps[index].fail(fingerprint);
        Ok(())
    }

    /// Removes a recorded failure, because another result replaces it. A try that was not begun leaves no trace.
    fn discard_failure(&mut self, point: &PointDir) {
        if let Some(failure) = self.begun(point) {
            let reason = failure.reason.clone();
            self.note_failed(point, &reason);
        }
        self.manifest.failures.retain(|failure| !is_of(failure, point));
    }

    /// Records that a failed try at a repetition is discarded.
    fn note_failed(&mut self, point: &PointDir, reason: &str) {
        let [system, name] = [&point.system, &point.point].map(Clone::clone);
        let why = reason.lines().next().unwrap_or("nobody knows why");
        let action = Action::Measure { system, point: name, repetition: point.repetition };
        self.note_discarded(&action, format!("it failed: {why}"));
    }

    /// Moves the files of a failed repetition to where no analysis reads them, and returns the reason with the new paths. An
    /// error that is not the system's says nothing about the system, so it replaces no recorded failure of it; nor does one
    /// of a repetition that was not begun replace one of a repetition that was. The later try is listed as discarded then.
    pub(super) fn keep_failure(
        &mut self,
        index: usize,
        point: &PointDir,
        error: &anyhow::Error,
    ) -> anyhow::Result<String> {
        let kept = self.dir.failed(&point.system, &point.point, point.repetition);
        let (mut reason, untried) = (format!("{error:#}"), !error.is::<SystemFailed>());
        let stays = |failure: &FailedRepetition| !failure.untried || !point.path.exists();
        if untried && self.begun(point).is_some_and(stays) {
            if point.path.exists() {
                self.note_failed(point, &reason);
            }
            preparation::remove(&point.path)?;
            self.save()?;
            return Ok(reason);
        }
        self.discard_failure(point);
        if point.path.exists() {
            preparation::remove(&kept)?;
            fs::rename(&point.path, &kept).with_context(|| format!("keeping {}", point.path.display()))?;
            let (was, is) = (point.path.display().to_string(), kept.display().to_string());
            reason = reason.replace(&format!("{was}/"), &format!("{is}/"));
        }
        self.manifest.failures.push(failure(point, reason.clone(), untried));
        let step = &mut self.plan.steps[index];
        if let Some(fingerprint) = step.fingerprint.clone().filter(|_| !untried) {
            step.fail(fingerprint);
        }
        self.save()?;
        Ok(reason)
    }

    /// The reason not to try a repetition that has no rows; `None` if it is to be tried. Either the system failed in
    /// it, and no dependency of that result has changed; or it cannot be tried here. The latter says nothing about the
    /// system, so that it replaces neither rows nor a failure on record.
    pub(super) fn untried(
        &mut self,
        index: usize,
        action: &Action,
        environment: &Environment,
    ) -> anyhow::Result<Option<String>> {
        let Action::Measure { system, point, repetition } = action else { return Ok(None) };
        let point = self.dir.point(system, point, *repetition);
        let Some(why) = environment.unable(system) else {
            let stands = !self.plan.steps[index].failed_with().set_aside;
            let failed = self.failed(&point).filter(|_| stands);
            let why = failed.and_then(|failure| failure.reason.lines().next());
            return Ok(why.map(|why| format!("{} failed, which is its result: {why}", place(&point))));
        };
        if self.plan.steps[index].state == StepState::Done && point.invocations().is_file() {
            return Ok(None);
        }
        if self.begun(&point).is_none() {
            self.manifest.failures.retain(|failure| !is_of(failure, &point));
            self.manifest.failures.push(failure(&point, why.to_owned(), true));
            self.save()?;
        }
        Ok(Some(format!("{system}: {why}")))
    }
}

fn failure(point: &PointDir, reason: String, untried: bool) -> FailedRepetition {
    let [system, name] = [&point.system, &point.point].map(Clone::clone);
    FailedRepetition { system, point: name, repetition: point.repetition, reason, untried }
}

fn is_of(failure: &FailedRepetition, point: &PointDir) -> bool {
    let of = (&failure.system, &failure.point, failure.repetition);
    of == (&point.system, &point.point, point.repetition)
}
