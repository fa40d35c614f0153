//! Tables for people: as wide as they are in a file or pipe, and fitted to a terminal. There a long text is wrapped; of
//! many numbers, which nobody could read in pieces, the columns that have no room come below, with what their rows are
//! about.

use std::{collections::BTreeSet, io};

use comfy_table::{CellAlignment, ContentArrangement, presets};
use serde_json::{Map, Value};

use crate::{columns, csv, format::Format, json, print, visible_lines};

/// Spaces that a cell has around it.
const PADDING: usize = 2;

/// The head of a column.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Beside the others.
    pub short: &'static str,
    /// Text of the head if the head before it may be missing.
    pub alone: &'static str,
}

impl From<&'static str> for Head {
    fn from(name: &'static str) -> Self {
        Self { short: name, alone: name }
    }
}

/// Rows of text under heads.
#[derive(Clone, Debug, Default)]
pub struct Table {
    heads: Vec<Head>,
    has_heads: bool,
    /// Right-aligned columns.
    right: BTreeSet<usize>,
    /// Number of first columns that are repeated when the others are split; `None` if cells are wrapped instead.
    keys: Option<usize>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows, whose long cells are wrapped to a terminal.
    #[must_use]
    pub fn new(heads: impl IntoIterator<Item = impl Into<Head>>) -> Self {
        let heads = heads.into_iter().map(Into::into).collect();
        Self { heads, has_heads: true, ..Self::default() }
    }

    /// The same with these columns aligned right.
    #[must_use]
    pub fn align_right(mut self, columns: impl IntoIterator<Item = usize>) -> Self {
        self.right.extend(columns);
        self
    }

    /// The same with columns that have no room on a terminal put below, each time with the first `keys` columns.
    #[must_use]
    pub fn split(mut self, keys: usize) -> Self {
        self.keys = Some(keys);
        self
    }

    /// The same with heads in CSV and JSON only, where the first column names what the others hold.
    #[must_use]
    pub fn without_heads(mut self) -> Self {
        self.has_heads = false;
        self
    }

    /// Adds a row with a cell for each column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        let row: Vec<String> = cells.into_iter().map(|cell| visible_lines(&cell.into())).collect();
        debug_assert_eq!(row.len(), self.heads.len(), "a row has a cell for each column");
        self.rows.push(row);
    }

    /// Prints it on standard output.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn print(&self, format: Format) -> io::Result<()> {
        print(match format {
            Format::Table => self.text(columns()),
            Format::Json => json(&self.objects())?,
            Format::Csv => self.csv(),
        })
    }

    /// The table as text, fitted to a terminal of so many columns.
    #[must_use]
    pub fn text(&self, terminal: Option<u16>) -> String {
        let all: Vec<usize> = (0..self.heads.len()).collect();
        let natural: usize = all.iter().map(|column| self.width(*column, |head| head.short)).sum();
        let room = terminal.filter(|columns| natural > usize::from(*columns));
        match (self.keys, room) {
            (Some(keys), Some(columns)) => self.parts(keys, columns),
            _ => self.draw(&all, |head| head.short, room),
        }
    }

    /// The table as CSV with a header.
    #[must_use]
    pub fn csv(&self) -> String {
        let header = self.heads.iter().map(|head| head.short).collect::<Vec<_>>();
        let rows = self.rows.iter().map(|row| row.iter().map(String::as_str).collect());
        csv(std::iter::once(header).chain(rows))
    }

    /// The rows as objects with the heads as keys.
    #[must_use]
    pub fn objects(&self) -> Value {
        let object = |row: &Vec<String>| -> Value {
            let fields = self.heads.iter().zip(row).map(|(head, cell)| (head.short.to_owned(), cell.clone().into()));
            Value::Object(fields.collect::<Map<String, Value>>())
        };
        Value::Array(self.rows.iter().map(object).collect())
    }

    /// Tables one below the other, each with the first `keys` columns and as many others as have room.
    fn parts(&self, keys: usize, terminal: u16) -> String {
        let width = |column: &usize| self.width(*column, |head| head.alone);
        let keys: Vec<usize> = (0..keys).collect();
        let room = usize::from(terminal).saturating_sub(keys.iter().map(width).sum());
        let mut parts: Vec<Vec<usize>> = Vec::new();
        for column in keys.len()..self.heads.len() {
            match parts.last_mut() {
                Some(part) if part.iter().map(width).sum::<usize>() + width(&column) <= room => part.push(column),
                _ => parts.push(vec![column]),
            }
        }
        let drawn =
            parts.iter().map(|part| self.draw(&[&keys[..], &part[..]].concat(), |head| head.alone, Some(terminal)));
        drawn.collect::<Vec<_>>().join("\n")
    }

    /// Width of a column in a line.
    fn width(&self, column: usize, head: impl Fn(&Head) -> &'static str) -> usize {
        let cells = self.rows.iter().flat_map(|row| row[column].lines()).map(|line| line.chars().count());
        let head = if self.has_heads { head(&self.heads[column]).chars().count() } else { 0 };
        cells.fold(head, usize::max) + PADDING
    }

    fn draw(&self, columns: &[usize], head: impl Fn(&Head) -> &'static str, terminal: Option<u16>) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        if self.has_heads {
            table.set_header(columns.iter().map(|column| head(&self.heads[*column])));
        }
        match terminal {
            Some(width) => table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        for row in &self.rows {
            table.add_row(columns.iter().map(|column| &row[*column]));
        }
        for (drawn, column) in table.column_iter_mut().zip(columns) {
            if self.right.contains(column) {
                drawn.set_cell_alignment(CellAlignment::Right);
            }
        }
        // Spaces at the ends of lines are no part of a result.
        table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: [Head; 5] = [
        Head { short: "system", alone: "system" },
        Head { short: "latency p50", alone: "latency p50" },
        Head { short: "p99", alone: "latency p99" },
        Head { short: "cores", alone: "cores" },
        Head { short: "why", alone: "why" },
    ];

    fn example() -> Table {
        let mut table = Table::new(HEADS).align_right(1..4).split(1);
        table.row(["dirigent", "1.23", "123.45", "0.5", "because"]);
        table.row(["floor", "0.1", "9", "12", "x"]);
        table
    }

    fn longest(text: &str) -> usize {
        text.lines().map(|line| line.chars().count()).max().unwrap()
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(["name", "ready", "note"]).align_right([1]);
        table.row(["a", "10", "x, \"y\""]);
        table.row(["bcd", "2", ""]);
        assert_eq!(table.text(None), " name  ready  note\n a        10  x, \"y\"\n bcd       2\n");
        assert_eq!(table.csv(), "name,ready,note\na,10,\"x, \"\"y\"\"\"\nbcd,2,\n");
        assert_eq!(table.objects()[0]["note"], "x, \"y\"");
        assert_eq!(table.without_heads().text(None), " a    10  x, \"y\"\n bcd   2\n");
    }

    #[test]
    fn a_table_that_has_room_is_one_table_with_short_heads() {
        let whole = example().text(None);
        assert_eq!(whole.lines().count(), 3, "{whole}");
        let width = u16::try_from(longest(&whole)).unwrap();
        assert_eq!(example().text(Some(width + 1)), whole);
        assert!(!whole.contains("latency p99"), "{whole}");
    }

    #[test]
    fn numbers_that_have_no_room_come_below_whole_and_with_what_they_are_about() {
        let split = example().text(Some(40));
        assert!(longest(&split) <= 40, "{split}");
        for text in ["latency p50", "latency p99", "123.45", "because", "cores"] {
            assert_eq!(split.matches(text).count(), 1, "{text}: {split}");
        }
        let parts: Vec<&str> = split.split("\n\n").collect();
        assert_eq!(parts.len(), 2, "{split}");
        for part in parts {
            assert!(part.contains("system") && part.contains("dirigent") && part.contains("floor"), "{part}");
        }
    }

    #[test]
    fn long_texts_are_wrapped() {
        let mut table = Table::new(["claim", "why"]);
        table.row(["a-1".to_owned(), "word ".repeat(40)]);
        let wrapped = table.text(Some(60));
        assert!(longest(&wrapped) <= 60 && wrapped.lines().count() > 4, "{wrapped}");
        assert_eq!(wrapped.matches("word").count(), 40, "{wrapped}");
    }

    #[test]
    fn no_cell_commands_a_terminal() {
        let mut table = Table::new(["name"]);
        table.row(["a\u{1b}[2J\u{9b}1m\u{202e}b"]);
        for text in [table.text(None), table.csv(), json(&table.objects()).unwrap()] {
            let is_command = |character: char| character == '\u{202e}' || (character.is_control() && character != '\n');
            assert!(!text.contains(is_command), "{text:?}");
            assert!(text.replace('\\', "").contains("a\u{75}{1b}[2Ju{9b}1mu{202e}b"), "{text}");
        }
    }
}
