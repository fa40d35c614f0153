//! Whether a claim rests on a machine that others kept busy, or of which nobody knows what it did, while its adversary
//! was measured: that makes the adversary look worse than it is.

use std::collections::BTreeSet;

use record::{Finding, Invariant, PointSummary};

use crate::judge::{material::Material, sides::Side};

/// Repetitions that values come from, by their numbers.
#[derive(Default)]
struct Found {
    /// The machine was not quiet.
    noisy: BTreeSet<u32>,
    /// It is not known whether it was.
    unknown: BTreeSet<u32>,
}

impl Material<'_> {
    /// Why the noise of the machine keeps a claim from being held whose values are these; `None` where nothing does. Only the
    /// repetitions that the values come from are asked: noise elsewhere changes none of them.
    pub(super) fn one_sided_noise(&self, ours: &Side<'_>, theirs: Option<&Side<'_>>) -> Option<String> {
        let (worse, other) = theirs.map_or((ours, None), |theirs| (theirs, Some(ours)));
        let mut found = Found::default();
        for summary in &worse.from {
            let number = summary.repetition;
            for rule in Invariant::NOISE {
                let into = match self.verification.noise(rule, summary) {
                    Finding::Held => continue,
                    Finding::NotHeld => &mut found.noisy,
                    Finding::NotMeasured => &mut found.unknown,
                };
                if !other.is_some_and(|other| self.is_excused(rule, summary, other)) {
                    into.insert(number);
                }
            }
        }
        let system = worse.from.first().map_or("", |summary| summary.system.as_str());
        let list = |numbers: &BTreeSet<u32>| numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        if !found.noisy.is_empty() {
            let list = list(&found.noisy);
            return Some(format!(
                "the machine was not quiet while `{system}` was measured, in repetition {list}, and nothing excuses that: it may be the \
                 doing of others"
            ));
        }
        (!found.unknown.is_empty()).then(|| {
            let list = list(&found.unknown);
            format!(
                "it is not known what else used the machine while `{system}` was measured, in repetition {list}: it may be \
                 the doing of others"
            )
        })
    }

    /// Whether the same others surely used as much of the machine in the same repetition of the other side as they can have used
    /// here, or more: less of it explains less. Its own load is no excuse: more of it is what the side said to be better is given.
    fn is_excused(&self, rule: &str, noisy: &PointSummary, side: &Side<'_>) -> bool {
        let share = |of: &PointSummary| self.verification.noise_share_ppm(rule, of);
        let no_less = |other: &PointSummary| {
            let known = share(noisy).zip(share(other));
            self.verification.noise(rule, other) == Finding::NotHeld
                && known.is_some_and(|((_, most), (least, _))| least >= most)
        };
        let mut same = side.from.iter().filter(|summary| summary.repetition == noisy.repetition);
        Invariant::NOISE_OF_OTHERS.contains(&rule) && same.any(|summary| no_less(summary))
    }
}
