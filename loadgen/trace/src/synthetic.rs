//! Synthetic traces: seeded, of a given [`Shape`], so that a comparison needs no download. The same seed gives the same
//! trace; each function draws from streams of its own.

mod shape;

use std::f64::consts::TAU;

use rand_distr::{Distribution, Exp1, Gamma, Poisson, StandardNormal};

pub use shape::{Curve, MAX_MINUTES, Pattern, Shape, Trigger};

use crate::{
    FunctionProfile, LoadReport, Memory, RunTime, TraceError, Workload, names,
    quantity::{real_len, whole_u32},
    stream::Stream,
};

const MINUTES_PER_DAY: u32 = 1440;
/// The busiest minute of the day: 15:00.
const PEAK_MINUTE: f64 = 900.0;
/// Periods of timers, in minutes: those that cron expressions usually have, and that the published trace shows.
const PERIODS: [u32; 13] = [1, 2, 3, 5, 10, 15, 20, 30, 60, 120, 240, 720, 1440];
/// No timer calls more often than twice per minute.
const TIMER_PER_DAY: f64 = 2880.0;
/// Variance over mean of the minute counts of [`Pattern::Bursty`]. In the 500-function Azure sample the quartiles are
/// 1, 3 and 11 for queues; a fixed ratio, whatever the rate, because busy functions vary less relative to their rate.
const BURST_DISPERSION: f64 = 8.0;
/// Logarithms of a function's percentiles over its median, as multiples of an exponential number of mean 1, from the
/// 500-function Azure sample: its quartiles of ln(p99/p50) are 0.5, 1.4 and 3.1 (exponential of mean 2: 0.6, 1.4, 2.8),
/// of ln(p50/p1) 0.1, 0.6 and 1.4 (mean 1: 0.3, 0.7, 1.4). The first three multiply one number, the last three another.
const RUN_SPREAD: [f64; 7] = [-1.2, -1.0, -0.35, 0.0, 0.44, 2.0, 2.6];
/// The same for memory, whose spread is a tenth of that.
const MEMORY_SPREAD: [f64; 8] = [-0.2, -0.12, -0.04, 0.0, 0.045, 0.13, 0.19, 0.3];

/// A trace of that shape, the same for the same shape and seed.
///
/// # Errors
/// [`TraceError::Option`] when the shape is not possible.
pub fn generate(shape: &Shape, seed: u64) -> Result<Workload, TraceError> {
    shape.check()?;
    let mut streams: Vec<Stream> =
        (0..shape.functions).map(|index| Stream::new(seed, "synthetic", &[&index.to_string()])).collect();
    let normals: Vec<f64> = streams.iter_mut().map(|stream| StandardNormal.sample(stream.generator())).collect();
    let shares = spread_evenly(&normals, &mut streams);
    let identities: Vec<[String; 3]> = (0..shape.functions).map(|index| identity(seed, index)).collect();
    let borrowed: Vec<[&str; 3]> = identities.iter().map(|parts| parts.each_ref().map(String::as_str)).collect();
    let mut functions = Vec::with_capacity(shape.functions);
    for (index, name) in names::labels(&borrowed).into_iter().enumerate() {
        let stream = &mut streams[index];
        let per_day = shape.per_day.at(shares[index]);
        let trigger = pick_trigger(shape, per_day, stream);
        let run_time = run_time(shape, normals[index], stream);
        let memory = memory(shape, stream);
        let [owner, app, function] = identities[index].clone();
        let counts = counts(shape, trigger.pattern, per_day, stream);
        functions.push(FunctionProfile {
            name,
            owner,
            app,
            function,
            trigger: trigger.name.clone(),
            counts,
            run_time,
            memory,
        });
    }
    let (minutes, first_minute) = (shape.minutes, shape.first_minute);
    Ok(Workload { functions, minutes, first_minute, report: LoadReport::default() })
}

/// The owner, application and function of a synthetic function, each of its own, as hashes like the trace's.
fn identity(seed: u64, index: usize) -> [String; 3] {
    ["owner", "app", "function"].map(|part| {
        let mut stream = Stream::new(seed, part, &[&index.to_string()]);
        let words = [(); 4].map(|()| format!("{:016x}", stream.below(u64::MAX)));
        words.concat()
    })
}

/// For each function its position in the order of the normals, as a share: one in each of so many equal parts of 0 to 1.
/// So even a small trace has its few busy functions, whatever the seed.
fn spread_evenly(normals: &[f64], streams: &mut [Stream]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..normals.len()).collect();
    order.sort_by(|&left, &right| normals[left].total_cmp(&normals[right]));
    let mut shares = vec![0.0; normals.len()];
    for (rank, &index) in order.iter().enumerate() {
        shares[index] = (real_len(rank) + streams[index].unit()) / real_len(normals.len());
    }
    shares
}

fn pick_trigger<'a>(shape: &'a Shape, per_day: f64, stream: &mut Stream) -> &'a Trigger {
    let all_periodic = shape.triggers.iter().all(|trigger| trigger.pattern == Pattern::Periodic);
    let fits = |trigger: &&Trigger| all_periodic || per_day <= TIMER_PER_DAY || trigger.pattern != Pattern::Periodic;
    let sum: f64 = shape.triggers.iter().filter(fits).map(|trigger| trigger.share).sum();
    let mut left = stream.unit() * sum;
    let mut fitting = shape.triggers.iter().filter(fits);
    let found = fitting.find(|trigger| {
        left -= trigger.share;
        left < 0.0
    });
    found.unwrap_or(&shape.triggers[0])
}

/// The average is log-normal and correlated with the rate; the percentiles spread around it.
fn run_time(shape: &Shape, rate_normal: f64, stream: &mut Stream) -> RunTime {
    let own: f64 = StandardNormal.sample(stream.generator());
    let correlation = shape.rate_run_correlation;
    let normal = correlation * rate_normal + (1.0 - correlation * correlation).sqrt() * own;
    let limit_ms = shape.run_limit_s * 1000.0;
    let average_ms = ((shape.run_log_mean + shape.run_log_sd * normal).exp() * 1000.0).min(limit_ms);
    let shares = spread_by(&RUN_SPREAD, shape.run_spread, stream);
    let unscaled = RunTime::new(shares).expect("powers of e in rising order, far below the limit");
    let median_ms = average_ms / unscaled.mean_ms();
    // Microseconds: the unit of a schedule, and short in a file.
    let values_ms = shares.map(|share| ((share * median_ms).min(limit_ms) * 1000.0).round() / 1000.0);
    let mut run_time = RunTime::new(values_ms).expect("rising values, held below the limit");
    run_time.average_ms = Some(run_time.mean_ms());
    run_time
}

fn memory(shape: &Shape, stream: &mut Stream) -> Memory {
    let median_mib = shape.memory_mib.at(stream.unit());
    let shares = spread_by(&MEMORY_SPREAD, 1.0, stream);
    let values_mib = shares.map(|share| (share * median_mib * 1000.0).round() / 1000.0);
    Memory::new(values_mib).expect("rising values; the shape's bound leaves room for the spread")
}

/// e to each multiple of an exponential number; one number below the median, another above.
fn spread_by<const N: usize>(multiples: &[f64; N], factor: f64, stream: &mut Stream) -> [f64; N] {
    /// e^4.5 is the 99th percentile's greatest distance from the median: what nine in ten functions stay within.
    const MAX_EXPONENTIAL: f64 = 4.0;
    let mut exponential = || {
        let number: f64 = Exp1.sample(stream.generator());
        number.min(MAX_EXPONENTIAL) * factor
    };
    let (below, above) = (exponential(), exponential());
    multiples.map(|multiple| (multiple * if multiple < 0.0 { below } else { above }).exp())
}

fn counts(shape: &Shape, pattern: Pattern, per_day: f64, stream: &mut Stream) -> Vec<u32> {
    let clock = |minute: u32| (shape.first_minute - 1).saturating_add(minute);
    let mut counts: Vec<u32> = match pattern {
        Pattern::Periodic => {
            let period = nearest_period(per_day);
            (0..shape.minutes).map(|minute| u32::from(clock(minute) % period == 0)).collect()
        }
        Pattern::Poisson | Pattern::Bursty => {
            let per_minute = per_day / f64::from(MINUTES_PER_DAY);
            let mut count = |minute| {
                let mean = per_minute * by_day(shape.diurnal_swing, clock(minute));
                let mean = if pattern == Pattern::Bursty { burst(mean, stream) } else { mean };
                poisson(mean, stream)
            };
            (0..shape.minutes).map(&mut count).collect()
        }
    };
    if shape.all_active && counts.iter().all(|&count| count == 0) {
        let minute = stream.index(counts.len());
        counts[minute] = 1;
    }
    counts
}

/// The period whose rate is nearest on a logarithmic scale.
fn nearest_period(per_day: f64) -> u32 {
    let wanted = f64::from(MINUTES_PER_DAY) / per_day;
    let distance = |period: u32| (f64::from(period) / wanted).ln().abs();
    let nearest = PERIODS.into_iter().min_by(|&left, &right| distance(left).total_cmp(&distance(right)));
    nearest.unwrap_or(MINUTES_PER_DAY)
}

/// The rate at this minute over its mean: a cosine with its peak in the afternoon.
fn by_day(swing: f64, minute: u32) -> f64 {
    1.0 + swing * (TAU * (f64::from(minute) - PEAK_MINUTE) / f64::from(MINUTES_PER_DAY)).cos()
}

/// A minute's own mean: gamma-distributed around `mean`, so that the counts' variance is [`BURST_DISPERSION`] times it.
fn burst(mean: f64, stream: &mut Stream) -> f64 {
    let scale = BURST_DISPERSION - 1.0;
    // At night a full swing leaves no rate at all, which is no gamma distribution to the library.
    Gamma::new(mean / scale, scale).map_or(0.0, |gamma| gamma.sample(stream.generator()))
}

fn poisson(mean: f64, stream: &mut Stream) -> u32 {
    // A mean of zero (a still minute of a bursty function) is no Poisson distribution to the library.
    Poisson::new(mean).map_or(0, |poisson| whole_u32(poisson.sample(stream.generator())))
}
