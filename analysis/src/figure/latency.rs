//! Latency against offered rate, both on log axes: the median as a line, and from it to the 99th percentile a band.

use kuva::{
    plot::{LegendPosition, LinePlot, MarkerShape, ScatterPlot},
    render::plots::Plot,
};
use record::{Estimate, RatePoint};

use super::{MAX_SERIES, Palette, axis, svg};
use crate::rates::{self, Line};

/// Size of the figure, in pixels; the legend below comes on top.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;

pub(super) fn draw(points: &[RatePoint], palette: Palette) -> Result<String, String> {
    let mut plots = Vec::new();
    let mut all = Vec::new();
    for (number, line) in rates::lines(points).iter().take(MAX_SERIES).enumerate() {
        let measured = measured(line);
        all.extend(measured.iter().copied());
        plots.extend(of_line(&line.label, &measured, &palette.series(number)));
    }
    if plots.is_empty() {
        return Err("no point has an ok response".to_owned());
    }
    let (x_least, x_most) = axis::log_range(all.iter().flat_map(|(rate, _, _)| around(*rate)));
    let (y_least, y_most) = axis::log_range(all.iter().flat_map(|(_, p50, p99)| [*p50, *p99]).flat_map(around));
    let layout = svg::layout(&plots, palette)
        .with_log_x()
        .with_log_y()
        .with_x_tick_format(svg::plain_ticks())
        .with_y_tick_format(svg::plain_ticks())
        .with_x_label("offered rate, invocations per second")
        .with_y_label("latency, ms")
        .with_x_axis_min(x_least)
        .with_x_axis_max(x_most)
        .with_y_axis_min(y_least)
        .with_y_axis_max(y_most)
        .with_legend_position(LegendPosition::OutsideBottomColumns)
        .with_legend_col_limit(2)
        .with_width(WIDTH)
        .with_height(HEIGHT);
    Ok(svg::render(plots, layout, palette, "Latency against offered rate: median and 99th percentile"))
}

/// Room for the dot of a value, which is not to lie on the edge.
fn around(value: f64) -> [f64; 2] {
    [value * 0.9, value * 1.1]
}

/// Offered rate, median and 99th percentile of latency of every point that has them.
fn measured(line: &Line<'_>) -> Vec<(f64, f64, f64)> {
    let median = |estimate: Option<Estimate>| estimate.map(|estimate| estimate.median);
    let of = |point: &&RatePoint| {
        Some((median(point.offered_per_s)?, median(point.latency_p50_ms)?, median(point.latency_p99_ms)?))
    };
    line.points.iter().filter_map(of).collect()
}

fn of_line(label: &str, measured: &[(f64, f64, f64)], colour: &str) -> Vec<Plot> {
    let dots = |data: Vec<(f64, f64)>, marker| {
        Plot::Scatter(ScatterPlot::new().with_data(data).with_color(colour).with_marker(marker).with_size(4.0))
    };
    let medians: Vec<(f64, f64)> = measured.iter().map(|(rate, p50, _)| (*rate, *p50)).collect();
    let tails: Vec<(f64, f64)> = measured.iter().map(|(rate, _, p99)| (*rate, *p99)).collect();
    if measured.is_empty() {
        return Vec::new();
    }
    let line = LinePlot::new()
        .with_data(medians.iter().copied())
        .with_color(colour)
        .with_band(medians.iter().map(|(_, p50)| *p50), tails.iter().map(|(_, p99)| *p99))
        .with_stroke_width(1.8)
        .with_legend(label);
    // A lone point is neither a line nor a band; its dots show it.
    vec![Plot::Line(line), dots(medians, MarkerShape::Circle), dots(tails, MarkerShape::Triangle)]
}
