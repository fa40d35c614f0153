//! Repetitions in which the subject of a claim was started and failed: it sustained nothing there.
//!
//! Such a repetition is a result and not a missing one: otherwise a system could turn "not held" into "not measured" by crashing.

use std::collections::BTreeSet;

use record::ClaimOutcome;

use crate::{
    evaluate::{
        Conclusion,
        data::{Role, RunData, SystemPoint},
    },
    format::number,
};

/// The failure of a system at a point in one repetition.
#[derive(Clone, Debug)]
pub(super) struct SystemFailure {
    system: String,
    number: u32,
    point: String,
    why: String,
}

impl RunData<'_> {
    /// The failure of the subject at a point in a repetition, before the load or during it; `None` if it did not fail or was not
    /// even started. `None` also in the role of the reference, whose failures are missing measurements: they must not favour the
    /// subject.
    pub(super) fn system_failure(
        &self,
        system_point: SystemPoint<'_>,
        number: u32,
        role: Role,
    ) -> Option<SystemFailure> {
        if role != Role::Subject {
            return None;
        }
        // One that was not started says nothing about the system.
        let failure = self.failure(system_point, number).filter(|failure| !failure.untried);
        let why = match failure {
            Some(failure) => failure.reason.lines().next().unwrap_or_default(),
            None => self.verification.early_end(system_point.summary(number)?)?,
        };
        let SystemPoint { system, point, .. } = system_point;
        let [system, point, why] = [system, point, why].map(str::to_owned);
        Some(SystemFailure { system, number, point, why })
    }

    /// Not held if the subject failed in most repetitions: its median is then zero, whatever its other repetitions and the
    /// reference come to.
    pub(super) fn mostly_failed(&self, system: &str, failures: &[SystemFailure]) -> Option<Conclusion> {
        let planned = self.planned().count();
        let first = failures.first().filter(|_| 2 * failures.len() > planned)?;
        let (count, SystemFailure { point, why, .. }) = (failures.len(), first);
        Some(Conclusion::certainly_not_held(format!(
            "`{system}` failed at {point} in {count} of {planned} repetitions: {why}"
        )))
    }

    /// Weakens a conclusion by the subject's failures in the repetitions that the claim uses, where the estimate is `value`. A
    /// bootstrap may not resample a rare failure, and other repetitions do not make up for a crash: the claim is not held then. If
    /// most repetitions failed and `value` is below `bound`, the claim is refuted whatever the interval.
    pub(super) fn with_system_failures(
        &self,
        conclusion: Conclusion,
        failures: &[SystemFailure],
        (value, bound): (Option<f64>, f64),
    ) -> Conclusion {
        let Some(SystemFailure { system, .. }) = failures.first() else { return conclusion };
        let (planned, failed) =
            (self.planned().count(), failures.iter().map(|failure| failure.number).collect::<BTreeSet<_>>());
        // Without a value nothing speaks for the claim.
        let is_short = value.is_none_or(|value| value < bound);
        let times = format!("`{system}` failed in {} of {planned} repetitions", failed.len());
        match conclusion.outcome {
            ClaimOutcome::Held | ClaimOutcome::Inconclusive if is_short && 2 * failed.len() > planned => {
                Conclusion::not_held(format!(
                    "{times}, and what was found is below {}: {}",
                    number(bound),
                    each(failures)
                ))
            }
            ClaimOutcome::Held => {
                let reason = format!("{times}, and no claim is held where it fails: {}", each(failures));
                Conclusion::new(ClaimOutcome::Inconclusive, reason)
            }
            _ => conclusion,
        }
    }
}

/// Repetition, point and reason of each failure.
fn each(failures: &[SystemFailure]) -> String {
    let each = failures.iter().map(|SystemFailure { number, point, why, .. }| format!("{number} (at {point}: {why})"));
    each.collect::<Vec<_>>().join(", ")
}

/// The note on values among which failed repetitions count as nothing sustained; `None` without failures.
pub(super) fn note(system: &str, failures: &[SystemFailure]) -> Option<String> {
    (!failures.is_empty())
        .then(|| format!("Repetitions in which `{system}` failed count as nothing sustained: {}.", each(failures)))
}

impl SystemFailure {
    pub(super) fn reason(&self) -> String {
        format!("it failed: {}", self.why)
    }
}
