//! CPU time per operation as stacked bars, one segment for each process and one for the rest of the machine.

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
/// What of the machine's CPU time no process that is watched used: interrupts, and processes of others.
const REST: &str = "rest of the machine";

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
    // The parts of the system first, in the order of their names; the harness and the rest of the machine last.
    roles.sort_by_key(|role| (matches!(*role, crate::rates::LOAD_GENERATOR | "runner"), *role));
    let mut bars = BarPlot::new().with_stacked().with_horizontal(true).with_width(0.62);
    // Bars are drawn from the bottom up.
    for point in shown.iter().rev() {
        let of = |role: &str| point.processes.iter().find(|process| process.process == role).map(|p| p.cpu_us.median);
        let values: Vec<f64> = roles.iter().map(|role| of(role).unwrap_or(0.0)).collect();
        let rest = point.machine_cpu_us.map_or(0.0, |machine| (machine.median - values.iter().sum::<f64>()).max(0.0));
        let coloured = values.into_iter().chain([rest]).enumerate().map(|(number, us)| (us, ink.series(number)));
        bars = bars.with_group(format!("{} {}", point.system, point.point), coloured.collect::<Vec<_>>());
    }
    let legend: Vec<&str> = roles.iter().copied().chain([REST]).collect();
    let plots = vec![Plot::Bar(bars.with_legend(legend))];
    let layout = svg::layout(&plots, ink)
        .with_x_label("CPU-µs per operation, stacked by process")
        .with_legend_position(LegendPosition::OutsideBottomColumns)
        .with_width(WIDTH)
        .with_height(BASE_HEIGHT + BAR_HEIGHT * u32::try_from(shown.len()).map_or(1.0, f64::from));
    Ok(svg::render(plots, layout, ink, "CPU time per operation by process"))
}
