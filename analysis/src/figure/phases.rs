//! Phases of cold starts as stacked bars, p50 and p99 of each.

use kuva::{
    plot::{BarPlot, LegendPosition},
    render::plots::Plot,
};
use record::{CreationPhase, Spread};

use super::{Palette, svg};
use crate::series::Series;

/// Size of the figure, in pixels.
const WIDTH: f64 = 760.0;
/// Height without bars, and per bar.
const BASE_HEIGHT: f64 = 110.0;
const BAR_HEIGHT: f64 = 34.0;

/// Selects a quantile of a spread.
type Pick = fn(&Spread) -> i64;
/// The bars of each series, from the bottom up.
const PICKS: [(&str, Pick); 2] = [("p99", |spread| spread.p99), ("p50", |spread| spread.p50)];

pub(super) fn all(series: &[Series<'_>], palette: Palette) -> Result<String, String> {
    draw(series, palette, "Phases of a cold start", |_| true)
}

pub(super) fn manager(series: &[Series<'_>], palette: Palette) -> Result<String, String> {
    draw(series, palette, "Phases of a cold start without the sandbox's own start", |phase| {
        !phase.is_start_of_sandbox()
    })
}

/// The median over repetitions of one phase's quantile, in milliseconds; `None` when no repetition measured it.
pub(crate) fn phase_ms(series: &Series<'_>, phase: CreationPhase, pick: Pick) -> Option<f64> {
    series.median_of(|result| {
        let creations = result.summary.creations.as_ref()?;
        let found = creations.phases.iter().find(|one| one.phase == phase)?;
        Some(pick(&found.duration_us) as f64 / 1e3)
    })
}

fn draw(
    series: &[Series<'_>],
    palette: Palette,
    title: &str,
    shown: fn(CreationPhase) -> bool,
) -> Result<String, String> {
    let measured: Vec<(usize, CreationPhase)> = CreationPhase::ALL
        .into_iter()
        .enumerate()
        .filter(|(_, phase)| shown(*phase) && series.iter().any(|one| phase_ms(one, *phase, |s| s.p50).is_some()))
        .collect();
    if measured.is_empty() {
        return Err("no system measured the phases of its cold starts".to_owned());
    }
    let mut bars = BarPlot::new().with_stacked().with_horizontal(true).with_width(0.62);
    let mut groups = 0_u32;
    // Bars are drawn from the bottom up.
    for one in series.iter().rev() {
        if measured.iter().all(|(_, phase)| phase_ms(one, *phase, |s| s.p50).is_none()) {
            continue;
        }
        for (name, pick) in PICKS {
            let values = measured
                .iter()
                .map(|(number, phase)| (phase_ms(one, *phase, pick).unwrap_or(0.0), palette.series(*number)));
            bars = bars.with_group(format!("{} {name}", one.label), values);
            groups += 1;
        }
    }
    let bars = bars.with_legend(measured.iter().map(|(_, phase)| phase.name()).collect());
    let plots = vec![Plot::Bar(bars)];
    let layout = svg::layout(&plots, palette)
        .with_x_label("milliseconds, stacked by phase")
        .with_legend_position(LegendPosition::OutsideBottomColumns)
        .with_width(WIDTH)
        .with_height(BASE_HEIGHT + BAR_HEIGHT * f64::from(groups));
    Ok(svg::render(plots, layout, palette, title))
}
