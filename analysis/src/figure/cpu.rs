//! CPU time per operation as stacked bars, one segment for each process.
//!
//! The rest of the machine stands in the table only: on a machine that others use too it would be most of every bar. Of
//! more processes than there are colours, those that cost least are one segment.

use kuva::{
    plot::{BarPlot, LegendPosition},
    render::plots::Plot,
};
use record::{ProcessCost, ProcessRole, RatePoint};

use super::{MAX_SERIES, Palette, svg};
use crate::rates;

/// Size of the figure, in pixels.
const WIDTH: f64 = 760.0;
/// Height without bars, and per bar; a legend of as many as there are colours takes four lines of it.
const BASE_HEIGHT: f64 = 160.0;
const BAR_HEIGHT: f64 = 26.0;
/// Label of the segment that sums up the processes of least cost.
const OTHERS: &str = "the others";

pub(super) fn draw(points: &[RatePoint], palette: Palette) -> Result<String, String> {
    let shown: Vec<&RatePoint> = points.iter().filter(|point| !point.processes.is_empty()).collect();
    let (roles, others) = roles(shown.iter().map(|point| &point.processes[..]));
    if roles.is_empty() {
        return Err("no repetition has both CPU times and ok responses".to_owned());
    }
    let mut bars = BarPlot::new().with_stacked().with_horizontal(true).with_width(0.62);
    // Bars are drawn from the bottom up.
    for point in shown.iter().rev() {
        let of = |role: &&str| cpu_us(&point.processes, role);
        let rest = (!others.is_empty()).then(|| others.iter().map(of).sum());
        let values =
            roles.iter().map(of).chain(rest).enumerate().map(|(number, value)| (value, palette.series(number)));
        bars = bars.with_group(format!("{} {}", point.system, point.point), values);
    }
    let rest = (!others.is_empty()).then_some(OTHERS);
    let bars = bars.with_legend(roles.into_iter().chain(rest).collect());
    let plots = vec![Plot::Bar(bars)];
    let layout = svg::layout(&plots, palette)
        .with_x_label("CPU-µs per operation, stacked by process")
        .with_legend_position(LegendPosition::OutsideBottomColumns)
        .with_width(WIDTH)
        .with_height(BASE_HEIGHT + BAR_HEIGHT * u32::try_from(shown.len()).map_or(1.0, f64::from));
    Ok(svg::render(plots, layout, palette, "CPU time per operation by process"))
}

/// The processes of the points in the order they are drawn in, and of more than there are colours those that cost least.
fn roles<'a>(points: impl Iterator<Item = &'a [ProcessCost]> + Clone) -> (Vec<&'a str>, Vec<&'a str>) {
    let mut roles = rates::roles(points.clone());
    let most = |role: &str| points.clone().map(|of| cpu_us(of, role)).fold(0.0, f64::max);
    roles.sort_by(|a, b| most(b).total_cmp(&most(a)));
    let others = if roles.len() > MAX_SERIES { roles.split_off(MAX_SERIES - 1) } else { Vec::new() };
    // The components of the system first, in the order of their names; the harness last.
    roles.sort_by_key(|role| (ProcessRole::of(role) != ProcessRole::System, *role));
    (roles, others)
}

/// CPU time of a process per operation; 0 if it did not run there.
fn cpu_us(processes: &[ProcessCost], role: &str) -> f64 {
    rates::cost_of(processes, role).map_or(0.0, |cpu_us| cpu_us.median)
}

#[cfg(test)]
mod tests {
    use record::Estimate;

    use super::*;

    #[test]
    fn of_more_processes_than_colours_those_that_cost_least_are_one() {
        let cost = |us: u32| {
            let us_of_one = f64::from(us);
            let cpu_us = Estimate { count: 1, median: us_of_one, min: us_of_one, max: us_of_one, interval: None };
            ProcessCost { process: format!("p{us:02}"), cpu_us }
        };
        let names = |count| {
            let all: Vec<ProcessCost> = (1..=count).map(cost).collect();
            let (roles, others) = roles([&all[..3], &all[3..]].into_iter());
            (roles.join(" "), others.join(" "))
        };
        assert_eq!(names(8), ("p01 p02 p03 p04 p05 p06 p07 p08".to_owned(), String::new()));
        assert_eq!(names(10), ("p04 p05 p06 p07 p08 p09 p10".to_owned(), "p03 p02 p01".to_owned()));
    }
}
