//! What is measured for a claim.

use crate::{
    claims::{Claim, SUSTAINED},
    statistic::Statistic,
};

/// What is measured for a claim.
#[derive(Clone, Copy)]
pub(super) enum Measure<'a> {
    /// A statistic at a point; absent: at the only one.
    At(&'static Statistic, Option<&'a str>),
    /// The highest rate sustained among the points that the claim is about.
    Sustained(&'a Claim),
}

impl<'a> Measure<'a> {
    pub(super) fn of(claim: &'a Claim) -> Self {
        match Statistic::find(&claim.statistic) {
            Some(statistic) if claim.statistic != SUSTAINED => Self::At(statistic, claim.point.as_deref()),
            _ => Self::Sustained(claim),
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
        }
    }

    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::At(statistic, _) => statistic.label,
            Self::Sustained(_) => "highest sustained rate",
        }
    }

    /// The measure when failures are dropped, where there is such a thing.
    pub(super) fn failures_dropped(&self) -> Option<Self> {
        match self {
            Self::Sustained(_) => None,
            Self::At(statistic, point) => Some(Self::At(Statistic::find(&format!("{}.drop", statistic.id))?, *point)),
        }
    }
}
