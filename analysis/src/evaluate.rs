//! Evaluation of claims: from repetitions to outcomes.
//!
//! A claim is held only if everything it uses was measured often enough, in sound repetitions of a complete run, and the
//! lower end of its interval reaches the bound at this scale under both failure policies.

mod capacity;
mod conclusion;
mod cost;
mod data;
mod measure;
mod noise;
mod operands;
mod surely_failed;
mod system_failure;
#[cfg(test)]
mod tests;

use rand::SeedableRng;
use rand_pcg::Pcg64;
use record::{ClaimOutcome, Claims, EvaluatedClaim, Manifest, SCHEMA_VERSION, SecondaryRatio};
use stats::{mann_whitney, median, median_interval, median_ratio_interval};

use crate::{
    claims::{self, Claim},
    evaluate::{
        conclusion::{Conclusion, EffectEstimate},
        data::RunData,
        measure::Measure,
        operands::{Operand, operands},
    },
    format::number,
    plan::Plan,
    series::{BOOTSTRAP_SEED, CONFIDENCE, Series},
    verification::Verification,
};

/// Repetitions each operand needs: with four a side, the smallest p of a Mann-Whitney test is 0.029, which never reaches
/// significance.
const MIN_REPETITIONS: usize = 5;

/// Evaluates every claim about the run's experiment.
pub(crate) fn evaluate(manifest: &Manifest, series: &[Series<'_>], verification: &Verification) -> Claims {
    let claims = claims::about(&manifest.experiment);
    let data = RunData { manifest, plan: Plan::of(manifest), series, verification };
    let claims = claims.into_iter().map(|claim| evaluate_claim(claim, &data)).collect();
    Claims { schema_version: SCHEMA_VERSION, claims }
}

fn evaluate_claim(claim: Claim, data: &RunData<'_>) -> EvaluatedClaim {
    let measure = Measure::of(&claim);
    let (subject, reference) = operands(&claim, &measure, data);
    let estimate = estimate(&measure, &subject, reference.as_ref());
    let bound = claim.at_least.get(&data.manifest.scale).copied();
    let conclusion = match bound {
        Some(bound) => conclusion(&claim, (bound, &estimate), &measure, data, (&subject, reference.as_ref())),
        None => Conclusion::not_measured(no_bound_at(&claim, &data.manifest.scale)),
    };
    let of_what = if claim.against.is_some() { "of the ratio " } else { "" };
    let criterion = |bound: f64| format!("the lower end of the 95 % interval {of_what}is at least {}", number(bound));
    let notes = [Some(&subject), reference.as_ref()].into_iter().flatten().filter_map(|operand| operand.note.clone());
    let reported = [data.marked(&claim), data.noise_unmeasured(&claim), data.discarded(&claim)];
    let reported = reported.into_iter().flatten();
    let note = notes.chain(reported).collect::<Vec<_>>().join(" ");
    let secondary = claim.secondary.iter().map(|against| secondary_ratio(&claim, &measure, against, data)).collect();
    EvaluatedClaim {
        unit: if claim.against.is_some() { "times" } else { measure.unit() }.to_owned(),
        criterion: bound.map(criterion).unwrap_or_default(),
        id: claim.id,
        sentence: claim.sentence,
        source: claim.source,
        published: claim.published,
        statistic: claim.statistic,
        outcome: conclusion.outcome,
        reason: conclusion.reason,
        found: estimate.value,
        interval: estimate.interval.map(|interval| (interval.lower, interval.upper)),
        p: estimate.p,
        note,
        secondary,
    }
}

fn no_bound_at(claim: &Claim, scale: &str) -> String {
    let scales: Vec<_> = claim.at_least.keys().map(String::as_str).collect();
    format!("claimed at scale {}; this run is at scale {scale}", scales.join(", "))
}

fn estimate(measure: &Measure<'_>, subject: &Operand<'_>, reference: Option<&Operand<'_>>) -> EffectEstimate {
    // Seeded, so that the same run always has the same outcome.
    let mut random = Pcg64::seed_from_u64(BOOTSTRAP_SEED);
    let Some(reference) = reference else {
        let interval = median_interval(&subject.values, CONFIDENCE, &mut random);
        return EffectEstimate { value: median(&subject.values), interval, p: None };
    };
    let (above, below) = if measure.more_is_better() { (subject, reference) } else { (reference, subject) };
    let ratio = median(&above.values).zip(median(&below.values).filter(|below| *below > 0.0));
    EffectEstimate {
        value: ratio.map(|(above, below)| above / below),
        interval: median_ratio_interval(&above.values, &below.values, CONFIDENCE, &mut random),
        p: mann_whitney(&above.values, &below.values).map(|test| test.p),
    }
}

/// The ratio against another reference system, without an outcome.
fn secondary_ratio(claim: &Claim, measure: &Measure<'_>, against: &str, data: &RunData<'_>) -> SecondaryRatio {
    let claim = Claim { against: Some(against.to_owned()), ..claim.clone() };
    let (subject, reference) = operands(&claim, measure, data);
    let estimate = estimate(measure, &subject, reference.as_ref());
    let reason =
        Conclusion::decisive([Some(subject), reference].into_iter().flatten().filter_map(|operand| operand.conclusion));
    SecondaryRatio {
        against: against.to_owned(),
        ratio: estimate.value,
        interval: estimate.interval.map(|interval| (interval.lower, interval.upper)),
        reason: reason.filter(|_| estimate.value.is_none()).map(|conclusion| conclusion.reason).unwrap_or_default(),
    }
}

fn conclusion(
    claim: &Claim,
    (bound, estimate): (f64, &EffectEstimate),
    measure: &Measure<'_>,
    data: &RunData<'_>,
    (subject, reference): (&Operand<'_>, Option<&Operand<'_>>),
) -> Conclusion {
    if data.manifest.is_quick() {
        return Conclusion::not_measured("a quick run is no evidence");
    }
    if let Some(reason) = data.smaller_load(claim) {
        return Conclusion::not_measured(reason);
    }
    // Without the subject nothing is measured, even if the reference system is invalid: decide that first.
    if let Err(conclusion) = data.of(&claim.system) {
        return conclusion;
    }
    let conclusion = under_both_policies(claim, bound, measure, data);
    let conclusion = data.with_system_failures(conclusion, &subject.failures, (estimate.value, bound));
    // A smaller replay weakens an outcome; it must not hide an invalid repetition.
    let is_evaluated = !matches!(conclusion.outcome, ClaimOutcome::Invalid | ClaimOutcome::NotMeasured);
    let smaller = || data.smaller_replay(claim, measure).filter(|_| is_evaluated);
    let one_sided = || data.one_sided_noise(subject, reference).filter(|_| conclusion.outcome == ClaimOutcome::Held);
    match (smaller(), one_sided()) {
        (Some(reason), _) => Conclusion::not_measured(reason),
        (None, Some(reason)) => Conclusion::new(ClaimOutcome::Inconclusive, reason),
        (None, None) => conclusion,
    }
}

/// The conclusion that both failure policies support.
fn under_both_policies(claim: &Claim, bound: f64, measure: &Measure<'_>, data: &RunData<'_>) -> Conclusion {
    let penalised = under_policy(claim, bound, measure, data);
    let Some(dropped) = measure.failures_dropped() else { return penalised };
    let other = under_policy(claim, bound, &dropped, data);
    if matches!(penalised.outcome, ClaimOutcome::Invalid | ClaimOutcome::NotMeasured)
        || penalised.outcome == other.outcome
    {
        return penalised;
    }
    let words = |conclusion: &Conclusion| match conclusion.reason.as_str() {
        "" => conclusion.outcome.as_str().to_owned(),
        reason => format!("{} ({reason})", conclusion.outcome.as_str()),
    };
    // A claim that depends on the treatment of failures would let the policy be chosen by the result.
    Conclusion::not_held(format!("it is {} and {}", words(&penalised), words(&other)))
}

/// The conclusion under the failure policy of `measure`.
fn under_policy(claim: &Claim, bound: f64, measure: &Measure<'_>, data: &RunData<'_>) -> Conclusion {
    let (subject, reference) = operands(claim, measure, data);
    let conclusions =
        [Some(&subject), reference.as_ref()].into_iter().flatten().filter_map(|operand| operand.conclusion.clone());
    if let Some(conclusion) = Conclusion::decisive(conclusions) {
        return conclusion;
    }
    let conclusion =
        Conclusion::by_interval(&estimate(measure, &subject, reference.as_ref()), bound, reference.is_some());
    match conclusion.reason.as_str() {
        "" => conclusion,
        reason => Conclusion::new(conclusion.outcome, format!("{}: {reason}", measure.label())),
    }
}
