//! One-sided noise: other use of the machine, known or possible, while the operand that comes out worse was measured. It makes
//! that operand look worse than it is, so that no claim may be held by it.

use std::collections::BTreeSet;

use record::{Finding, Invariant, PointSummary};

use crate::evaluate::{data::RunData, operands::Operand};

/// Numbers of the repetitions whose values may be affected by noise.
#[derive(Default)]
struct NoisyRepetitions {
    /// The machine was not quiet.
    noisy: BTreeSet<u32>,
    /// Other use of the machine was not measured.
    unknown: BTreeSet<u32>,
}

impl RunData<'_> {
    /// The reason why noise keeps a claim with these operands from being held; `None` if none does. Only the repetitions that the
    /// values come from matter: noise in others changes none of them.
    pub(super) fn one_sided_noise(&self, subject: &Operand<'_>, reference: Option<&Operand<'_>>) -> Option<String> {
        // Noise makes a value worse. In a ratio this helps the claim if it is the reference; without a reference the
        // only value is judged.
        let (worse, other) = reference.map_or((subject, None), |reference| (reference, Some(subject)));
        let mut found = NoisyRepetitions::default();
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

    /// Returns true if the same repetition of the other operand had certainly no less of the same noise: then the noise does not
    /// explain the difference. The load generator's own use is never an excuse, because the subject may be given a higher rate.
    fn is_excused(&self, rule: &str, noisy: &PointSummary, other_operand: &Operand<'_>) -> bool {
        let share = |of: &PointSummary| self.verification.noise_share_ppm(rule, of);
        let no_less = |other: &PointSummary| {
            let known = share(noisy).zip(share(other));
            self.verification.noise(rule, other) == Finding::NotHeld
                // Upper bound against lower bound: the excuse must hold for certain.
                && known.is_some_and(|((_, most), (least, _))| least >= most)
        };
        let mut same = other_operand.from.iter().filter(|summary| summary.repetition == noisy.repetition);
        Invariant::NOISE_OF_OTHERS.contains(&rule) && same.any(|summary| no_less(summary))
    }
}
