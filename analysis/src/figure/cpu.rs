//! CPU time per operation as stacked bars, one segment for each process.
//!
//! The rest of the machine stands in the table only: on a machine that others use too it would be most of every bar.

use kuva::{
    plot::{BarPlot, LegendPosition},
    render::plots::Plot,
};
use record::RatePoint;

use super::{Ink, svg};

/// Size of the figure, in pixels.
const WIDTH: f64 = 760.0;
/// Height without bars, and per bar.
const BASE_HEIGHT: f64 = 110.0;
const BAR_HEIGHT: f64 = 26.0;

pub(super) fn draw(points: &[RatePoint], ink: Ink) -> Result<String, String> {
    let shown: Vec<&RatePoint> = points.iter().filter(|point| !point.processes.is_empty()).collect();
    let mut roles: Vec<&str> = Vec::new();
    for process in shown.iter().flat_map(|point| &point.processes) {
        if !roles.contains(&process.process.as_str()) {
            roles.push(&process.process);
        }
    }
    if roles.is_empty() {
        return Err("no repetition has both CPU times and answers".to_owned());
    }
    // The parts of the system first, in the order of their names; the harness last.
    roles.sort_by_key(|role| (matches!(*role, crate::rates::LOAD_GENERATOR | "runner"), *role));
    let mut bars = BarPlot::new().with_stacked().with_horizontal(true).with_width(0.62);
    // Bars are drawn from the bottom up.
    for point in shown.iter().rev() {
        let of = |role: &str| point.processes.iter().find(|process| process.process == role).map(|p| p.cpu_us.median);
        let values = roles.iter().enumerate().map(|(number, role)| (of(role).unwrap_or(0.0), ink.series(number)));
        bars = bars.with_group(format!("{} {}", point.system, point.point), values);
    }
    let plots = vec![Plot::Bar(bars.with_legend(roles))];
    let layout = svg::layout(&plots, ink)
        .with_x_label("CPU-µs per operation, stacked by process")
        .with_legend_position(LegendPosition::OutsideBottomColumns)
        .with_width(WIDTH)
        .with_height(BASE_HEIGHT + BAR_HEIGHT * u32::try_from(shown.len()).map_or(1.0, f64::from));
    Ok(svg::render(plots, layout, ink, "CPU time per operation by process"))
}
