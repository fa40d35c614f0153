//! Repetitions in which the system said to be better was tried and failed: it sustained nothing there.
//!
//! That is a result and no gap: whoever could make red grey by a crash would be better off crashing.

use crate::judge::{
    Ruling,
    material::{Material, Place},
};

/// A repetition in which a system was tried at a point, and failed.
#[derive(Clone, Debug)]
pub(super) struct Died {
    number: u32,
    point: String,
    why: String,
}

impl Material<'_> {
    /// Whether a system was tried at a point in a repetition, and failed there, before the load or in it. What was not even tried
    /// says nothing about it.
    pub(super) fn died(&self, place: Place<'_>, number: u32) -> Option<Died> {
        let failure = self.failure(place, number).filter(|failure| !failure.untried);
        let why = match failure {
            Some(failure) => failure.reason.lines().next().unwrap_or_default(),
            None => self.verification.early_end(place.summary(number)?)?,
        };
        Some(Died { number, point: place.point.to_owned(), why: why.to_owned() })
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
}

/// What a reader must know of values among which such repetitions count as nothing.
pub(super) fn note(system: &str, died: &[Died]) -> Option<String> {
    let each = died.iter().map(|Died { number, point, why }| format!("{number} (at {point}: {why})"));
    let each = each.collect::<Vec<_>>().join(", ");
    (!died.is_empty()).then(|| format!("Repetitions in which `{system}` failed count as nothing sustained: {each}."))
}

impl Died {
    /// Why, in words.
    pub(super) fn reason(&self) -> String {
        format!("it failed: {}", self.why)
    }
}
