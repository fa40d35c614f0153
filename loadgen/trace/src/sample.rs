//! Samples: a few functions of a trace that look like all of them and whose execution fits a machine.

use serde::Serialize;

use crate::{
    ScheduleOptions, TraceError, Workload,
    quantity::{real, real_len},
    stream::Stream,
    summary::mean_run_s,
};

/// Work spent on improving a sample, as comparisons of one function; about a second without optimisation.
const IMPROVEMENT: usize = 2_000_000;
/// Most improvements tried, for small samples.
const MOST_TRIES: usize = 20_000;

/// What a sample has to be.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleOptions {
    /// How many active functions.
    pub functions: usize,
    /// Most cores of execution, on average over the window and over seeds of the schedule; `None` for no bound.
    pub max_cores: Option<f64>,
    /// Of the choice: another seed, another sample.
    pub seed: u64,
    /// How it will be scheduled: the bounds on run times and the length of a minute decide what it costs.
    pub schedule: ScheduleOptions,
}

/// How good a sample is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SampleReport {
    /// How many active functions there were to choose from.
    pub active: usize,
    /// How many were chosen; all are active.
    pub functions: usize,
    /// Invocations of the sample.
    pub invocations: u64,
    /// Execution of the sample in cores, as it will be drawn, on average over seeds of the schedule.
    pub cores: f64,
    /// Execution of the whole trace in cores, likewise.
    pub source_cores: f64,
    /// Distance of the sample's distribution of invocations per minute from the trace's: Wasserstein-1 over the active
    /// functions, in decades (0.3 is a factor of two on average).
    pub rate_distance: f64,
    /// The same for invocations × mean run time × mean memory. It grows when few cores leave room for cheap functions
    /// only.
    pub resource_distance: f64,
}

/// Exactly [`SampleOptions::functions`] active functions of `workload` whose expected execution (count × mean run time
/// over the window) is at most [`SampleOptions::max_cores`], chosen to be as near as possible to the whole in the
/// distributions that [`SampleReport`] measures: first one from each of as many equal parts of the functions ordered by
/// rate, then exchanged as long as that brings it nearer. Names, counts and distributions stay, so each sampled
/// function's invocations are what they are in a schedule of the whole.
///
/// # Errors
/// [`TraceError::Sample`], saying what would be possible, when too few functions are active or the cheapest do not fit;
/// [`TraceError::Option`] when an option is outside its range.
pub fn sample(workload: &Workload, options: &SampleOptions) -> Result<(Workload, SampleReport), TraceError> {
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
    let mut search = Search::new(&candidates, options, max_cores);
    search.improve();
    let mut chosen = search.chosen;
    let distance = |value: fn(&Candidate) -> f64| {
        wasserstein(sorted(chosen.iter().map(|&place| value(&candidates[place]))), sorted(candidates.iter().map(value)))
    };
    let report = SampleReport {
        active: candidates.len(),
        functions: chosen.len(),
        invocations: chosen.iter().map(|&place| workload.functions[candidates[place].index].total()).sum(),
        cores: chosen.iter().map(|&place| candidates[place].cores).sum(),
        source_cores: candidates.iter().map(|candidate| candidate.cores).sum(),
        rate_distance: distance(|candidate| candidate.rate),
        resource_distance: distance(|candidate| candidate.resource),
    };
    chosen.sort_by_key(|&place| candidates[place].index);
    let functions = chosen.iter().map(|&place| workload.functions[candidates[place].index].clone()).collect();
    Ok((Workload { functions, report: workload.report.clone(), ..*workload }, report))
}

/// One active function, as far as sampling is concerned.
struct Candidate {
    /// Place in the workload.
    index: usize,
    /// Expected execution over the window, in cores.
    cores: f64,
    /// Decimal logarithm of the invocations per minute.
    rate: f64,
    /// Decimal logarithm of invocations × mean run time × mean memory.
    resource: f64,
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
        // Memory below what can be asked for counts as that, and no run is shorter than a microsecond.
        let resource = total * run_s.max(1e-6) * function.memory.mean_mib().max(1.0);
        let rate = (total / f64::from(workload.minutes)).log10();
        Candidate { index, cores: total * run_s / window_s, rate, resource: resource.log10() }
    };
    active.into_iter().map(candidate).collect()
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

/// A feasible choice that is made better step by step.
struct Search<'a> {
    candidates: &'a [Candidate],
    max_cores: f64,
    stream: Stream,
    chosen: Vec<usize>,
    taken: Vec<bool>,
    cores: f64,
    targets: [Vec<f64>; 2],
}

impl<'a> Search<'a> {
    /// One random function of each part, or, where that is too much, the cheapest of some parts, or of all functions.
    fn new(candidates: &'a [Candidate], options: &SampleOptions, max_cores: f64) -> Self {
        let mut stream = Stream::new(options.seed, "sample", &[]);
        let parts: Vec<_> =
            (0..options.functions).map(|part| bounds(part, options.functions, candidates.len())).collect();
        let mut chosen: Vec<usize> = parts.iter().map(|part| part.start + stream.index(part.len())).collect();
        let cheaper = |&left: &usize, &right: &usize| candidates[left].cores.total_cmp(&candidates[right].cores);
        let cheapest: Vec<usize> =
            parts.into_iter().map(|part| part.clone().min_by(cheaper).unwrap_or(part.start)).collect();
        let saving = |part: usize, chosen: &[usize]| candidates[chosen[part]].cores - candidates[cheapest[part]].cores;
        let mut order: Vec<usize> = (0..chosen.len()).collect();
        order.sort_by(|&left, &right| saving(right, &chosen).total_cmp(&saving(left, &chosen)));
        let mut cores = sum(candidates, &chosen);
        for part in order {
            if cores <= max_cores {
                break;
            }
            cores -= saving(part, &chosen);
            chosen[part] = cheapest[part];
        }
        if sum(candidates, &chosen) > max_cores {
            let mut all: Vec<usize> = (0..candidates.len()).collect();
            all.sort_by(cheaper);
            chosen = all.into_iter().take(options.functions).collect();
        }
        let mut taken = vec![false; candidates.len()];
        chosen.iter().for_each(|&place| taken[place] = true);
        let targets = [|candidate: &Candidate| candidate.rate, |candidate: &Candidate| candidate.resource]
            .map(|value| targets(&sorted(candidates.iter().map(value)), options.functions));
        Self { candidates, max_cores, stream, cores: sum(candidates, &chosen), chosen, taken, targets }
    }

    /// Exchanges one function for another, of similar rate or any, as long as tries last, whenever that brings the
    /// sample nearer to the whole and still fits.
    fn improve(&mut self) {
        let (length, all) = (self.chosen.len(), self.candidates.len());
        if length == all {
            return;
        }
        let mut distance = self.distance();
        for _ in 0..MOST_TRIES.min(IMPROVEMENT / length).max(1) {
            let position = self.stream.index(length);
            let (old, near) = (self.chosen[position], self.stream.unit() < 0.5);
            let new = if near { self.near(old) } else { self.stream.index(all) };
            let cores = self.cores - self.candidates[old].cores + self.candidates[new].cores;
            if self.taken[new] || cores > self.max_cores {
                continue;
            }
            self.chosen[position] = new;
            let changed = self.distance();
            if changed < distance {
                (self.taken[old], self.taken[new]) = (false, true);
                // Summed afresh, so that rounding does not add up over thousands of exchanges.
                (self.cores, distance) = (sum(self.candidates, &self.chosen), changed);
            } else {
                self.chosen[position] = old;
            }
        }
    }

    /// A place near `old` in the order of rates: within the width of one part on either side.
    fn near(&mut self, old: usize) -> usize {
        let width = (self.candidates.len() / self.chosen.len()).max(1);
        let low = old.saturating_sub(width);
        let high = (old + width + 1).min(self.candidates.len());
        low + self.stream.index(high - low)
    }

    /// Mean distance of the sample's ordered values from the targets, for rate and resource together.
    fn distance(&self) -> f64 {
        let values = [|candidate: &Candidate| candidate.rate, |candidate: &Candidate| candidate.resource];
        let each = values.into_iter().zip(&self.targets).map(|(value, targets)| {
            let own = sorted(self.chosen.iter().map(|&place| value(&self.candidates[place])));
            own.iter().zip(targets).map(|(own, target)| (own - target).abs()).sum::<f64>() / real_len(own.len())
        });
        each.sum()
    }
}

/// Cores of the chosen together.
fn sum(candidates: &[Candidate], chosen: &[usize]) -> f64 {
    chosen.iter().map(|&place| candidates[place].cores).sum()
}

/// The `part`-th of `parts` nearly equal parts of `0..length`.
fn bounds(part: usize, parts: usize, length: usize) -> std::ops::Range<usize> {
    // Through 128 bits: part × length need not fit a length.
    let edge = |part: usize| usize::try_from(part as u128 * length as u128 / parts as u128).unwrap_or(length);
    edge(part)..edge(part + 1)
}

/// The middle value of each of `parts` nearly equal parts of sorted values.
fn targets(values: &[f64], parts: usize) -> Vec<f64> {
    let middle = |part| {
        let part = bounds(part, parts, values.len());
        values[part.start + part.len() / 2]
    };
    (0..parts).map(middle).collect()
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Wasserstein-1 distance of two samples, each sorted: the area between their quantile functions.
fn wasserstein(left: Vec<f64>, right: Vec<f64>) -> f64 {
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
            let distance = wasserstein(left.clone(), right.clone());
            assert!((distance - expected).abs() < 1e-12, "{left:?} {right:?}: expected {expected}, found {distance}");
        }
    }

    #[test]
    fn parts_cover_everything_once() {
        for (parts, length) in [(1, 1), (3, 10), (7, 7), (20, 359)] {
            let covered: Vec<usize> = (0..parts).flat_map(|part| bounds(part, parts, length)).collect();
            assert_eq!(covered, (0..length).collect::<Vec<_>>(), "{parts} parts of {length}");
        }
    }
}
