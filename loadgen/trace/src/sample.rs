//! Samples: a few functions of a trace that look like all of them and whose execution fits a machine. Those of one seed
//! are nested.

mod search;

use serde::Serialize;

use crate::{
    ScheduleOptions, TraceError, Workload,
    quantity::{real, real_len},
    summary::mean_run_s,
};
use search::Search;

/// Requirements of a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleOptions {
    /// Number of active functions.
    pub functions: usize,
    /// Most cores of execution, on average over the window and over seeds of the schedule; `None` for no bound.
    pub max_cores: Option<f64>,
    /// Of the choice: another seed, another sample.
    pub seed: u64,
    /// Options of its schedule: the bounds on run times and the length of a minute decide its cost.
    pub schedule: ScheduleOptions,
}

/// Quality of a sample.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SampleReport {
    /// Number of active functions of the trace.
    pub active: usize,
    /// Number of functions chosen; all are active.
    pub functions: usize,
    /// Invocations of the sample.
    pub invocations: u64,
    /// Execution of the sample in cores, as it will be drawn, on average over seeds of the schedule.
    pub cores: f64,
    /// Execution of the whole trace in cores, likewise.
    pub source_cores: f64,
    /// Distance of the sample's per-minute counts from the trace's: Wasserstein-1 between the sorted counts of the
    /// functions in a minute, on average over the minutes, as a multiple of the trace's mean count.
    pub count_distance: f64,
    /// Distance of the distributions of invocations × mean run time × mean memory over the functions: Wasserstein-1, as a
    /// multiple of the trace's mean. It grows when few cores leave room for cheap functions only.
    pub resource_distance: f64,
    /// Distance of the distributions of invocations per minute in decades (0.3 is a factor of two on average), where rare
    /// functions weigh as much as busy ones.
    pub rate_decades: f64,
    /// The same for invocations × mean run time × mean memory.
    pub resource_decades: f64,
    /// True if samples of fewer functions with the same seed and cores are parts of this one, as far as they are nested
    /// themselves. Not when the cores left no room and cheap functions had to replace expensive ones.
    pub nested: bool,
}

/// Exactly [`SampleOptions::functions`] active functions of `workload` whose expected execution (count × mean run time
/// over the window) is at most [`SampleOptions::max_cores`]. They are chosen one after another, each so that the sample
/// so far is as near as possible to the whole in rates and resources; so a smaller sample of the same seed and cores is
/// a part of a larger one ([`SampleReport::nested`]). Names, counts and distributions stay, so each sampled function's
/// invocations are what they are in a schedule of the whole.
///
/// # Errors
/// [`TraceError::Sample`], saying what would be possible, when too few functions are active or the cheapest do not fit;
/// [`TraceError::Option`] when an option is outside its range.
pub fn sample(workload: &Workload, options: &SampleOptions) -> Result<(Workload, SampleReport), TraceError> {
    let (candidates, max_cores) = possible(workload, options)?;
    let mut search = Search::new(&candidates, options.seed, max_cores);
    let nested = search.choose(options.functions);
    let mut chosen = search.chosen;
    let distance = |side: usize| {
        let value = |candidate: &Candidate| candidate.sides[side];
        wasserstein(
            &sorted(chosen.iter().map(|&position| value(&candidates[position]))),
            &sorted(candidates.iter().map(value)),
        )
    };
    let report = SampleReport {
        active: candidates.len(),
        functions: chosen.len(),
        invocations: chosen.iter().map(|&position| workload.functions[candidates[position].index].total()).sum(),
        cores: chosen.iter().map(|&position| candidates[position].cores).sum(),
        source_cores: candidates.iter().map(|candidate| candidate.cores).sum(),
        count_distance: count_distance(workload, &candidates, &chosen),
        resource_distance: distance(Candidate::RESOURCE),
        rate_decades: distance(Candidate::RATE_DECADES),
        resource_decades: distance(Candidate::RESOURCE_DECADES),
        nested,
    };
    chosen.sort_by_key(|&position| candidates[position].index);
    let functions = chosen.iter().map(|&position| workload.functions[candidates[position].index].clone()).collect();
    Ok((Workload { functions, report: workload.report.clone(), ..*workload }, report))
}

/// Checks that there is such a sample, which takes less time than choosing it.
///
/// # Errors
/// As of [`sample`].
pub fn check_sample(workload: &Workload, options: &SampleOptions) -> Result<(), TraceError> {
    possible(workload, options).map(drop)
}

/// The candidates and the greatest number of cores; refuses impossible options.
fn possible(workload: &Workload, options: &SampleOptions) -> Result<(Vec<Candidate>, f64), TraceError> {
    let refused = |option, problem: &str| Err(TraceError::Option { option, problem: problem.to_owned() });
    let max_cores = options.max_cores.unwrap_or(f64::INFINITY);
    if options.functions == 0 {
        return refused("functions", "expected at least 1, found 0");
    }
    if max_cores.is_nan() || max_cores <= 0.0 || options.schedule.minute.is_zero() {
        return refused("max-cores", "expected cores above 0 and a minute above 0");
    }
    let candidates = candidates(workload, &options.schedule);
    check_possible(&candidates, options.functions, max_cores, workload.minutes)?;
    Ok((candidates, max_cores))
}

/// One active function, as far as sampling is concerned.
struct Candidate {
    /// Place in the workload.
    index: usize,
    /// Expected execution over the window, in cores.
    cores: f64,
    /// The distributions that are compared; see the constants.
    sides: [f64; Candidate::SIDES],
}

impl Candidate {
    const SIDES: usize = 4;
    /// Decimal logarithm of the invocations per minute.
    const RATE_DECADES: usize = 0;
    /// Decimal logarithm of invocations × mean run time × mean memory.
    const RESOURCE_DECADES: usize = 1;
    /// Invocations × mean run time × mean memory, as a multiple of its mean over the functions; the invocations
    /// themselves likewise are the side before it.
    const RESOURCE: usize = 3;
    /// Of each side in what is minimised. The last two are almost all of a few busy functions', and would drown the
    /// others.
    const WEIGHTS: [f64; Candidate::SIDES] = [1.0, 1.0, 0.1, 0.1];
}

/// The active functions, by rate, those of equal rate by name.
fn candidates(workload: &Workload, schedule: &ScheduleOptions) -> Vec<Candidate> {
    let window_s = schedule.minute.as_secs_f64() * f64::from(workload.minutes);
    let mut active: Vec<usize> = (0..workload.functions.len()).collect();
    active.retain(|&index| workload.functions[index].counts.iter().any(|&count| count > 0));
    active.sort_by_cached_key(|&index| (workload.functions[index].total(), workload.functions[index].name.clone()));
    let candidate = |index: usize| {
        let function = &workload.functions[index];
        let (total, run_s) = (real(function.total()), mean_run_s(function, schedule));
        // Memory below the least possible request counts as that, and no run is shorter than a microsecond.
        let resource = total * run_s.max(1e-6) * function.memory.mean_mib().max(1.0);
        let rate = total / f64::from(workload.minutes);
        Candidate { index, cores: total * run_s / window_s, sides: [rate.log10(), resource.log10(), rate, resource] }
    };
    let mut candidates: Vec<Candidate> = active.into_iter().map(candidate).collect();
    for side in [2, 3] {
        let mean = candidates.iter().map(|candidate| candidate.sides[side]).sum::<f64>() / real_len(candidates.len());
        candidates.iter_mut().for_each(|candidate| candidate.sides[side] /= mean);
    }
    candidates
}

/// [`SampleReport::count_distance`].
fn count_distance(workload: &Workload, candidates: &[Candidate], chosen: &[usize]) -> f64 {
    let (mut area, mut sum) = (0.0, 0.0);
    for minute in 0..workload.minutes as usize {
        let count = |candidate: &Candidate| f64::from(workload.functions[candidate.index].counts[minute]);
        let whole = sorted(candidates.iter().map(count));
        sum += whole.iter().sum::<f64>() / real_len(whole.len());
        area += wasserstein(&sorted(chosen.iter().map(|&position| count(&candidates[position]))), &whole);
    }
    // Both are sums over the same minutes; every candidate is active, so the second is not 0.
    area / sum
}

fn check_possible(candidates: &[Candidate], wanted: usize, max_cores: f64, minutes: u32) -> Result<(), TraceError> {
    let refused = |possible| Err(TraceError::Sample { functions: wanted, possible });
    if candidates.len() < wanted {
        return refused(format!("{} functions are active in these {minutes} minutes", candidates.len()));
    }
    let cheapest = sorted(candidates.iter().map(|candidate| candidate.cores));
    let needed: f64 = cheapest.iter().take(wanted).sum();
    if needed > max_cores {
        let mut left = max_cores;
        let fitting = cheapest.iter().take_while(|&&cores| {
            left -= cores;
            left >= 0.0
        });
        let possible = format!(
            "the {wanted} cheapest functions need {needed:.6} cores, at most {} functions fit {max_cores} cores",
            fitting.count()
        );
        return refused(possible);
    }
    Ok(())
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Wasserstein-1 distance of two samples, each sorted: the area between their quantile functions.
fn wasserstein(left: &[f64], right: &[f64]) -> f64 {
    let (mut area, mut share, mut at) = (0.0, 0.0, (0, 0));
    while at.0 < left.len() && at.1 < right.len() {
        let ends = (real_len(at.0 + 1) / real_len(left.len()), real_len(at.1 + 1) / real_len(right.len()));
        let end = ends.0.min(ends.1);
        area += (end - share) * (left[at.0] - right[at.1]).abs();
        share = end;
        at.0 += usize::from(ends.0 <= end);
        at.1 += usize::from(ends.1 <= end);
    }
    area
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_the_area_between_the_quantile_functions() {
        for (left, right, expected) in [
            (vec![1.0, 2.0], vec![1.0, 2.0], 0.0),
            (vec![0.0], vec![0.0, 1.0], 0.5),
            (vec![0.0, 1.0, 2.0], vec![5.0, 6.0, 7.0], 5.0),
            (vec![0.0, 0.0, 3.0], vec![1.0, 1.0], 4.0 / 3.0),
        ] {
            let distance = wasserstein(&left, &right);
            assert!((distance - expected).abs() < 1e-12, "{left:?} {right:?}: expected {expected}, found {distance}");
        }
    }
}
