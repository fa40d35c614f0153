//! From repetitions to verdicts.
//!
//! A ratio is held only when both systems were measured often enough in valid repetitions, its interval is clear of 1,
//! the Mann-Whitney test agrees, and its median reaches the bound at this scale, whichever way failures count.

use rand::SeedableRng;
use rand_pcg::Pcg64;
use record::{Claims, JudgedClaim, Manifest, SCHEMA_VERSION, Verdict};
use stats::{Interval, mann_whitney, median, median_ratio_interval};

use crate::{
    claims::{self, Claim},
    format::number,
    series::{BOOTSTRAP_SEED, LEVEL, Series},
    statistic::Statistic,
};

/// Repetitions each side needs.
const REPETITIONS: usize = 5;
/// Two-sided p below which a difference is taken as one.
const SIGNIFICANCE: f64 = 0.01;

/// Judges every claim about the run's experiment.
pub(crate) fn judge(manifest: &Manifest, series: &[Series<'_>]) -> Claims {
    let claims = claims::about(&manifest.experiment);
    let judged = claims.into_iter().map(|claim| judged(claim, manifest, series)).collect();
    Claims { schema_version: SCHEMA_VERSION, claims: judged }
}

/// What was found about one ratio.
#[derive(Default)]
struct Ratio {
    median: Option<f64>,
    interval: Option<Interval>,
    p: Option<f64>,
}

fn judged(claim: Claim, manifest: &Manifest, series: &[Series<'_>]) -> JudgedClaim {
    let sides = sides(&claim, series);
    let ratio = match &sides {
        Ok((system, against)) => Statistic::find(&claim.statistic).map(|of| ratio(of, system, against)),
        Err(_) => None,
    };
    let (verdict, reason) = match &sides {
        Err(reason) => (Verdict::NotMeasured, reason.clone()),
        Ok((system, against)) => verdict(&claim, manifest, system, against),
    };
    let ratio = ratio.unwrap_or_default();
    JudgedClaim {
        id: claim.id,
        sentence: claim.sentence,
        source: claim.source,
        published: claim.published,
        statistic: claim.statistic,
        verdict,
        reason,
        ratio: ratio.median,
        interval: ratio.interval.map(|interval| (interval.lower, interval.upper)),
        p: ratio.p,
    }
}

/// The two systems' repetitions at the one point they share, or why there are none.
fn sides<'a, 'b>(claim: &Claim, series: &'b [Series<'a>]) -> Result<(&'b Series<'a>, &'b Series<'a>), String> {
    let of = |system: &str| -> Result<&'b Series<'a>, String> {
        let mut found = series.iter().filter(|series| series.system == system);
        let first = found.next().ok_or_else(|| format!("this run has no rows of `{system}`"))?;
        match found.next() {
            None => Ok(first),
            Some(_) => Err(format!("`{system}` has several points in this run; the claim is about one")),
        }
    };
    let (system, against) = (of(&claim.system)?, of(&claim.against)?);
    if system.point != against.point {
        return Err(format!(
            "`{}` ran point {}, `{}` point {}",
            system.system, system.point, against.system, against.point
        ));
    }
    Ok((system, against))
}

fn ratio(statistic: &Statistic, system: &Series<'_>, against: &Series<'_>) -> Ratio {
    let (below, above) = (system.values(statistic), against.values(statistic));
    let median = median(&above).zip(median(&below).filter(|below| *below > 0.0)).map(|(above, below)| above / below);
    Ratio {
        median,
        interval: median_ratio_interval(&above, &below, LEVEL, &mut Pcg64::seed_from_u64(BOOTSTRAP_SEED)),
        p: mann_whitney(&above, &below).map(|test| test.p),
    }
}

fn verdict(claim: &Claim, manifest: &Manifest, system: &Series<'_>, against: &Series<'_>) -> (Verdict, String) {
    let Some(bound) = claim.at_least.get(&manifest.scale) else {
        let scales: Vec<_> = claim.at_least.keys().map(String::as_str).collect();
        let reason = format!("claimed at scale {}; this run is at scale {}", scales.join(", "), manifest.scale);
        return (Verdict::NotMeasured, reason);
    };
    let (ours, theirs) = (system.repetitions.len(), against.repetitions.len());
    if ours.min(theirs) < REPETITIONS {
        return (Verdict::NotMeasured, format!("needs {REPETITIONS} repetitions of each, has {ours} and {theirs}"));
    }
    let repetitions = system.repetitions.iter().chain(&against.repetitions);
    if let Some(invalid) = repetitions.map(|result| &result.summary).find(|point| point.validity.valid != Some(true)) {
        let (system, repetition) = (&invalid.system, invalid.repetition);
        return (Verdict::Invalid, format!("{system}, repetition {repetition} is not known to be valid"));
    }
    let policies = [claim.statistic.clone(), format!("{}.drop", claim.statistic)];
    let failed = policies.iter().filter_map(|id| Statistic::find(id)).find_map(|statistic| {
        let reason = shortfall(&ratio(statistic, system, against), *bound)?;
        Some(format!("{}: {reason}", statistic.label))
    });
    match failed {
        Some(reason) => (Verdict::NotHeld, reason),
        None => (Verdict::Held, String::new()),
    }
}

/// What keeps a ratio from being held.
fn shortfall(ratio: &Ratio, bound: f64) -> Option<String> {
    let (Some(median), Some(interval), Some(p)) = (ratio.median, ratio.interval, ratio.p) else {
        return Some("the statistic is missing in some repetitions".to_owned());
    };
    if !interval.excludes(1.0) || p >= SIGNIFICANCE {
        return Some(format!("no difference seen (p = {})", number(p)));
    }
    (median < bound).then(|| format!("the ratio is {}, below {}", number(median), number(bound)))
}
