//! Repetitions in which the system said to be better was tried and failed: it sustained nothing there.
//!
//! That is a result and no gap: whoever could make red grey by a crash would be better off crashing.

use std::collections::BTreeSet;

use record::Verdict;

use crate::{
    format::number,
    judge::{
        Ruling,
        material::{Material, Place, Role},
    },
};

/// A repetition in which a system was tried at a point, and failed.
#[derive(Clone, Debug)]
pub(super) struct Died {
    system: String,
    number: u32,
    point: String,
    why: String,
}

impl Material<'_> {
    /// Whether a system was tried at a point in a repetition, and failed there, before the load or in it. What was not even tried
    /// says nothing about it. Only asked of the system said to be better: what the other one did there is no result.
    pub(super) fn died(&self, place: Place<'_>, number: u32, role: Role) -> Option<Died> {
        if role != Role::Better {
            return None;
        }
        let failure = self.failure(place, number).filter(|failure| !failure.untried);
        let why = match failure {
            Some(failure) => failure.reason.lines().next().unwrap_or_default(),
            None => self.verification.early_end(place.summary(number)?)?,
        };
        let Place { system, point, .. } = place;
        let [system, point, why] = [system, point, why].map(str::to_owned);
        Some(Died { system, number, point, why })
    }

    /// What decides a claim where a system sustained nothing in so many repetitions that its median is nothing, whatever its other
    /// repetitions and the other system come to; `None` where it is not.
    pub(super) fn mostly_died(&self, system: &str, died: &[Died]) -> Option<Ruling> {
        let planned = self.planned().count();
        let first = died.first().filter(|_| 2 * died.len() > planned)?;
        let (count, Died { point, why, .. }) = (died.len(), first);
        Some(Ruling::certainly_not_held(format!(
            "`{system}` failed at {point} in {count} of {planned} repetitions: {why}"
        )))
    }

    /// What is left of a ruling where a system failed in repetitions that the claim uses, and `value` was found against a bound. A
    /// bootstrap passes over what is rare, and a crash is no value that others make up for: nothing is held by it. Where most
    /// repetitions are so and the bound is not reached it is not held, however far the interval goes.
    pub(super) fn with_deaths(&self, ruling: Ruling, died: &[Died], (value, bound): (Option<f64>, f64)) -> Ruling {
        let Some(Died { system, .. }) = died.first() else { return ruling };
        let (planned, failed) = (self.planned().count(), died.iter().map(|died| died.number).collect::<BTreeSet<_>>());
        let is_short = value.is_none_or(|value| value < bound);
        let times = format!("`{system}` failed in {} of {planned} repetitions", failed.len());
        match ruling.verdict {
            Verdict::Held | Verdict::Inconclusive if is_short && 2 * failed.len() > planned => {
                Ruling::not_held(format!("{times}, and what was found is below {}: {}", number(bound), each(died)))
            }
            Verdict::Held => {
                let reason = format!("{times}, and no claim is held where it fails: {}", each(died));
                Ruling::new(Verdict::Inconclusive, reason)
            }
            _ => ruling,
        }
    }
}

/// Where and why, of each.
fn each(died: &[Died]) -> String {
    let each = died.iter().map(|Died { number, point, why, .. }| format!("{number} (at {point}: {why})"));
    each.collect::<Vec<_>>().join(", ")
}

/// What a reader must know of values among which such repetitions count as nothing.
pub(super) fn note(system: &str, died: &[Died]) -> Option<String> {
    (!died.is_empty())
        .then(|| format!("Repetitions in which `{system}` failed count as nothing sustained: {}.", each(died)))
}

impl Died {
    /// Why, in words.
    pub(super) fn reason(&self) -> String {
        format!("it failed: {}", self.why)
    }
}
