//! The figures: which there are, and the palettes they are drawn with.

pub(crate) mod anatomy;
mod axis;
mod cdf;
mod cpu;
mod latency;
mod overhead;
pub(crate) mod phases;
mod svg;

use clap::ValueEnum;
use record::RatePoint;

use crate::{ReadError, colours, colours::Tone, plan::Plan, published::Published, series::Series};

/// A figure of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FigureName {
    /// Distribution of slowdown over functions, definition `seed`.
    Slowdown,
    /// The same, definition `artifact`, with the published points.
    SlowdownArtifact,
    /// Distribution of scheduling latency over invocations, with the published points.
    Scheduling,
    /// Phases of a cold start, stacked.
    Phases,
    /// The same without the sandbox's own start.
    PhasesManager,
    /// Latency against offered rate: median and 99th percentile.
    Latency,
    /// CPU time per operation by process.
    Cpu,
    /// The cluster manager's share of a cold start against the number of simultaneous ones.
    Overhead,
    /// The requests of a cold start in their order.
    Anatomy,
}

impl FigureName {
    /// Figures of a replayed trace, in the order of its page.
    const OF_TRACE: [Self; 5] =
        [Self::Slowdown, Self::SlowdownArtifact, Self::Scheduling, Self::Phases, Self::PhasesManager];
    /// Figures of a constant rate, in the order of its page.
    const OF_RATE: [Self; 5] = [Self::Latency, Self::Cpu, Self::Phases, Self::PhasesManager, Self::Anatomy];

    /// Figures of bursts, in the order of its page.
    const OF_BURSTS: [Self; 4] = [Self::Overhead, Self::Cpu, Self::Phases, Self::PhasesManager];

    /// The figures of a run's page.
    #[must_use]
    pub(crate) fn of(plan: Plan<'_>) -> &'static [Self] {
        match (plan.is_at_rate(), plan.is_in_bursts()) {
            (true, true) => &Self::OF_BURSTS,
            (true, false) => &Self::OF_RATE,
            (false, _) => &Self::OF_TRACE,
        }
    }

    /// Its name on the command line and on disk.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slowdown => "slowdown",
            Self::SlowdownArtifact => "slowdown-artifact",
            Self::Scheduling => "scheduling",
            Self::Phases => "phases",
            Self::PhasesManager => "phases-manager",
            Self::Latency => "latency",
            Self::Cpu => "cpu",
            Self::Overhead => "overhead",
            Self::Anatomy => "anatomy",
        }
    }
}

/// Colours of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Palette {
    /// Fixed colours on white, for a paper.
    Paper,
    /// The page's variables, so that the figure follows light and dark.
    Page,
}

impl Palette {
    fn colour(self, tone: &Tone) -> String {
        match self {
            Self::Paper => tone.light.to_owned(),
            Self::Page => format!("var(--{})", tone.name),
        }
    }

    /// The colour of the n-th series or phase.
    fn series(self, number: usize) -> String {
        self.colour(&colours::SERIES[number % colours::SERIES.len()])
    }
}

/// Series drawn in one figure; the colours of more would not be distinguishable.
pub(crate) const MAX_SERIES: usize = colours::SERIES.len();

/// The data that figures are drawn from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FigureData<'a> {
    pub(crate) series: &'a [Series<'a>],
    pub(crate) published: &'a [Published],
    /// The points of a constant rate; none of a trace.
    pub(crate) rates: &'a [RatePoint],
}

/// Draws a figure as SVG.
///
/// # Errors
/// If the run has nothing that this figure shows; the reason says what is missing.
pub(crate) fn draw(name: FigureName, data: &FigureData<'_>, palette: Palette) -> Result<String, ReadError> {
    let FigureData { series, published, rates } = *data;
    let series = &series[..series.len().min(MAX_SERIES)];
    let drawn = match name {
        FigureName::Slowdown => cdf::slowdown(series, palette),
        FigureName::SlowdownArtifact => cdf::slowdown_artifact(series, published, palette),
        FigureName::Scheduling => cdf::scheduling(series, published, palette),
        FigureName::Phases => phases::all(series, palette),
        FigureName::PhasesManager => phases::manager(series, palette),
        FigureName::Latency => latency::draw(rates, palette),
        FigureName::Cpu => cpu::draw(rates, palette),
        FigureName::Overhead => overhead::draw(rates, palette),
        FigureName::Anatomy => anatomy::draw(series, palette),
    };
    drawn.map_err(|reason| ReadError::NoFigure { figure: name.as_str(), reason })
}
