//! The requests of a cold start in their order, each a bar in time: who waits for whom.

use kuva::{
    plot::gantt::{GanttPlot, GanttTask},
    render::plots::Plot,
};
use record::{Anatomy, Step};

use super::{Palette, svg};
use crate::series::Series;

/// Size of the figure, in pixels.
const WIDTH: f64 = 860.0;
/// Height without bars, and per bar.
const BASE_HEIGHT: f64 = 90.0;
const BAR_HEIGHT: f64 = 17.0;

/// The first repetition of the first system that recorded it.
pub(crate) fn anatomy<'a>(series: &[Series<'a>]) -> Option<(&'a str, &'a Anatomy)> {
    let recorded = |one: &Series<'a>| {
        let found = one.repetitions.iter().find_map(|result| result.summary.anatomy.as_ref())?;
        Some((one.system, found))
    };
    series.iter().find_map(recorded)
}

pub(super) fn draw(series: &[Series<'_>], palette: Palette) -> Result<String, String> {
    let steps = anatomy(series).map(|(_, anatomy)| anatomy.steps.as_slice()).filter(|steps| !steps.is_empty());
    let steps = steps.ok_or("no system recorded what its components do")?;
    let mut actors: Vec<&str> = Vec::new();
    for step in steps {
        if !actors.contains(&step.actor.as_str()) {
            actors.push(&step.actor);
        }
    }
    let mut plot = GanttPlot::new().with_show_labels(false).with_bar_height(0.75);
    for step in steps {
        let number = actors.iter().position(|actor| *actor == step.actor).unwrap_or(0);
        plot.tasks.push(GanttTask {
            label: label(step),
            start: ms(step.at_us),
            end: ms(step.at_us + step.took_us),
            group: None,
            progress: None,
            color: Some(palette.series(number)),
            is_milestone: false,
        });
    }
    let response_ms = series.iter().find_map(|one| {
        one.median_of(|result| {
            result.summary.anatomy.as_ref()?;
            Some(result.summary.latency_ns?.p50 as f64 / 1e6)
        })
    });
    if let Some(response_ms) = response_ms {
        plot = plot.with_now_line(response_ms);
    }
    let plots = vec![Plot::from(plot)];
    let layout = svg::layout(&plots, palette)
        .with_x_label("milliseconds after the invocation")
        .with_width(WIDTH)
        .with_height(BASE_HEIGHT + BAR_HEIGHT * u32::try_from(steps.len()).map_or(1.0, f64::from));
    Ok(svg::render(plots, layout, palette, "Requests to the API server during a cold start, in their order"))
}

fn label(step: &Step) -> String {
    let again = if step.ordinal > 1 { format!(" ({})", step.ordinal) } else { String::new() };
    format!("{}: {} {}{again}", step.actor, step.action, step.object)
}

fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}
