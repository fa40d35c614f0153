//! From repetitions to verdicts.
//!
//! A claim is held only when everything it uses was measured often enough, in sound repetitions of a whole run, and the
//! lower end of its interval reaches the bound at this scale, whichever way failures count.

mod capacity;
mod cost;
mod died;
mod failure;
mod material;
mod measure;
mod noise;
mod ruling;
mod sides;
#[cfg(test)]
mod tests;

use rand::SeedableRng;
use rand_pcg::Pcg64;
use record::{Claims, JudgedClaim, Manifest, RatioBeside, SCHEMA_VERSION, Verdict};
use stats::{mann_whitney, median, median_interval, median_ratio_interval};

use crate::{
    claims::{self, Claim},
    design::Design,
    format::number,
    judge::{
        material::Material,
        measure::Measure,
        ruling::{Found, Ruling},
        sides::{Side, sides},
    },
    series::{BOOTSTRAP_SEED, LEVEL, Series},
    verification::Verification,
};

/// Repetitions each side needs.
const REPETITIONS: usize = 5;

/// Judges every claim about the run's experiment.
pub(crate) fn judge(
    manifest: &Manifest,
    design: &Design,
    series: &[Series<'_>],
    verification: &Verification,
) -> Claims {
    let claims = claims::about(&manifest.experiment);
    let material = Material { manifest, design, series, verification };
    let judged = claims.into_iter().map(|claim| judged(claim, &material)).collect();
    Claims { schema_version: SCHEMA_VERSION, claims: judged }
}

fn judged(claim: Claim, material: &Material<'_>) -> JudgedClaim {
    let measure = Measure::of(&claim);
    let (ours, theirs) = sides(&claim, &measure, material);
    let found = found(&measure, &ours, theirs.as_ref());
    let bound = claim.at_least.get(&material.manifest.scale).copied();
    let ruling = match bound {
        Some(bound) => ruling(&claim, (bound, &found), &measure, material, (&ours, theirs.as_ref())),
        None => Ruling::not_measured(elsewhere(&claim, &material.manifest.scale)),
    };
    let what = if claim.against.is_some() { "of the ratio " } else { "" };
    let criterion = |bound: f64| format!("the lower end of the 95 % interval {what}is at least {}", number(bound));
    let notes = [Some(&ours), theirs.as_ref()].into_iter().flatten().filter_map(|side| side.note.clone());
    let told = [material.marked(&claim), material.noise_unmeasured(&claim), material.discarded(&claim)];
    let told = told.into_iter().flatten();
    let note = notes.chain(told).collect::<Vec<_>>().join(" ");
    let beside = claim.beside.iter().map(|against| beside(&claim, &measure, against, material)).collect();
    JudgedClaim {
        unit: if claim.against.is_some() { "times" } else { measure.unit() }.to_owned(),
        criterion: bound.map(criterion).unwrap_or_default(),
        id: claim.id,
        sentence: claim.sentence,
        source: claim.source,
        published: claim.published,
        statistic: claim.statistic,
        verdict: ruling.verdict,
        reason: ruling.reason,
        found: found.value,
        interval: found.interval.map(|interval| (interval.lower, interval.upper)),
        p: found.p,
        note,
        beside,
    }
}

fn elsewhere(claim: &Claim, scale: &str) -> String {
    let scales: Vec<_> = claim.at_least.keys().map(String::as_str).collect();
    format!("claimed at scale {}; this run is at scale {scale}", scales.join(", "))
}

fn found(measure: &Measure<'_>, ours: &Side<'_>, theirs: Option<&Side<'_>>) -> Found {
    let mut random = Pcg64::seed_from_u64(BOOTSTRAP_SEED);
    let Some(theirs) = theirs else {
        let interval = median_interval(&ours.values, LEVEL, &mut random);
        return Found { value: median(&ours.values), interval, p: None };
    };
    let (above, below) = if measure.more_is_better() { (ours, theirs) } else { (theirs, ours) };
    let ratio = median(&above.values).zip(median(&below.values).filter(|below| *below > 0.0));
    Found {
        value: ratio.map(|(above, below)| above / below),
        interval: median_ratio_interval(&above.values, &below.values, LEVEL, &mut random),
        p: mann_whitney(&above.values, &below.values).map(|test| test.p),
    }
}

/// The same ratio against another system, without a verdict.
fn beside(claim: &Claim, measure: &Measure<'_>, against: &str, material: &Material<'_>) -> RatioBeside {
    let claim = Claim { against: Some(against.to_owned()), ..claim.clone() };
    let (ours, theirs) = sides(&claim, measure, material);
    let found = found(measure, &ours, theirs.as_ref());
    let reason = Ruling::heaviest([Some(ours), theirs].into_iter().flatten().filter_map(|side| side.ruling));
    RatioBeside {
        against: against.to_owned(),
        ratio: found.value,
        interval: found.interval.map(|interval| (interval.lower, interval.upper)),
        reason: reason.filter(|_| found.value.is_none()).map(|ruling| ruling.reason).unwrap_or_default(),
    }
}

fn ruling(
    claim: &Claim,
    (bound, found): (f64, &Found),
    measure: &Measure<'_>,
    material: &Material<'_>,
    (ours, theirs): (&Side<'_>, Option<&Side<'_>>),
) -> Ruling {
    if material.manifest.is_quick() {
        return Ruling::not_measured("a quick run is no evidence");
    }
    if let Some(reason) = material.smaller_load(claim) {
        return Ruling::not_measured(reason);
    }
    // A claim about a system that is no part of the run is none about the run, whatever became of the other one.
    if let Err(ruling) = material.of(&claim.system) {
        return ruling;
    }
    let ruling = either_way(claim, bound, measure, material);
    let ruling = material.with_deaths(ruling, &ours.died, (found.value, bound));
    let is_judged = !matches!(ruling.verdict, Verdict::Invalid | Verdict::NotMeasured);
    let smaller = || material.smaller_replay(claim, measure).filter(|_| is_judged);
    let one_sided = || material.one_sided_noise(ours, theirs).filter(|_| ruling.verdict == Verdict::Held);
    match (smaller(), one_sided()) {
        (Some(reason), _) => Ruling::not_measured(reason),
        (None, Some(reason)) => Ruling::new(Verdict::Inconclusive, reason),
        (None, None) => ruling,
    }
}

/// Whichever way failures count.
fn either_way(claim: &Claim, bound: f64, measure: &Measure<'_>, material: &Material<'_>) -> Ruling {
    let penalised = of_measure(claim, bound, measure, material);
    let Some(dropped) = measure.failures_dropped() else { return penalised };
    let other = of_measure(claim, bound, &dropped, material);
    if matches!(penalised.verdict, Verdict::Invalid | Verdict::NotMeasured) || penalised.verdict == other.verdict {
        return penalised;
    }
    let words = |ruling: &Ruling| match ruling.reason.as_str() {
        "" => ruling.verdict.as_str().to_owned(),
        reason => format!("{} ({reason})", ruling.verdict.as_str()),
    };
    Ruling::not_held(format!("it is {} and {}", words(&penalised), words(&other)))
}

/// By one way in which failures count.
fn of_measure(claim: &Claim, bound: f64, measure: &Measure<'_>, material: &Material<'_>) -> Ruling {
    let (ours, theirs) = sides(claim, measure, material);
    let decided = [Some(&ours), theirs.as_ref()].into_iter().flatten().filter_map(|side| side.ruling.clone());
    if let Some(ruling) = Ruling::heaviest(decided) {
        return ruling;
    }
    let ruling = Ruling::by_interval(&found(measure, &ours, theirs.as_ref()), bound, theirs.is_some());
    match ruling.reason.as_str() {
        "" => ruling,
        reason => Ruling::new(ruling.verdict, format!("{}: {reason}", measure.label())),
    }
}
