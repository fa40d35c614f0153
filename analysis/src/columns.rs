//! Tables for people: as wide as they are in a file, and fitted to a terminal. There a long text is wrapped; of many
//! numbers, which nobody could read in pieces, the columns that have no room come below, with what their rows are about.

use std::ops::Range;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// Spaces that a cell has around it.
const PADDING: usize = 2;

/// The head of a column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// Beside the others.
    pub(crate) short: &'static str,
    /// Text of the head if the head before it may be missing.
    pub(crate) alone: &'static str,
}

/// Rows of text under heads.
#[derive(Debug)]
pub(crate) struct Columns {
    heads: Vec<Head>,
    /// Right-aligned columns.
    numbers: Range<usize>,
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// A table without rows; `numbers` are the columns of numbers.
    pub(crate) fn new(heads: impl IntoIterator<Item = Head>, numbers: Range<usize>) -> Self {
        Self { heads: heads.into_iter().collect(), numbers, rows: Vec::new() }
    }

    /// Adds a row with a cell for each column; it is as wide as a terminal shows it.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let row: Vec<String> = cells.into_iter().map(|cell| terminal::visible(&cell)).collect();
        debug_assert_eq!(row.len(), self.heads.len(), "a row has a cell for each column");
        self.rows.push(row);
    }

    /// One table, whose long cells are wrapped to a terminal of so many columns.
    pub(crate) fn wrapped(&self, terminal: Option<u16>) -> String {
        self.draw(&self.all(), |head| head.short, terminal)
    }

    /// One table or, on a terminal without room for it, one below the other, each with the first `keys` columns.
    pub(crate) fn split(&self, keys: usize, terminal: Option<u16>) -> String {
        let Some(columns) = terminal else { return self.wrapped(None) };
        let natural: usize = self.all().iter().map(|column| self.width(*column, |head| head.short)).sum();
        if natural <= usize::from(columns) {
            return self.wrapped(None);
        }
        let width = |column: &usize| self.width(*column, |head| head.alone);
        let keys: Vec<usize> = (0..keys).collect();
        let room = usize::from(columns).saturating_sub(keys.iter().map(width).sum());
        let mut parts: Vec<Vec<usize>> = Vec::new();
        for column in keys.len()..self.heads.len() {
            match parts.last_mut() {
                Some(part) if part.iter().map(width).sum::<usize>() + width(&column) <= room => part.push(column),
                _ => parts.push(vec![column]),
            }
        }
        let drawn = parts.iter().map(|part| self.draw(&[&keys[..], &part[..]].concat(), |head| head.alone, terminal));
        drawn.collect::<Vec<_>>().join("\n\n")
    }

    fn all(&self) -> Vec<usize> {
        (0..self.heads.len()).collect()
    }

    /// Width of a column in a line.
    fn width(&self, column: usize, head: impl Fn(&Head) -> &'static str) -> usize {
        let cells = self.rows.iter().map(|row| row[column].chars().count());
        cells.fold(head(&self.heads[column]).chars().count(), usize::max) + PADDING
    }

    fn draw(&self, columns: &[usize], head: impl Fn(&Head) -> &'static str, terminal: Option<u16>) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(columns.iter().map(|column| head(&self.heads[*column])));
        if let Some(width) = terminal {
            table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
        }
        for row in &self.rows {
            table.add_row(columns.iter().map(|column| &row[*column]));
        }
        for (drawn, column) in table.column_iter_mut().zip(columns) {
            if self.numbers.contains(column) {
                drawn.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.to_string()
    }
}

impl From<&'static str> for Head {
    fn from(name: &'static str) -> Self {
        Self { short: name, alone: name }
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

    fn example() -> Columns {
        let mut columns = Columns::new(HEADS, 1..4);
        columns.row(["dirigent", "1.23", "123.45", "0.5", "because"].map(str::to_owned));
        columns.row(["floor", "0.1", "9", "12", "x"].map(str::to_owned));
        columns
    }

    fn longest(text: &str) -> usize {
        text.lines().map(|line| line.chars().count()).max().unwrap()
    }

    #[test]
    fn what_has_room_is_one_table_with_short_heads() {
        let whole = example().wrapped(None);
        assert_eq!(whole.lines().count(), 3, "{whole}");
        let width = u16::try_from(longest(&whole)).unwrap();
        assert_eq!([example().split(1, None), example().split(1, Some(width))], [&whole[..]; 2]);
        assert!(!whole.contains("latency p99"), "{whole}");
    }

    #[test]
    fn numbers_that_have_no_room_come_below_whole_and_with_what_they_are_about() {
        let parted = example().split(1, Some(40));
        assert!(longest(&parted) <= 40, "{parted}");
        for text in ["latency p50", "latency p99", "123.45", "because", "cores"] {
            assert_eq!(parted.matches(text).count(), 1, "{text}: {parted}");
        }
        let parts: Vec<&str> = parted.split("\n\n").collect();
        assert_eq!(parts.len(), 2, "{parted}");
        for part in parts {
            assert!(part.contains("system") && part.contains("dirigent") && part.contains("floor"), "{part}");
        }
    }

    #[test]
    fn long_texts_are_wrapped() {
        let mut columns = Columns::new(["claim", "why"].map(Head::from), 0..0);
        columns.row(["a-1".to_owned(), "word ".repeat(40)]);
        let wrapped = columns.wrapped(Some(60));
        assert!(longest(&wrapped) <= 60 && wrapped.lines().count() > 4, "{wrapped}");
        assert_eq!(wrapped.matches("word").count(), 40, "{wrapped}");
    }
}
