//! The conclusion about a claim: from its interval, or from what decides it without one.

use record::ClaimOutcome;
use stats::Interval;

use crate::format::number;

/// Two-sided p below which a difference is significant.
const SIGNIFICANCE: f64 = 0.01;

/// An outcome with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conclusion {
    pub(super) outcome: ClaimOutcome,
    /// In words; empty only if held.
    pub(super) reason: String,
    /// True if no other conclusion overrides it, not even an invalid one.
    is_certain: bool,
}

/// The estimate of a claim's ratio or value.
#[derive(Clone, Copy, Default)]
pub(super) struct EffectEstimate {
    pub(super) value: Option<f64>,
    pub(super) interval: Option<Interval>,
    /// Two-sided p of the Mann-Whitney test; of a ratio only.
    pub(super) p: Option<f64>,
}

impl Conclusion {
    pub(super) fn new(outcome: ClaimOutcome, reason: impl Into<String>) -> Self {
        Self { outcome, reason: reason.into(), is_certain: false }
    }

    pub(super) fn invalid(reason: impl Into<String>) -> Self {
        Self::new(ClaimOutcome::Invalid, reason)
    }

    pub(super) fn not_measured(reason: impl Into<String>) -> Self {
        Self::new(ClaimOutcome::NotMeasured, reason)
    }

    pub(super) fn not_held(reason: impl Into<String>) -> Self {
        Self::new(ClaimOutcome::NotHeld, reason)
    }

    /// Not held, whatever the missing and the unusable repetitions would have shown.
    pub(super) fn certainly_not_held(reason: impl Into<String>) -> Self {
        Self { is_certain: true, ..Self::not_held(reason) }
    }

    /// Precedence among conclusions. A certain one decides; else an invalid repetition invalidates the whole claim, and a bad
    /// result is not hidden by a missing measurement.
    fn precedence(&self) -> u8 {
        match self.outcome {
            _ if self.is_certain => 5,
            ClaimOutcome::Held => 0,
            ClaimOutcome::Inconclusive => 1,
            ClaimOutcome::NotMeasured => 2,
            ClaimOutcome::NotHeld => 3,
            ClaimOutcome::Invalid => 4,
        }
    }

    /// The conclusion of the highest precedence; of equals the first.
    pub(super) fn decisive(conclusions: impl IntoIterator<Item = Self>) -> Option<Self> {
        conclusions.into_iter().reduce(|first, next| if next.precedence() > first.precedence() { next } else { first })
    }

    /// Concludes from the interval of the estimate: held if its lower end reaches the bound and, of a ratio, the two samples
    /// differ significantly; not held if its upper end is below the bound; else inconclusive.
    pub(super) fn by_interval(estimate: &EffectEstimate, bound: f64, is_ratio: bool) -> Self {
        let (Some(value), Some(interval)) = (estimate.value, estimate.interval) else {
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
            return Self::new(ClaimOutcome::Inconclusive, reason);
        }
        let p = estimate.p.unwrap_or(1.0);
        if is_ratio && (p >= SIGNIFICANCE || !interval.excludes(1.0)) {
            return Self::new(ClaimOutcome::Inconclusive, format!("no difference seen (p = {})", number(p)));
        }
        Self::new(ClaimOutcome::Held, "")
    }
}
