//! Layout of the live view: the cluster above, functions below it, nodes and phases next to each other at the bottom.

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
    columns::{self, Shown},
    plain::{self, FUNCTIONS, NODES, PHASES},
    view::View,
};
use crate::output::{self, Column};

/// Rows of the tables at the bottom: a heading and eight phases.
const BOTTOM_ROWS: u16 = 9;
/// Columns of characters between the tables at the bottom.
const GAP: u16 = 2;
/// Columns of characters that the nodes get at least of the bottom, for a name and a state.
const NODES_WIDTH: u16 = 26;

/// Draws one frame.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View, control_plane: &str) {
    let summary = summary(view, control_plane, frame.area().width);
    // Whatever is to be said, half of the terminal is left for the tables.
    let summary_rows = u16::try_from(summary.len()).unwrap_or(u16::MAX).min((frame.area().height / 2).max(4));
    let rows = [
        Constraint::Length(summary_rows),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(1),
        Constraint::Max(BOTTOM_ROWS),
        Constraint::Length(1),
    ];
    let [top, _, functions, _, bottom, keys] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(Paragraph::new(summary), top);
    let mut left_out = 0;
    if let Some(rates) = &view.rates {
        left_out += draw_table(frame, functions, &Rows::of(&FUNCTIONS, &view.functions()));
        let (nodes, phases) = (Rows::of(&NODES, &rates.nodes), Rows::of(&PHASES, &rates.phases));
        let phases_width = u16::try_from(columns::whole_width(&PHASES, &phases.cells)).unwrap_or(u16::MAX);
        let most = bottom.width.saturating_sub(NODES_WIDTH + GAP).max(bottom.width / 2);
        let halves = Layout::horizontal([Constraint::Fill(1), Constraint::Length(phases_width.min(most))]).spacing(GAP);
        let [left, right] = halves.areas(bottom);
        left_out += draw_table(frame, left, &nodes) + draw_table(frame, right, &phases);
    }
    let mut help = format!(" q quit   up/down scroll   s sort (by {})", view.sort.name());
    if left_out > 0 {
        help.push_str("   wider: more columns");
    }
    frame.render_widget(Paragraph::new(help).style(Style::new().add_modifier(Modifier::DIM)), keys);
}

/// The cluster, or that nothing is known of it; and what is wrong, if anything is.
fn summary(view: &View, control_plane: &str, width: u16) -> Vec<Line<'static>> {
    let alarm = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
    let mut said = Vec::new();
    match &view.problem {
        Some(problem) => said.push((format!("no response, trying again: {problem}"), alarm)),
        None if view.rates.is_some() => said.push((control_plane.to_owned(), Style::new())),
        None => {}
    }
    match &view.rates {
        Some(rates) => said.extend(plain::summary(rates).map(|line| (line, Style::new()))),
        None => said.push((format!("asking {control_plane}"), Style::new())),
    }
    let lines = said.into_iter().flat_map(|(text, style)| {
        columns::wrapped(&text, usize::from(width)).into_iter().map(move |line| Line::styled(line, style))
    });
    lines.collect()
}

/// A table as text.
struct Rows<'a> {
    columns: &'a [Column],
    cells: Vec<Vec<String>>,
    /// By row: true if it shows something out of service.
    out_of_service: Vec<bool>,
}

impl<'a> Rows<'a> {
    fn of(columns: &'a [Column], rows: &[impl Serialize]) -> Self {
        // Rows of ours always have a form in JSON.
        let values = plain::values(rows).unwrap_or_default();
        let cells = values.iter().map(|row| columns.iter().map(|column| shown(row, column)).collect()).collect();
        let out_of_service = values.iter().map(|row| row.get("state").is_some_and(|state| state != "ready")).collect();
        Self { columns, cells, out_of_service }
    }
}

/// Draws what there is room for, and gives the number of columns that are left out.
fn draw_table(frame: &mut Frame<'_>, area: Rect, rows: &Rows<'_>) -> usize {
    let fitting = columns::fit(rows.columns, &rows.cells, usize::from(area.width));
    let cell = |text: &str, shown: &Shown| {
        Cell::from(Line::from(columns::cut(text, shown.width)).alignment(side(&rows.columns[shown.index])))
    };
    let lines = rows.cells.iter().zip(&rows.out_of_service).map(|(cells, out_of_service)| {
        let style = if *out_of_service { Style::new().fg(Color::Yellow) } else { Style::new() };
        Row::new(fitting.iter().map(|shown| cell(&cells[shown.index], shown))).style(style)
    });
    let titles = fitting.iter().map(|shown| cell(rows.columns[shown.index].title, shown));
    let heading = Row::new(titles).style(Style::new().add_modifier(Modifier::REVERSED));
    let widths = fitting.iter().map(|shown| Constraint::Length(u16::try_from(shown.width).unwrap_or(u16::MAX)));
    let spacing = u16::try_from(columns::SPACING).unwrap_or(1);
    frame.render_widget(Table::new(lines, widths).header(heading).column_spacing(spacing), area);
    rows.columns.len() - fitting.len()
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

    use super::{super::rates::tests::snapshot, *};

    fn drawn(view: &View, (width, height): (u16, u16)) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view, "control plane at http://here")).unwrap();
        terminal.backend().to_string()
    }

    fn seen_twice() -> View {
        let mut view = View::new();
        view.on_snapshot(Ok(snapshot(10, (100, 5, 5))));
        view.on_snapshot(Ok(snapshot(12, (140, 15, 11))));
        view
    }

    #[test]
    fn everything_is_in_its_column() {
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
    fn before_the_first_response_it_shows_the_address_and_the_error() {
        let mut view = View::new();
        assert!(drawn(&view, (60, 12)).contains("asking control plane at http://here"));
        view.on_snapshot(Err(anyhow::anyhow!("connection refused")));
        assert!(drawn(&view, (60, 12)).contains("no response, trying again: connection refused"));
        let mut view = seen_twice();
        view.on_snapshot(Err(anyhow::anyhow!("connection refused")));
        let screen = drawn(&view, (140, 24));
        assert!(screen.contains("trying again: connection refused") && screen.contains("hello"), "{screen}");
    }

    /// A view of large numbers: a creation of 1.5 s, thousands of everything, a long error.
    fn large() -> View {
        let (mut before, mut after) = (snapshot(10, (0, 0, 0)), snapshot(20, (4_567_890, 4_567_890, 123_456)));
        for snapshot in [&mut before, &mut after] {
            snapshot.functions[0].last_error = Some("a cause that is longer than any terminal is wide ".repeat(5));
            snapshot.functions[0].waiting = 1_234_567;
        }
        after.cluster.granted_slots = 123_456;
        after.cluster.waiting = 1_234_567;
        after.cluster.running = 98_765;
        let phase = &mut after.phases[0];
        phase.sum_us = 185_353_788_001;
        phase.buckets[0].most_us = Some(1_048_576);
        before.phases[0].buckets[0].most_us = Some(1_048_576);
        let mut view = View::new();
        view.on_snapshot(Ok(before));
        view.on_snapshot(Ok(after));
        view
    }

    #[test]
    fn numbers_and_headings_are_whole_at_every_width() {
        let titles = FUNCTIONS.iter().chain(&NODES).chain(&PHASES).map(|column| column.title);
        let headings: Vec<&str> = titles.collect();
        for width in [80, 100, 160] {
            let screen = drawn(&large(), (width, 24));
            for whole in ["456789.0", "1234567", "1501375.3", "create", "123456", "98765"] {
                assert!(screen.contains(whole), "expected {whole:?} at {width} columns:\n{screen}");
            }
            // Every word of a heading is a word of a title.
            let heading = |line: &&str| line.contains("function  ") || line.contains("phase ");
            for word in screen.lines().filter(heading).flat_map(|line| line.trim_matches('"').split_whitespace()) {
                let is_whole = headings.iter().any(|title| title.split(' ').any(|part| part == word));
                assert!(is_whole, "{word:?} is no part of a heading at {width} columns:\n{screen}");
            }
            assert_eq!(screen.contains("wider: more columns"), width < 160, "at {width} columns:\n{screen}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_to_its_end() {
        let mut view = seen_twice();
        view.on_snapshot(Err(anyhow::anyhow!(
            "control plane at http://127.0.0.1:9091: connection refused, nothing listens there: `dirigent up` starts one"
        )));
        for width in [80, 100, 160] {
            let screen = drawn(&view, (width, 24));
            assert!(screen.contains("starts one"), "at {width} columns:\n{screen}");
        }
    }

    #[test]
    fn a_small_terminal_is_no_failure() {
        for size in [(1, 1), (20, 3), (40, 8), (300, 5)] {
            drawn(&seen_twice(), size);
        }
    }
}
