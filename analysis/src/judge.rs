//! From repetitions to verdicts.
//!
//! A ratio is held only when both systems were measured often enough in valid repetitions, its interval is clear of 1,
//! the Mann-Whitney test agrees, and its median reaches the bound at this scale, whichever way failures count.

mod sides;

use rand::SeedableRng;
use rand_pcg::Pcg64;
use record::{Claims, JudgedClaim, Manifest, RatioBeside, SCHEMA_VERSION, Verdict};
use stats::{Interval, mann_whitney, median, median_interval, median_ratio_interval};

use crate::{
    claims::{self, Claim},
    design::Design,
    format::number,
    judge::sides::{Material, Measure, Side},
    series::{BOOTSTRAP_SEED, LEVEL, Series},
    verification::Verification,
};

/// Repetitions each side needs.
const REPETITIONS: usize = 5;
/// Two-sided p below which a difference is taken as one.
const SIGNIFICANCE: f64 = 0.01;

/// Judges every claim about the run's experiment.
pub(crate) fn judge(
    manifest: &Manifest,
    design: &Design,
    series: &[Series<'_>],
    verification: &Verification,
) -> Claims {
    let claims = claims::about(&manifest.experiment);
    let material = Material { design, series, verification };
    let judged = claims.into_iter().map(|claim| judged(claim, &manifest.scale, &material)).collect();
    Claims { schema_version: SCHEMA_VERSION, claims: judged }
}

/// What was found of a claim.
#[derive(Default)]
struct Found {
    value: Option<f64>,
    interval: Option<Interval>,
    p: Option<f64>,
}

fn judged(claim: Claim, scale: &str, material: &Material<'_>) -> JudgedClaim {
    let measure = Measure::of(&claim);
    let sides = sides(&claim, &measure, material);
    let found = sides.as_ref().map(|(ours, theirs)| found(&measure, ours, theirs.as_ref())).unwrap_or_default();
    let (verdict, reason) = match &sides {
        Err(reason) => (Verdict::NotMeasured, reason.clone()),
        Ok((ours, theirs)) => verdict(&claim, scale, &measure, (ours, theirs.as_ref()), material),
    };
    let note = sides.as_ref().ok().and_then(|(_, theirs)| theirs.as_ref()?.note.clone()).unwrap_or_default();
    let beside = claim.beside.iter().map(|against| beside(&claim, &measure, against, material)).collect();
    JudgedClaim {
        unit: if claim.against.is_some() { "times" } else { measure.unit() }.to_owned(),
        id: claim.id,
        sentence: claim.sentence,
        source: claim.source,
        published: claim.published,
        criterion: String::new(),
        statistic: claim.statistic,
        verdict,
        reason,
        found: found.value,
        interval: found.interval.map(|interval| (interval.lower, interval.upper)),
        p: found.p,
        note,
        beside,
    }
}

/// The claim's system, and the one it is compared with if there is one; or why one of them has no values.
fn sides<'a>(
    claim: &Claim,
    measure: &Measure<'_>,
    material: &Material<'a>,
) -> Result<(Side<'a>, Option<Side<'a>>), String> {
    let ours = material.side(measure, &claim.system, false)?;
    let theirs = claim.against.as_ref().map(|against| material.side(measure, against, true)).transpose()?;
    if let Some(theirs) = theirs.as_ref().filter(|theirs| theirs.point != ours.point) {
        return Err(format!(
            "`{}` ran point {}, `{}` point {}",
            claim.system,
            ours.point,
            claim.against.as_deref().unwrap_or_default(),
            theirs.point
        ));
    }
    Ok((ours, theirs))
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

fn beside(claim: &Claim, measure: &Measure<'_>, against: &str, material: &Material<'_>) -> RatioBeside {
    let claim = Claim { against: Some(against.to_owned()), ..claim.clone() };
    match sides(&claim, measure, material) {
        Err(reason) => RatioBeside { against: against.to_owned(), ratio: None, interval: None, reason },
        Ok((ours, theirs)) => {
            let found = found(measure, &ours, theirs.as_ref());
            let interval = found.interval.map(|interval| (interval.lower, interval.upper));
            RatioBeside { against: against.to_owned(), ratio: found.value, interval, reason: String::new() }
        }
    }
}

fn verdict(
    claim: &Claim,
    scale: &str,
    measure: &Measure<'_>,
    (ours, theirs): (&Side<'_>, Option<&Side<'_>>),
    material: &Material<'_>,
) -> (Verdict, String) {
    let Some(bound) = claim.at_least.get(scale) else {
        let scales: Vec<_> = claim.at_least.keys().map(String::as_str).collect();
        let reason = format!("claimed at scale {}; this run is at scale {scale}", scales.join(", "));
        return (Verdict::NotMeasured, reason);
    };
    let few = ours.repetitions.min(theirs.map_or(usize::MAX, |theirs| theirs.repetitions)) < REPETITIONS;
    if few {
        let reason = match theirs {
            None => format!("needs {REPETITIONS} repetitions, has {}", ours.repetitions),
            Some(theirs) => {
                format!("needs {REPETITIONS} repetitions of each, has {} and {}", ours.repetitions, theirs.repetitions)
            }
        };
        return (Verdict::NotMeasured, reason);
    }
    if let Some(invalid) = [Some(ours), theirs].into_iter().flatten().find_map(|side| side.invalid.as_ref()) {
        return (Verdict::Invalid, invalid.clone());
    }
    // Only of the system said to be better must everything be proved: others do not tell all that the rules ask about.
    let systems = [(Some(&claim.system), claim.against.is_some()), (claim.against.as_ref(), false)];
    let refused = |(system, must_prove): (Option<&String>, bool)| material.unsound(measure, system?, must_prove);
    if let Some(refused) = systems.into_iter().find_map(refused) {
        return refused;
    }
    let failed = measure.whichever_way_failures_count().into_iter().find_map(|(label, measure)| {
        let reason = match sides(claim, &measure, material) {
            Err(reason) => reason,
            Ok((ours, theirs)) => shortfall(&found(&measure, &ours, theirs.as_ref()), *bound, theirs.is_some())?,
        };
        Some(format!("{label}: {reason}"))
    });
    match failed {
        Some(reason) => (Verdict::NotHeld, reason),
        None => (Verdict::Held, String::new()),
    }
}

/// What keeps a claim from being held.
fn shortfall(found: &Found, bound: f64, is_ratio: bool) -> Option<String> {
    let (Some(value), Some(interval)) = (found.value, found.interval) else {
        return Some("the statistic is missing in some repetitions".to_owned());
    };
    if is_ratio {
        let p = found.p.unwrap_or(1.0);
        if !interval.excludes(1.0) || p >= SIGNIFICANCE {
            return Some(format!("no difference seen (p = {})", number(p)));
        }
    }
    let what = if is_ratio { "the ratio" } else { "it" };
    (value < bound).then(|| format!("{what} is {}, below {}", number(value), number(bound)))
}
