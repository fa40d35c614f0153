//! Results as printed on standard output: a table for people, JSON or CSV for programs.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, presets::NOTHING};
use serde_json::{Map, Value};

/// Output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns, for people
    #[default]
    Table,
    /// JSON, for programs
    Json,
    /// Comma-separated values with a header
    Csv,
}

/// Named columns and rows of text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextTable {
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// A table without rows.
    #[must_use]
    pub fn new(columns: &[&'static str]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len(), "a row has a cell for each column");
        self.rows.push(cells.into());
    }

    /// Prints it on standard output.
    ///
    /// # Errors
    /// When standard output is closed for another reason than that its reader has seen enough.
    pub fn print(&self, format: Format) -> io::Result<()> {
        terminal::print(self.text(format, io::stdout().is_terminal()))
    }

    /// It as text without what commands a terminal; `terminal` says whether long cells may be wrapped to the width of one.
    #[must_use]
    pub fn text(&self, format: Format, terminal: bool) -> String {
        match format {
            Format::Table => self.aligned(terminal),
            Format::Json => terminal::visible_json(&self.json()),
            Format::Csv => terminal::visible_lines(&self.csv()),
        }
    }

    fn aligned(&self, terminal: bool) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING).set_header(&self.columns);
        if terminal && terminal::columns().is_some() {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        for row in &self.rows {
            table.add_row(row.iter().map(|cell| terminal::visible_lines(cell)));
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        lines.concat()
    }

    fn json(&self) -> String {
        let object = |row: &Vec<String>| -> Value {
            let fields = self.columns.iter().zip(row).map(|(column, cell)| ((*column).to_owned(), cell.clone().into()));
            Value::Object(fields.collect::<Map<String, Value>>())
        };
        let rows = Value::Array(self.rows.iter().map(object).collect());
        format!("{rows:#}\n")
    }

    fn csv(&self) -> String {
        let line = |cells: Vec<&str>| cells.into_iter().map(quote).collect::<Vec<_>>().join(",") + "\n";
        let header = line(self.columns.clone());
        let rows = self.rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
        std::iter::once(header).chain(rows).collect()
    }
}

/// A CSV cell, quoted where RFC 4180 asks for it.
fn quote(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_commands_a_terminal() {
        let cell = "a\u{1b}[2J\u{9b}1m\u{202e}b";
        let mut table = TextTable::new(&["name"]);
        table.row([cell.to_owned()]);
        for format in [Format::Table, Format::Csv, Format::Json] {
            let text = table.text(format, false);
            let is_command = |character: char| character == '\u{202e}' || (character.is_control() && character != '\n');
            assert!(!text.contains(is_command), "{format:?}: {text:?}");
            let shown =
                if format == Format::Json { r"a\u001b[2J\u009b1m\u202eb" } else { r"a\u{1b}[2J\u{9b}1m\u{202e}b" };
            assert!(text.contains(shown), "{format:?}: {text}");
        }
    }

    #[test]
    fn one_table_has_three_forms() {
        let mut table = TextTable::new(&["name", "why"]);
        table.row(["a".to_owned(), "plain".to_owned()]);
        table.row(["bc".to_owned(), "said \"no\", twice".to_owned()]);
        assert_eq!(table.text(Format::Csv, false), "name,why\na,plain\nbc,\"said \"\"no\"\", twice\"\n");
        let json: Value = serde_json::from_str(&table.text(Format::Json, false)).unwrap();
        assert_eq!(json[1]["why"], "said \"no\", twice");
        let aligned = table.text(Format::Table, false);
        assert!(aligned.lines().nth(1).unwrap().contains("a     plain"), "{aligned}");
    }
}
