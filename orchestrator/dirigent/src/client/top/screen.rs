//! How the live view looks: the cluster above, functions below it, nodes and phases beside each other at the bottom.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Cell, Paragraph, Row, Table},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    plain::{self, FUNCTIONS, NODES, PHASES},
    view::View,
};
use crate::output::{self, Column};

/// Rows of the tables at the bottom: a heading and eight phases.
const BOTTOM_ROWS: u16 = 9;
/// Columns of characters that a name gets at least.
const NAME_WIDTH: u16 = 16;
/// The longest name of a phase.
const PHASE_WIDTH: u16 = 13;
/// Room for a number below a shorter heading.
const NUMBER_WIDTH: u16 = 8;

/// Draws one frame.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View, control_plane: &str) {
    let rows = [
        Constraint::Length(4),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(1),
        Constraint::Max(BOTTOM_ROWS),
        Constraint::Length(1),
    ];
    let [top, _, functions, _, bottom, keys] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(Paragraph::new(summary(view, control_plane)), top);
    if let Some(rates) = &view.rates {
        draw_table(frame, functions, &FUNCTIONS, &view.functions());
        let halves = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2);
        let [nodes, phases] = halves.areas(bottom);
        draw_table(frame, nodes, &NODES, &rates.nodes);
        draw_table(frame, phases, &PHASES, &rates.phases);
    }
    let help = format!(" q quit   up/down scroll   s sort (by {})", view.sort.name());
    frame.render_widget(Paragraph::new(help).style(Style::new().add_modifier(Modifier::DIM)), keys);
}

/// The cluster, or that nothing is known of it; and what is wrong, if anything is.
fn summary(view: &View, control_plane: &str) -> Vec<Line<'static>> {
    let mut lines = match &view.rates {
        Some(rates) => plain::summary(rates).map(Line::from).to_vec(),
        None => vec![Line::from(format!("asking {control_plane}"))],
    };
    let alarm = |text: String| Line::styled(text, Style::new().fg(Color::Red).add_modifier(Modifier::BOLD));
    match &view.problem {
        Some(problem) => lines.insert(0, alarm(format!("no answer, trying again: {problem}"))),
        None if view.rates.is_some() => lines.insert(0, Line::from(control_plane.to_owned())),
        None => {}
    }
    lines
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, columns: &[Column], rows: &[impl Serialize]) {
    // Rows of ours always have a form in JSON.
    let values = plain::values(rows).unwrap_or_default();
    let lines = values.iter().map(|row| {
        let cells = columns.iter().map(|column| Cell::from(Line::from(shown(row, column)).alignment(side(column))));
        let out_of_service = row.get("state").is_some_and(|state| state != "ready");
        let style = if out_of_service { Style::new().fg(Color::Yellow) } else { Style::new() };
        Row::new(cells).style(style)
    });
    let titles = columns.iter().map(|column| Cell::from(Line::from(column.title).alignment(side(column))));
    let heading = Row::new(titles).style(Style::new().add_modifier(Modifier::REVERSED));
    let widths = columns.iter().map(|column| match column.pointer {
        "/name" => Constraint::Min(NAME_WIDTH),
        "/last_error" => Constraint::Fill(1),
        "/phase" => Constraint::Length(PHASE_WIDTH),
        _ => Constraint::Length(u16::try_from(column.title.len()).unwrap_or(NAME_WIDTH).max(NUMBER_WIDTH)),
    });
    frame.render_widget(Table::new(lines, widths).header(heading), area);
}

/// A cell; fractions have as many digits as people read, the same in every row.
fn shown(row: &Value, column: &Column) -> String {
    match row.pointer(column.pointer) {
        Some(Value::Number(number)) if number.is_f64() => {
            let value = number.as_f64().unwrap_or_default();
            if column.pointer.ends_with("_share") { format!("{value:.2}") } else { format!("{value:.1}") }
        }
        _ => output::cell(row, column),
    }
}

/// Text stands left, numbers right.
fn side(column: &Column) -> ratatui::layout::Alignment {
    match column.pointer {
        "/name" | "/state" | "/phase" | "/last_error" => ratatui::layout::Alignment::Left,
        _ => ratatui::layout::Alignment::Right,
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::{super::rates::tests::look, *};

    fn drawn(view: &View, (width, height): (u16, u16)) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view, "control plane at http://here")).unwrap();
        terminal.backend().to_string()
    }

    fn seen_twice() -> View {
        let mut view = View::new();
        view.take(Ok(look(10, (100, 5, 5))));
        view.take(Ok(look(12, (140, 15, 11))));
        view
    }

    #[test]
    fn everything_has_its_place() {
        let screen = drawn(&seen_twice(), (140, 24));
        let line = |part: &str| {
            let found = screen.lines().find(|line| line.contains(part));
            found
                .unwrap_or_else(|| panic!("expected {part:?} on\n{screen}"))
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert!(line("leader").contains("leader, epoch 1, up 12s; data planes 0; last 2.0 s"));
        assert!(line("control plane").contains("http://here"));
        assert!(line("invocations/s").contains("function invocations/s creations/s cold share waiting running"));
        assert!(line("hello").contains("hello 20.0 3.0 0.25 0 2 3"));
        assert!(line("p50").contains("node state reserved share sandboxes phase creations mean us p50 us p99 us"));
        assert!(line("n0").contains("n0 ready 0.25 3 create 6 7.0 8 8"));
        assert!(line("quit").contains("sort (by activity)"));
    }

    #[test]
    fn before_the_first_answer_it_says_whom_it_asks_and_what_is_wrong() {
        let mut view = View::new();
        assert!(drawn(&view, (60, 12)).contains("asking control plane at http://here"));
        view.take(Err(anyhow::anyhow!("connection refused")));
        assert!(drawn(&view, (60, 12)).contains("no answer, trying again: connection refused"));
        let mut view = seen_twice();
        view.take(Err(anyhow::anyhow!("connection refused")));
        let screen = drawn(&view, (140, 24));
        assert!(screen.contains("trying again: connection refused") && screen.contains("hello"), "{screen}");
    }

    #[test]
    fn a_small_terminal_is_no_failure() {
        for size in [(1, 1), (20, 3), (40, 8), (300, 5)] {
            drawn(&seen_twice(), size);
        }
    }
}
