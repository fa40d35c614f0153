//! What decides a claim whatever was found, and what its interval decides.

use record::Verdict;
use stats::Interval;

use crate::format::number;

/// Two-sided p below which a difference is taken as one.
const SIGNIFICANCE: f64 = 0.01;

/// A verdict with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ruling {
    pub(super) verdict: Verdict,
    /// In words; empty only where it is held.
    pub(super) reason: String,
    /// Whether nothing else can change it, not even what is invalid.
    is_certain: bool,
}

/// What was found of a claim.
#[derive(Clone, Copy, Default)]
pub(super) struct Found {
    pub(super) value: Option<f64>,
    pub(super) interval: Option<Interval>,
    /// Of a ratio only.
    pub(super) p: Option<f64>,
}

impl Ruling {
    pub(super) fn new(verdict: Verdict, reason: impl Into<String>) -> Self {
        Self { verdict, reason: reason.into(), is_certain: false }
    }

    pub(super) fn invalid(reason: impl Into<String>) -> Self {
        Self::new(Verdict::Invalid, reason)
    }

    pub(super) fn not_measured(reason: impl Into<String>) -> Self {
        Self::new(Verdict::NotMeasured, reason)
    }

    pub(super) fn not_held(reason: impl Into<String>) -> Self {
        Self::new(Verdict::NotHeld, reason)
    }

    /// Not held, whatever repetitions come to that are missing or may not be used.
    pub(super) fn certainly_not_held(reason: impl Into<String>) -> Self {
        Self { is_certain: true, ..Self::not_held(reason) }
    }

    /// How much it weighs among others: what is certain decides; else what may not be used makes the whole claim so, and a bad
    /// result is not hidden by what is missing.
    fn weight(&self) -> u8 {
        match self.verdict {
            _ if self.is_certain => 5,
            Verdict::Held => 0,
            Verdict::Inconclusive => 1,
            Verdict::NotMeasured => 2,
            Verdict::NotHeld => 3,
            Verdict::Invalid => 4,
        }
    }

    /// The one that weighs most; of equals the first.
    pub(super) fn heaviest(rulings: impl IntoIterator<Item = Self>) -> Option<Self> {
        rulings.into_iter().reduce(|first, next| if next.weight() > first.weight() { next } else { first })
    }

    /// By the interval of what was found: held where its lower end reaches the bound, and of a ratio also where the
    /// two samples differ; not held where its upper end does not; else it cannot be told.
    pub(super) fn by_interval(found: &Found, bound: f64, is_ratio: bool) -> Self {
        let (Some(value), Some(interval)) = (found.value, found.interval) else {
            return Self::not_measured("there is no interval: too few repetitions have a value above zero");
        };
        let what = if is_ratio { "the ratio" } else { "it" };
        let (lower, upper, at_least) = (number(interval.lower), number(interval.upper), number(bound));
        if interval.upper < bound {
            let reason = format!("{what} is {} [{lower}; {upper}], below {at_least}", number(value));
            return Self::not_held(reason);
        }
        if interval.lower < bound {
            let reason = format!("the interval of {what}, [{lower}; {upper}], contains {at_least}");
            return Self::new(Verdict::Inconclusive, reason);
        }
        let p = found.p.unwrap_or(1.0);
        if is_ratio && (p >= SIGNIFICANCE || !interval.excludes(1.0)) {
            return Self::new(Verdict::Inconclusive, format!("no difference seen (p = {})", number(p)));
        }
        Self::new(Verdict::Held, "")
    }
}
