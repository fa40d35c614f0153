//! Models of the time that the creation of a hollow sandbox takes.

use std::time::Duration;

use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The standard normal distribution's 99th percentile.
const Z99: f64 = 2.326_347_874_040_840_8;
/// Upper bound of samples, also for heavy tails: a creation that takes an hour has failed.
const MAX_DELAY: Duration = Duration::from_secs(3600);

/// A model of creation delay, in configuration `{ model = "constant", value = "100ms" }` or
/// `{ model = "lognormal", p50 = "100ms", p99 = "250ms" }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "DelayConfig", into = "DelayConfig")]
pub struct Delay(Model);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Model {
    Constant(Duration),
    /// ln X is normal with mean `mu` and standard deviation `sigma`, X in seconds.
    LogNormal {
        p50: Duration,
        p99: Duration,
        mu: f64,
        sigma: f64,
    },
}

/// The model in a configuration, unchecked.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(tag = "model", rename_all = "lowercase", deny_unknown_fields)]
enum DelayConfig {
    Constant {
        #[serde(with = "humantime_serde")]
        value: Duration,
    },
    LogNormal {
        #[serde(with = "humantime_serde")]
        p50: Duration,
        #[serde(with = "humantime_serde")]
        p99: Duration,
    },
}

/// The parameters of a delay are invalid.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DelayError {
    /// A median of 0, which has no logarithm.
    #[error("p50 must be above 0: use model = \"constant\" for no delay")]
    NoMedian,
    /// The 99th percentile is below the median.
    #[error("p99 ({}) must not be below p50 ({})", humantime::format_duration(*.p99), humantime::format_duration(*.p50))]
    Reversed {
        /// The configured median.
        p50: Duration,
        /// The configured 99th percentile.
        p99: Duration,
    },
    /// More than an hour.
    #[error("a delay must not be above 1h")]
    TooLong,
}

impl Delay {
    /// Always `value`.
    ///
    /// # Errors
    /// If it is above an hour.
    pub fn constant(value: Duration) -> Result<Self, DelayError> {
        if value > MAX_DELAY {
            return Err(DelayError::TooLong);
        }
        Ok(Self(Model::Constant(value)))
    }

    /// Log-normal with the given median and 99th percentile: μ = ln p50, σ = ln(p99 / p50) / z₀.₉₉.
    ///
    /// # Errors
    /// If the median is 0 or above the 99th percentile, or the 99th percentile is above an hour.
    pub fn lognormal(p50: Duration, p99: Duration) -> Result<Self, DelayError> {
        if p50.is_zero() {
            return Err(DelayError::NoMedian);
        }
        if p99 < p50 {
            return Err(DelayError::Reversed { p50, p99 });
        }
        if p99 > MAX_DELAY {
            return Err(DelayError::TooLong);
        }
        let mu = p50.as_secs_f64().ln();
        let sigma = (p99.as_secs_f64() / p50.as_secs_f64()).ln() / Z99;
        Ok(Self(Model::LogNormal { p50, p99, mu, sigma }))
    }

    /// The next delay, at most an hour. A constant delay does not use `random`.
    pub fn sample<R: Rng + ?Sized>(&self, random: &mut R) -> Duration {
        match self.0 {
            Model::Constant(value) => value,
            Model::LogNormal { mu, sigma, .. } => {
                let normal: f64 = StandardNormal.sample(random);
                let seconds = (mu + sigma * normal).exp();
                // Fails for an infinite sample, which `exp` returns if the distribution is wide enough.
                Duration::try_from_secs_f64(seconds).unwrap_or(MAX_DELAY).min(MAX_DELAY)
            }
        }
    }
}

impl Default for Delay {
    /// The usual delay of experiments: 100 ms at the median, 250 ms at the 99th percentile.
    fn default() -> Self {
        Self::lognormal(Duration::from_millis(100), Duration::from_millis(250)).expect("100 ms is below 250 ms")
    }
}

impl TryFrom<DelayConfig> for Delay {
    type Error = DelayError;

    fn try_from(config: DelayConfig) -> Result<Self, DelayError> {
        match config {
            DelayConfig::Constant { value } => Self::constant(value),
            DelayConfig::LogNormal { p50, p99 } => Self::lognormal(p50, p99),
        }
    }
}

impl From<Delay> for DelayConfig {
    fn from(delay: Delay) -> Self {
        match delay.0 {
            Model::Constant(value) => Self::Constant { value },
            Model::LogNormal { p50, p99, .. } => Self::LogNormal { p50, p99 },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_pcg::Pcg64;

    use super::*;

    #[derive(Debug, Deserialize, Serialize, PartialEq)]
    struct Configured {
        delay: Delay,
    }

    fn parse(delay: &str) -> Result<Delay, String> {
        toml::from_str::<Configured>(&format!("delay = {delay}")).map(|c| c.delay).map_err(|e| e.to_string())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
        #[test]
        fn samples_have_the_requested_median_and_99th_percentile(
            p50_us in 100u64..1_000_000, spread in 1.0f64..20.0, seed: u64,
        ) {
            let p50 = Duration::from_micros(p50_us);
            let p99 = p50.mul_f64(spread);
            let delay = Delay::lognormal(p50, p99).unwrap();
            let mut random = Pcg64::seed_from_u64(seed);
            let mut samples: Vec<f64> = (0..100_000).map(|_| delay.sample(&mut random).as_secs_f64()).collect();
            samples.sort_by(f64::total_cmp);
            // Five standard errors of a quantile of 100,000 log-normal samples, in units of sigma.
            let sigma = spread.ln() / Z99;
            for (quantile, expected, errors) in [(50_000, p50, 0.0198), (99_000, p99, 0.059)] {
                let off = (samples[quantile] / expected.as_secs_f64()).ln().abs();
                prop_assert!(off <= errors * sigma + 1e-5, "expected {expected:?}, got {} s", samples[quantile]);
            }
        }
    }

    #[test]
    fn a_delay_is_parsed_checked_and_serialized() {
        assert_eq!(parse(r#"{ model = "constant", value = "0ms" }"#), Ok(Delay::constant(Duration::ZERO).unwrap()));
        assert_eq!(parse(r#"{ model = "lognormal", p50 = "100ms", p99 = "250ms" }"#), Ok(Delay::default()));
        for (bad, complaint) in [
            (r#"{ model = "lognormal", p50 = "0ms", p99 = "1ms" }"#, "p50 must be above 0"),
            (r#"{ model = "lognormal", p50 = "2ms", p99 = "1ms" }"#, "p99 (1ms) must not be below p50 (2ms)"),
            (r#"{ model = "lognormal", p50 = "2ms" }"#, "p99"),
            (r#"{ model = "constant", value = "2h" }"#, "above 1h"),
            (r#"{ model = "constant", value = "1ms", p50 = "1ms" }"#, "p50"),
            (r#"{ model = "gamma" }"#, "gamma"),
        ] {
            let error = parse(bad).unwrap_err();
            assert!(error.contains(complaint), "{bad}: {error}");
        }
        for delay in [Delay::default(), Delay::constant(Duration::from_micros(1500)).unwrap()] {
            let written = toml::to_string(&Configured { delay }).unwrap();
            assert_eq!(toml::from_str::<Configured>(&written).unwrap(), Configured { delay }, "{written}");
        }
    }

    #[test]
    fn a_constant_uses_no_randomness_and_equal_percentiles_are_constant() {
        let mut random = Pcg64::seed_from_u64(1);
        let untouched = random.clone();
        let hour = Duration::from_secs(3600);
        assert_eq!(Delay::constant(hour).unwrap().sample(&mut random), hour);
        assert_eq!(random, untouched);
        let point = Delay::lognormal(Duration::from_millis(3), Duration::from_millis(3)).unwrap();
        assert!(point.sample(&mut random).abs_diff(Duration::from_millis(3)) < Duration::from_micros(1));
    }
}
