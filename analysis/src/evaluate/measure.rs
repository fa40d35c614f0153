//! The quantity that a claim is about.

use crate::{
    claims::{CHEAPEST, Claim, SUSTAINED},
    statistic::Statistic,
};

/// The quantity that a claim is about.
#[derive(Clone, Copy)]
pub(super) enum Measure<'a> {
    /// A statistic at a point; absent: at the only one.
    At(&'static Statistic, Option<&'a str>),
    /// The highest rate sustained among the points that the claim is about.
    Sustained(&'a Claim),
    /// CPU time per cold start at the cheapest of the points that the claim is about.
    Cheapest(&'a Claim),
}

impl<'a> Measure<'a> {
    pub(super) fn of(claim: &'a Claim) -> Self {
        match claim.statistic.as_str() {
            SUSTAINED => Self::Sustained(claim),
            CHEAPEST => Self::Cheapest(claim),
            // A test finds every claim's.
            id => Statistic::find(id)
                .map_or(Self::Sustained(claim), |statistic| Self::At(statistic, claim.point.as_deref())),
        }
    }

    /// Of the statistics that claims compare, only a rate is better when it is more.
    pub(super) fn more_is_better(&self) -> bool {
        matches!(self, Self::Sustained(_))
    }

    pub(super) fn unit(&self) -> &'static str {
        match self {
            Self::At(statistic, _) => statistic.unit.symbol(),
            Self::Sustained(_) => "1/s",
            Self::Cheapest(_) => "ms",
        }
    }

    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::At(statistic, _) => statistic.label,
            Self::Sustained(_) => "highest sustained rate",
            Self::Cheapest(_) => "CPU time per cold start",
        }
    }

    /// The measure when failures are dropped, where there is such a thing.
    pub(super) fn failures_dropped(&self) -> Option<Self> {
        match self {
            Self::Sustained(_) | Self::Cheapest(_) => None,
            Self::At(statistic, point) => Some(Self::At(Statistic::find(&format!("{}.drop", statistic.id))?, *point)),
        }
    }
}
