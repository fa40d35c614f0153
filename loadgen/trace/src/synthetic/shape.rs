//! The shape of a synthetic trace: distributions over functions, and presets of them with their sources.

use serde::Serialize;

use crate::TraceError;

/// Names of the presets, the default first.
pub(super) const PRESETS: [&str; 4] = ["azure", "azure-sample", "timers", "steady"];
/// Most minutes of a synthetic trace: two weeks.
pub const MAX_MINUTES: u32 = 20_160;
/// Most counts (functions × minutes) held: 400 MB.
const MAX_COUNTS: u64 = 100_000_000;
/// Greatest rate of one function, per day: 100,000 per second, beyond any platform's limit for one function.
const MAX_PER_DAY: f64 = 8.64e9;

/// A distribution as points (share of functions, value), with straight lines between them on a logarithmic scale.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve(pub Vec<(f64, f64)>);

impl Curve {
    /// The same value for every function.
    #[must_use]
    pub fn constant(value: f64) -> Self {
        Self(vec![(0.0, value), (1.0, value)])
    }

    /// The value at `share` (0 to 1) of the functions.
    #[must_use]
    pub fn at(&self, share: f64) -> f64 {
        let upper = self.0.iter().position(|&(at, _)| share <= at).unwrap_or(self.0.len() - 1);
        let ((from, low), (to, high)) = (self.0[upper.saturating_sub(1)], self.0[upper]);
        let part = if to > from { ((share - from) / (to - from)).clamp(0.0, 1.0) } else { 1.0 };
        low * (high / low).powf(part)
    }

    fn is_valid(&self, greatest: f64) -> bool {
        let rising = |pair: &[(f64, f64)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
        let ends =
            self.0.first().is_some_and(|first| first.0 <= 0.0) && self.0.last().is_some_and(|last| last.0 >= 1.0);
        let in_range = |&(share, value): &(f64, f64)| share.is_finite() && value > 0.0 && value <= greatest;
        ends && self.0.iter().all(in_range) && self.0.windows(2).all(rising)
    }
}

/// The pattern of a function's invocations from minute to minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// Once per period, on the clock: all functions of one period in the same minute.
    Periodic,
    /// Independent calls, more by day than by night.
    Poisson,
    /// As `Poisson`, with a rate that changes from minute to minute: the counts' variance is eight times their mean.
    Bursty,
}

/// One kind of trigger.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trigger {
    /// Its name in the trace.
    pub name: String,
    /// Its share of the functions; shares are relative to their sum.
    pub share: f64,
    /// Pattern of its invocations.
    pub pattern: Pattern,
}

/// The shape of a synthetic trace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shape {
    /// Number of functions.
    pub functions: usize,
    /// Number of minutes.
    pub minutes: u32,
    /// Label of the first minute; 1 is midnight. It decides the time of day of the trace.
    pub first_minute: u32,
    /// Invocations per day over the functions.
    pub per_day: Curve,
    /// Kinds of triggers. Periodic ones are not given to functions of more than two calls per minute.
    pub triggers: Vec<Trigger>,
    /// Mean of the natural logarithm of a function's average run time in seconds.
    pub run_log_mean: f64,
    /// Standard deviation of that logarithm.
    pub run_log_sd: f64,
    /// No run is longer, in seconds.
    pub run_limit_s: f64,
    /// Correlation of the logarithms of rate and run time: below 0, busy functions are short.
    pub rate_run_correlation: f64,
    /// Variation of the run times of one function: 1 as in the published trace, 0 none.
    pub run_spread: f64,
    /// Median memory over the functions, in MiB.
    pub memory_mib: Curve,
    /// Daily swing of the rate around its mean: 0.3 is from 70 % at 3:00 to 130 % at 15:00.
    pub diurnal_swing: f64,
    /// A function without any invocation is given one.
    pub all_active: bool,
}

impl Shape {
    /// Names of the presets, the default first.
    pub const PRESETS: [&'static str; 4] = PRESETS;

    /// The preset of that name, with 500 functions and 60 minutes from 9:00 on.
    ///
    /// # Errors
    /// [`TraceError::Option`] when there is none of that name.
    pub fn preset(name: &str) -> Result<Self, TraceError> {
        match name {
            "azure" => Ok(Self::azure()),
            "azure-sample" => Ok(Self::azure_sample()),
            "timers" => Ok(Self::timers()),
            "steady" => Ok(Self::steady()),
            other => {
                let problem = format!("expected one of {}, found {other:?}", PRESETS.join(", "));
                Err(TraceError::Option { option: "synthetic", problem })
            }
        }
    }

    /// The whole Azure trace as "Serverless in the Wild" (Shahrad et al., USENIX ATC 2020) publishes it.
    ///
    /// Rates: 45 % of the applications are called at most once per hour, 81 % at most once per minute; taken for
    /// functions, since most applications have one. The log-normal line through these two points gives the others, up
    /// to 100 per second; so the busiest fifth has more than 99 % of all invocations, as published. Triggers: the
    /// published share of functions by trigger. Run times: the published log-normal fit of the averages, log-mean −0.38
    /// and σ 2.36 in seconds, at most 10 minutes. Memory: the published Burr fit, c = 11.652, k = 0.221, λ = 107.083
    /// MB, at most the platform's 1,536 MiB. Not in the paper, and measured on the 500-function sample of the same
    /// trace that comes with InVitro: the correlation of rate and run time, −0.3, and the spread within a function. The
    /// daily swing is an assumption.
    #[must_use]
    pub fn azure() -> Self {
        let per_day = [
            (0.0, 0.07),
            (0.1, 0.216),
            (0.25, 2.55),
            (0.45, 24.0),
            (0.81, 1440.0),
            (0.9, 7_400.0),
            (0.95, 32_800.0),
            (0.99, 527_000.0),
            (1.0, 8_640_000.0),
        ];
        let shares = [0.55, 0.156, 0.152, 0.069, 0.028, 0.022, 0.022];
        Self {
            functions: 500,
            minutes: 60,
            first_minute: 541,
            per_day: Curve(per_day.to_vec()),
            triggers: triggers(shares),
            run_log_mean: -0.38,
            run_log_sd: 2.36,
            run_limit_s: 600.0,
            rate_run_correlation: -0.3,
            run_spread: 1.0,
            memory_mib: burr_mib(),
            diurnal_swing: 0.3,
            all_active: false,
        }
    }

    /// The 500-function sample of the Azure trace that comes with InVitro and that the published comparison uses, by
    /// its measured percentiles: all functions active, half of them timers, memory shared among an application's
    /// functions.
    #[must_use]
    pub fn azure_sample() -> Self {
        let per_day = [
            (0.0, 3.0),
            (0.1, 4.0),
            (0.25, 24.0),
            (0.5, 144.0),
            (0.75, 546.0),
            (0.9, 2_877.0),
            (0.95, 17_200.0),
            (0.99, 225_000.0),
            (1.0, 5_750_000.0),
        ];
        let memory_mib = [
            (0.0, 1.6),
            (0.05, 5.4),
            (0.25, 23.4),
            (0.5, 56.0),
            (0.75, 123.5),
            (0.9, 185.0),
            (0.95, 201.0),
            (0.99, 270.0),
            (1.0, 400.0),
        ];
        Self {
            per_day: Curve(per_day.to_vec()),
            triggers: triggers([0.278, 0.494, 0.138, 0.05, 0.01, 0.028, 0.002]),
            memory_mib: Curve(memory_mib.to_vec()),
            diurnal_swing: 0.05,
            all_active: true,
            ..Self::azure()
        }
    }

    /// Timers only, once per minute to once per day: many functions start together, which is the hardest case for
    /// creation.
    #[must_use]
    pub fn timers() -> Self {
        let timer = Trigger { name: "timer".to_owned(), share: 1.0, pattern: Pattern::Periodic };
        let per_day = Curve(vec![(0.0, 1.0), (0.25, 24.0), (0.5, 288.0), (1.0, 1440.0)]);
        Self { per_day, triggers: vec![timer], diurnal_swing: 0.0, ..Self::azure() }
    }

    /// Every function alike: one call per second as a Poisson process, 100 ms each, 128 MiB.
    #[must_use]
    pub fn steady() -> Self {
        Self {
            per_day: Curve::constant(86_400.0),
            triggers: vec![Trigger { name: "http".to_owned(), share: 1.0, pattern: Pattern::Poisson }],
            run_log_mean: 0.1_f64.ln(),
            run_log_sd: 0.0,
            run_spread: 0.0,
            memory_mib: Curve::constant(128.0),
            diurnal_swing: 0.0,
            ..Self::azure()
        }
    }

    /// Refuses what cannot be generated.
    ///
    /// # Errors
    /// [`TraceError::Option`], as of [`super::generate`].
    pub fn check(&self) -> Result<(), TraceError> {
        let refused = |option, problem: String| Err(TraceError::Option { option, problem });
        if self.functions == 0 {
            return refused("functions", "expected at least 1, found 0".to_owned());
        }
        if !(1..=MAX_MINUTES).contains(&self.minutes) {
            return refused(
                "minutes",
                format!("expected 1 to {MAX_MINUTES} of a synthetic trace, found {}", self.minutes),
            );
        }
        if self.first_minute == 0 {
            return refused("shape", "expected a first minute of at least 1, found 0".to_owned());
        }
        if (self.functions as u64).saturating_mul(u64::from(self.minutes)) > MAX_COUNTS {
            let problem = format!(
                "expected at most {MAX_COUNTS} functions × --minutes, found {} × {}",
                self.functions, self.minutes
            );
            return refused("functions", problem);
        }
        if !self.per_day.is_valid(MAX_PER_DAY) || !self.memory_mib.is_valid(crate::Memory::LIMIT_MIB / 100.0) {
            return refused("shape", "expected rising points from share 0 to share 1, above 0".to_owned());
        }
        if self.triggers.is_empty()
            || !self.triggers.iter().all(|trigger| trigger.share > 0.0 && trigger.share.is_finite())
        {
            return refused("shape", "expected triggers, with shares above 0".to_owned());
        }
        let swing = (0.0..=1.0).contains(&self.diurnal_swing) && (-1.0..=1.0).contains(&self.rate_run_correlation);
        let run = self.run_log_mean.is_finite() && (0.0..=10.0).contains(&self.run_log_sd);
        let limits = (0.001..=crate::RunTime::LIMIT_MS / 1000.0).contains(&self.run_limit_s);
        if !swing || !run || !limits || !(0.0..=2.0).contains(&self.run_spread) {
            return refused("shape", "expected run times and swings in their documented ranges".to_owned());
        }
        Ok(())
    }
}

/// The trace's triggers with these shares: http, timer, queue, orchestration, storage, event, others.
fn triggers(shares: [f64; 7]) -> Vec<Trigger> {
    let kinds = [
        ("http", Pattern::Poisson),
        ("timer", Pattern::Periodic),
        ("queue", Pattern::Bursty),
        ("orchestration", Pattern::Bursty),
        ("storage", Pattern::Bursty),
        ("event", Pattern::Bursty),
        ("others", Pattern::Poisson),
    ];
    let named = kinds.into_iter().zip(shares);
    named.map(|((name, pattern), share)| Trigger { name: name.to_owned(), share, pattern }).collect()
}

/// Quantiles of the Burr distribution: λ ((1 − u)^(−1/k) − 1)^(1/c).
fn burr_mib() -> Curve {
    let (c, k, lambda_mb) = (11.652_f64, 0.221_f64, 107.083_f64);
    let (mib_per_mb, platform_limit_mib) = (1e6 / 1_048_576.0, 1536.0);
    let quantile = |share: f64| lambda_mb * ((1.0 - share).powf(-1.0 / k) - 1.0).powf(1.0 / c) * mib_per_mb;
    let inner = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999];
    let least = (0.0, quantile(0.001));
    let points = inner.map(|share| (share, quantile(share).min(platform_limit_mib)));
    Curve([least].into_iter().chain(points).chain([(1.0, platform_limit_mib)]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_can_be_generated_and_an_unknown_one_is_named() {
        for name in Shape::PRESETS {
            Shape::preset(name).unwrap().check().unwrap();
        }
        assert!(Shape::preset("gcp").unwrap_err().to_string().contains("azure-sample"));
    }

    #[test]
    fn a_curve_passes_through_its_points_and_is_logarithmic_between_them() {
        let curve = Curve(vec![(0.0, 1.0), (0.5, 100.0), (1.0, 100.0)]);
        for (share, value) in [(0.0, 1.0), (0.25, 10.0), (0.5, 100.0), (0.7, 100.0), (1.0, 100.0)] {
            assert!((curve.at(share) - value).abs() < 1e-9, "at {share}: {}", curve.at(share));
        }
    }

    /// Half of the applications never use more than 170 MB, 90 % never more than 400 MB; the fit is of averages, so
    /// lower.
    #[test]
    fn the_memory_fit_is_near_what_the_paper_says() {
        let memory = burr_mib();
        assert!((120.0..180.0).contains(&memory.at(0.5)), "{}", memory.at(0.5));
        assert!((220.0..400.0).contains(&memory.at(0.9)), "{}", memory.at(0.9));
    }

    #[test]
    fn what_cannot_be_generated_is_refused() {
        let broken = [
            Shape { functions: 0, ..Shape::azure() },
            Shape { functions: usize::MAX, ..Shape::azure() },
            Shape { per_day: Curve(vec![]), ..Shape::azure() },
            Shape { per_day: Curve(vec![(0.0, 2.0), (1.0, 1.0)]), ..Shape::azure() },
            Shape { triggers: vec![], ..Shape::azure() },
            Shape { run_log_mean: f64::NAN, ..Shape::azure() },
            Shape { diurnal_swing: 2.0, ..Shape::azure() },
        ];
        for shape in broken {
            assert!(shape.check().is_err(), "{shape:?}");
        }
    }
}
