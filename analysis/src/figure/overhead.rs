//! The cluster manager's share of a cold start against the number of simultaneous ones: a line for each system and delay.

use kuva::{
    plot::{LegendPosition, LinePlot, MarkerShape, ScatterPlot},
    render::plots::Plot,
};
use record::RatePoint;

use super::{MAX_SERIES, Palette, axis, svg};
use crate::{plan::BURST, rates};

/// Size of the figure, in pixels; the legend below comes on top.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 360.0;

pub(super) fn draw(points: &[RatePoint], palette: Palette) -> Result<String, String> {
    let mut plots = Vec::new();
    let mut all = Vec::new();
    for (number, line) in rates::lines(points).iter().take(MAX_SERIES).enumerate() {
        let shares: Vec<(f64, f64)> = line.points.iter().copied().filter_map(share).collect();
        if shares.is_empty() {
            continue;
        }
        all.extend(shares.iter().map(|(size, _)| *size));
        let colour = palette.series(number);
        let drawn = LinePlot::new().with_data(shares.iter().copied()).with_color(&colour).with_stroke_width(1.8);
        plots.push(Plot::Line(drawn.with_legend(&line.label)));
        let dots = ScatterPlot::new().with_data(shares).with_color(&colour);
        plots.push(Plot::Scatter(dots.with_marker(MarkerShape::Circle).with_size(4.0)));
    }
    if plots.is_empty() {
        return Err("no cold start of a burst succeeded".to_owned());
    }
    let (least, most) = axis::log_range(all.iter().flat_map(|size| [size * 0.9, size * 1.1]));
    let layout = svg::layout(&plots, palette)
        .with_log_x()
        .with_x_tick_format(svg::plain_ticks())
        .with_x_label("simultaneous cold starts")
        .with_y_label("cluster manager's share, %")
        .with_x_axis_min(least)
        .with_x_axis_max(most)
        .with_y_axis_min(0.0)
        .with_y_axis_max(100.0)
        .with_legend_position(LegendPosition::OutsideBottomColumns)
        .with_legend_col_limit(2)
        .with_width(WIDTH)
        .with_height(HEIGHT);
    Ok(svg::render(
        plots,
        layout,
        palette,
        "The cluster manager's share of a cold start against the number of simultaneous ones",
    ))
}

/// Size of the burst, and the share.
fn share(point: &RatePoint) -> Option<(f64, f64)> {
    Some((point.values.get(BURST)?.parse().ok()?, point.overhead_percent?.median))
}
