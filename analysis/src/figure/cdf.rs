//! Distribution curves on a log axis: slowdown over functions, scheduling latency over invocations.

use kuva::{
    plot::{LegendPosition, LinePlot, MarkerShape, ScatterPlot},
    render::plots::Plot,
};

use super::{Palette, axis, svg};
use crate::{
    curves::{Curve, Curves},
    published::Published,
    series::Series,
};

/// Size of the whole figure, in pixels; the legend below comes on top.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
/// End of the share axis: room above 1 for a line or marker there.
const TOP: f64 = 1.03;
/// Shapes of published points, one per system.
const MARKERS: [MarkerShape; 4] =
    [MarkerShape::Circle, MarkerShape::Square, MarkerShape::Triangle, MarkerShape::Diamond];

/// Texts and axis of a distribution figure.
struct Cdf<'a> {
    title: &'a str,
    x_label: &'a str,
    y_label: &'a str,
    of: fn(&Curves) -> &Curve,
    /// Published values drawn as points: statistic and the share it is the quantile of.
    points: &'a [(&'a str, f64)],
    missing: &'a str,
}

pub(super) fn slowdown(series: &[Series<'_>], palette: Palette) -> Result<String, String> {
    let cdf = Cdf {
        title: "Distribution of per-function slowdown, definition seed",
        x_label: "slowdown of a function (mean of end-to-end / execution time)",
        y_label: "share of functions",
        of: |curves| &curves.slowdown_seed,
        points: &[],
        missing: "no function has a slowdown",
    };
    draw(&cdf, series, &[], palette)
}

pub(super) fn slowdown_artifact(
    series: &[Series<'_>],
    published: &[Published],
    palette: Palette,
) -> Result<String, String> {
    let cdf = Cdf {
        title: "Distribution of per-function slowdown, definition artifact",
        x_label: "slowdown of a function (geometric mean of end-to-end / requested time)",
        y_label: "share of functions",
        of: |curves| &curves.slowdown_artifact,
        points: &[("slowdown.artifact.p50", 0.5), ("slowdown.artifact.p99", 0.99)],
        missing: "no function has a slowdown",
    };
    draw(&cdf, series, published, palette)
}

pub(super) fn scheduling(series: &[Series<'_>], published: &[Published], palette: Palette) -> Result<String, String> {
    let cdf = Cdf {
        title: "Distribution of scheduling latency over invocations",
        x_label: "scheduling latency, ms (end-to-end − execution time)",
        y_label: "share of ok invocations",
        of: |curves| &curves.scheduling_ms,
        points: &[("scheduling.p50", 0.5), ("scheduling.p90", 0.9), ("scheduling.p99", 0.99)],
        missing: "no ok invocation reports its execution time",
    };
    draw(&cdf, series, published, palette)
}

fn draw(cdf: &Cdf<'_>, series: &[Series<'_>], published: &[Published], palette: Palette) -> Result<String, String> {
    let mut plots = Vec::new();
    for (number, one) in series.iter().enumerate() {
        let curves = one.repetitions.iter().map(|result| (cdf.of)(&result.curves)).filter(|curve| !curve.is_empty());
        for (repetition, curve) in curves.enumerate() {
            let line =
                LinePlot::new().with_data(steps(curve)).with_color(palette.series(number)).with_stroke_width(1.8);
            // One entry in the legend for all repetitions of a series.
            plots.push(Plot::Line(if repetition == 0 { line.with_legend(one.label.as_str()) } else { line }));
        }
    }
    if plots.is_empty() {
        return Err(cdf.missing.to_owned());
    }
    plots.extend(markers(cdf, published));
    let (least, most) = x_range(&plots);
    let layout = svg::layout(&plots, palette)
        .with_log_x()
        .with_x_tick_format(svg::plain_ticks())
        .with_x_label(cdf.x_label)
        .with_y_label(cdf.y_label)
        .with_y_axis_min(0.0)
        .with_y_axis_max(TOP)
        .with_x_axis_min(least)
        .with_x_axis_max(most)
        .with_y_tick_step(0.2)
        .with_legend_position(LegendPosition::OutsideBottomColumns)
        .with_legend_col_limit(2)
        .with_width(WIDTH)
        .with_height(HEIGHT);
    Ok(svg::render(plots, layout, palette, cdf.title))
}

/// The ends of the axis around what is drawn.
fn x_range(plots: &[Plot]) -> (f64, f64) {
    let xs = plots.iter().flat_map(|plot| match plot {
        Plot::Line(line) => line.data.iter().map(|point| point.x).collect(),
        Plot::Scatter(points) => points.data.iter().map(|point| point.x).collect(),
        _ => Vec::new(),
    });
    axis::log_range(xs)
}

/// The corners as a line that runs level, then up.
fn steps(curve: &Curve) -> Vec<(f64, f64)> {
    let mut below = 0.0;
    let mut line = Vec::with_capacity(2 * curve.len());
    for (x, share) in curve {
        line.extend([(*x, below), (*x, *share)]);
        below = *share;
    }
    line
}

/// Published values as hollow points, one shape per system.
fn markers(cdf: &Cdf<'_>, published: &[Published]) -> Vec<Plot> {
    let of_ours = published.iter().filter(|row| row.statistic.is_some());
    let mut systems: Vec<&str> = of_ours.map(|row| row.system.as_str()).collect();
    systems.sort_unstable();
    systems.dedup();
    let drawn = systems.iter().zip(MARKERS).filter_map(|(system, marker)| {
        let points: Vec<(f64, f64)> = published
            .iter()
            .filter(|row| row.system == *system)
            .filter_map(|row| {
                cdf.points
                    .iter()
                    .find(|(id, _)| row.statistic.as_deref() == Some(*id))
                    .map(|(_, share)| (row.value, *share))
            })
            .collect();
        (!points.is_empty()).then(|| {
            let plot = ScatterPlot::new()
                .with_data(points)
                .with_color(svg::HOLLOW)
                .with_marker(marker)
                .with_size(5.0)
                .with_legend(format!("published: {system}"));
            Plot::Scatter(plot)
        })
    });
    drawn.collect()
}
