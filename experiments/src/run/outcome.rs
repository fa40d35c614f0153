//! What becomes of a repetition that is begun: what was said of an earlier try is taken back, and one that failed leaves a
//! reason and no rows, so that it is neither counted nor forgotten.

use std::fs;

use anyhow::Context;
use record::{DiscardedTry, FailedRepetition, PointDir};

use crate::run::{Run, plan::Action, preparation, repetition::now};

/// A repetition in the manifest's notes.
#[must_use]
pub fn place(point: &PointDir) -> String {
    format!("{} {} repetition {}", point.system, point.point, point.repetition)
}

impl Run<'_> {
    /// A repetition is tried again: nothing that was said or kept of it holds any longer.
    pub(super) fn forget_outcome(&mut self, point: &PointDir) -> anyhow::Result<()> {
        self.manifest.failures.retain(|failure| !is_of(failure, point));
        let said = format!("{}: ", place(point));
        self.manifest.notes.retain(|note| !note.starts_with(&said));
        preparation::remove(&self.dir.failed(&point.system, &point.point, point.repetition))
    }

    /// Keeps in mind that an earlier try at a repetition counts as nothing, and why.
    pub(super) fn note_discarded(&mut self, action: &Action, reason: String) {
        let Action::Measure { system, point, repetition } = action else { return };
        let [system, point] = [system, point].map(Clone::clone);
        self.manifest.discarded.push(DiscardedTry { system, point, repetition: *repetition, at: now(), reason });
    }

    /// Keeps what a failed repetition left where nobody counts it; why it failed, with the paths as they are now.
    pub(super) fn keep_failure(&mut self, point: &PointDir, reason: &str) -> anyhow::Result<String> {
        let kept = self.dir.failed(&point.system, &point.point, point.repetition);
        let mut reason = reason.to_owned();
        if point.path.exists() {
            preparation::remove(&kept)?;
            fs::rename(&point.path, &kept).with_context(|| format!("keeping {}", point.path.display()))?;
            let (was, is) = (point.path.display().to_string(), kept.display().to_string());
            reason = reason.replace(&format!("{was}/"), &format!("{is}/"));
        }
        self.manifest.failures.retain(|failure| !is_of(failure, point));
        self.manifest.failures.push(FailedRepetition {
            system: point.system.clone(),
            point: point.point.clone(),
            repetition: point.repetition,
            reason: reason.clone(),
            untried: self.unable.contains_key(&point.system),
        });
        self.save()?;
        Ok(reason)
    }
}

fn is_of(failure: &FailedRepetition, point: &PointDir) -> bool {
    let of = (&failure.system, &failure.point, failure.repetition);
    of == (&point.system, &point.point, point.repetition)
}
