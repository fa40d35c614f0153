//! Arrival models: the instants of invocations within their minute. The count is the trace's; the instants are drawn here.

use std::{fmt, str::FromStr};

use rand_distr::{Distribution, Gamma};
use serde::{Deserialize, Serialize};

use crate::{
    TraceError,
    quantity::{real, real_len, whole},
    stream::Stream,
};

/// Shape of the gaps of [`Arrivals::Bursty`]: their coefficient of variation is 1/√shape = 2.5, twice and a half that
/// of a Poisson process.
const BURSTY_SHAPE: f64 = 0.16;

/// The arrival model of one function's invocations within a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// The points of a Poisson process given how many there are: that many independent uniform instants.
    #[default]
    Exponential,
    /// Gaps drawn evenly between nothing and twice their mean, from a random first instant on: smoother than Poisson.
    Uniform,
    /// Equal gaps, with a phase of its own for each function, the same in every minute.
    Equidistant,
    /// Gamma-distributed gaps of coefficient of variation 2.5, from a random first instant on: calls in clusters.
    Bursty,
    /// For comparison only: as existing generators do, the first call exactly on the minute's boundary for every
    /// function (so all functions at once), the others independent and uniform.
    LegacyBoundary,
}

impl Arrivals {
    /// Every model, in the order of the documentation.
    pub const ALL: [Arrivals; 5] =
        [Self::Exponential, Self::Uniform, Self::Equidistant, Self::Bursty, Self::LegacyBoundary];

    /// Its name in options and files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exponential => "exponential",
            Self::Uniform => "uniform",
            Self::Equidistant => "equidistant",
            Self::Bursty => "bursty",
            Self::LegacyBoundary => "legacy-boundary",
        }
    }
}

/// A trace minute of one function, over which its invocations are spread.
pub(crate) struct Minute {
    pub(crate) arrivals: Arrivals,
    /// The function's own phase, 0 to 1.
    pub(crate) phase: f64,
    /// Its duration, at least 1.
    pub(crate) length_ns: u64,
}

impl Minute {
    /// Puts `count` instants, sorted, each in `0..length_ns`, into `instants_ns`.
    pub(crate) fn draw(&self, stream: &mut Stream, count: u32, instants_ns: &mut Vec<u64>) {
        let length_ns = self.length_ns;
        instants_ns.clear();
        match self.arrivals {
            Arrivals::Exponential => instants_ns.extend((0..count).map(|_| stream.below(length_ns))),
            Arrivals::LegacyBoundary => {
                instants_ns.extend((0..count).map(|index| if index == 0 { 0 } else { stream.below(length_ns) }));
            }
            Arrivals::Equidistant => {
                let gap_ns = real(length_ns) / f64::from(count);
                let instant = |index| whole(((f64::from(index) + self.phase) * gap_ns).floor()).min(length_ns - 1);
                instants_ns.extend((0..count).map(instant));
            }
            Arrivals::Uniform => {
                let gaps: Vec<f64> = (0..count).map(|_| stream.unit()).collect();
                around(&gaps, stream.unit(), length_ns, instants_ns);
            }
            Arrivals::Bursty => {
                let gamma = Gamma::new(BURSTY_SHAPE, 1.0).expect("the shape is a positive constant");
                let gaps: Vec<f64> = (0..count).map(|_| gamma.sample(stream.generator())).collect();
                around(&gaps, stream.unit(), length_ns, instants_ns);
            }
        }
        instants_ns.sort_unstable();
    }
}

/// Lays the gaps around the minute as around a clock's face, starting at the share `offset` of it. So each instant is uniform over
/// the minute whatever the gaps' distribution: no minute begins or ends with more or fewer calls than its middle.
fn around(gaps: &[f64], offset: f64, length_ns: u64, instants_ns: &mut Vec<u64>) {
    let sum: f64 = gaps.iter().sum();
    let total = if sum > 0.0 { sum } else { real_len(gaps.len()) };
    let mut passed = 0.0;
    instants_ns.extend(gaps.iter().map(|gap| {
        passed += gap;
        let position = (offset + passed / total).fract();
        whole((position * real(length_ns)).floor()).min(length_ns - 1)
    }));
}

impl fmt::Display for Arrivals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Arrivals {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        let found = Self::ALL.into_iter().find(|arrivals| arrivals.as_str() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            TraceError::Option { option: "arrivals", problem: format!("expected one of {names}, found {text:?}") }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_NS: u64 = 60_000_000_000;

    fn instants(arrivals: Arrivals, count: u32, length_ns: u64) -> Vec<u64> {
        let mut stream = Stream::new(7, "arrivals", &["f"]);
        let mut instants_ns = vec![99];
        Minute { arrivals, phase: 0.25, length_ns }.draw(&mut stream, count, &mut instants_ns);
        instants_ns
    }

    #[test]
    fn every_model_gives_that_many_sorted_instants_inside_the_minute() {
        for arrivals in Arrivals::ALL {
            for (count, length_ns) in [(1, 1), (5, 1), (1, MINUTE_NS), (2, MINUTE_NS), (5000, MINUTE_NS)] {
                let instants_ns = instants(arrivals, count, length_ns);
                assert_eq!(instants_ns.len(), count as usize, "{arrivals}");
                assert!(instants_ns.is_sorted(), "{arrivals}");
                assert!(instants_ns.iter().all(|&instant| instant < length_ns), "{arrivals}");
            }
        }
    }

    #[test]
    fn equidistant_has_equal_gaps_and_the_functions_phase() {
        assert_eq!(instants(Arrivals::Equidistant, 4, 400), [25, 125, 225, 325]);
    }

    #[test]
    fn the_legacy_model_starts_on_the_boundary() {
        assert_eq!(instants(Arrivals::LegacyBoundary, 3, MINUTE_NS)[0], 0);
        assert_ne!(instants(Arrivals::Exponential, 3, MINUTE_NS)[0], 0);
    }

    /// Coefficient of variation of the gaps: the definition of each model.
    #[test]
    fn the_gaps_vary_as_each_model_says() {
        for (arrivals, expected) in [(Arrivals::Exponential, 1.0), (Arrivals::Uniform, 0.577), (Arrivals::Bursty, 2.5)]
        {
            let instants_ns = instants(arrivals, 20_000, MINUTE_NS);
            let gaps: Vec<f64> = instants_ns.windows(2).map(|pair| real(pair[1] - pair[0])).collect();
            let mean = gaps.iter().sum::<f64>() / real_len(gaps.len());
            let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / real_len(gaps.len());
            let variation = variance.sqrt() / mean;
            assert!((variation / expected - 1.0).abs() < 0.1, "{arrivals}: expected {expected}, found {variation}");
        }
    }

    /// A lone call must be as likely anywhere in its minute, or a trace of rare functions would beat in step.
    #[test]
    fn a_lone_call_is_uniform_over_the_minute() {
        for arrivals in [Arrivals::Exponential, Arrivals::Uniform, Arrivals::Bursty] {
            let minute = Minute { arrivals, phase: 0.0, length_ns: 1000 };
            let mut stream = Stream::new(3, "arrivals", &["f"]);
            let (mut instants_ns, mut tenths) = (Vec::new(), [0_u32; 10]);
            for _ in 0..5000 {
                minute.draw(&mut stream, 1, &mut instants_ns);
                tenths[usize::try_from(instants_ns[0] / 100).unwrap()] += 1;
            }
            assert!(tenths.iter().all(|&calls| (400..600).contains(&calls)), "{arrivals}: {tenths:?}");
        }
    }

    #[test]
    fn names_read_back() {
        for arrivals in Arrivals::ALL {
            assert_eq!(arrivals.to_string().parse::<Arrivals>().unwrap(), arrivals);
        }
        assert!("poisson".parse::<Arrivals>().unwrap_err().to_string().contains("legacy-boundary"));
    }
}
