//! From plots to an SVG that scales, prints, and says what it is to a reader who cannot see it.

use std::sync::Arc;

use kuva::{
    backend::svg::SvgBackend,
    render::{
        color::Color,
        layout::{Layout, TickFormat},
        plots::Plot,
        render::{Primitive, Scene, collect_legend_entries, render_multiple},
        theme::Theme,
    },
};

use super::Palette;
use crate::colours;

/// Fonts of a figure in a paper; on the page it takes the page's.
const PAPER_FONTS: &str = "Helvetica, Arial, 'Liberation Sans', sans-serif";

/// The colour that marks a point to be drawn hollow.
pub(super) const HOLLOW: &str = "hollow";
/// Width of a hollow point's outline, in pixels.
const OUTLINE: f64 = 1.6;

/// A layout in the given palette, the same for every figure.
pub(super) fn layout(plots: &[Plot], palette: Palette) -> Layout {
    Layout::auto_from_plots(plots)
        .with_theme(theme(palette))
        .with_label_size(14)
        // The legend's columns are measured at the size of ticks and drawn at that of the body.
        .with_tick_size(12)
        .with_body_size(12)
        .with_legend_entries(collect_legend_entries(plots))
        .with_legend_box(false)
        .with_axis_line_width(1.0)
        .with_grid_line_width(0.6)
}

/// Ticks as plain numbers.
pub(super) fn plain_ticks() -> TickFormat {
    TickFormat::Custom(Arc::new(crate::format::tick))
}

/// Draws the plots; `title` is for screen readers and for viewers of the file alone.
pub(super) fn render(plots: Vec<Plot>, layout: Layout, palette: Palette, title: &str) -> String {
    let mut scene = render_multiple(plots, layout);
    hollow_out(&mut scene, palette);
    let svg = SvgBackend::new().render_scene(&scene);
    let body = svg.split_once('>').map_or("", |(_, body)| body);
    let (width, height) = (scene.width.ceil(), scene.height.ceil());
    let head = match palette {
        Palette::Paper => format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"{PAPER_FONTS}\" fill=\"{}\"",
            palette.colour(&colours::TEXT)
        ),
        Palette::Page => format!("<svg style=\"max-width:{width}px\" fill=\"{}\"", palette.colour(&colours::TEXT)),
    };
    format!("{head} viewBox=\"0 0 {width} {height}\" role=\"img\"><title>{}</title>{body}", escaped(title))
}

/// Turns shapes filled with the mark [`HOLLOW`] into outlines; kuva itself can only leave circles unfilled.
fn hollow_out(scene: &mut Scene, palette: Palette) {
    let mark = Color::from(HOLLOW);
    let outline = Color::from(palette.colour(&colours::TEXT));
    for element in &mut scene.elements {
        match element {
            Primitive::Circle { fill, stroke, stroke_width, .. }
            | Primitive::CircleBatch { fill, stroke, stroke_width, .. }
            | Primitive::Rect { fill, stroke, stroke_width, .. }
                if *fill == mark =>
            {
                *fill = Color::None;
                *stroke = Some(outline.clone());
                *stroke_width = Some(OUTLINE);
            }
            Primitive::Path(path) if path.fill.as_ref() == Some(&mark) => {
                path.fill = None;
                path.stroke = outline.clone();
                path.stroke_width = OUTLINE;
            }
            _ => {}
        }
    }
}

fn theme(palette: Palette) -> Theme {
    let (text, muted) = (palette.colour(&colours::TEXT), palette.colour(&colours::MUTED));
    Theme {
        background: match palette {
            Palette::Paper => colours::PAPER.light.to_owned(),
            Palette::Page => "none".to_owned(),
        },
        axis_color: muted.clone(),
        grid_color: palette.colour(&colours::RULE),
        tick_color: muted,
        text_color: text,
        legend_bg: "none".to_owned(),
        legend_border: "none".to_owned(),
        ..Theme::light()
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
