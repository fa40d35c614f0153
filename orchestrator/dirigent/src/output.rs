//! Results on standard output: as aligned columns, as JSON or as CSV.
//!
//! Rows are the JSON of a component's response. JSON output has every value of that response, so that a script sees every field;
//! columns are chosen from it by path.
//!
//! All of it may end on a terminal and hold text of functions and peers, so characters that command a terminal are shown
//! instead of sent; in JSON as its escapes, which a reader of JSON turns back. On a terminal, long values of columns and
//! CSV are cut.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal},
};

use serde_json::Value;
use terminal::{Format, Table, json, leaf_text, leaves, visible_lines};

/// First columns of a table, which say what a row is about: a name.
const KEYS: usize = 1;

/// One column of a printed table.
pub(crate) struct Column {
    /// Its heading.
    pub(crate) title: &'static str,
    /// JSON pointer of its value in a row (RFC 6901).
    pub(crate) pointer: &'static str,
}

impl Column {
    /// The column `title` with the value at `pointer`.
    pub(crate) const fn new(title: &'static str, pointer: &'static str) -> Self {
        Self { title, pointer }
    }
}

/// Prints `rows` on standard output.
///
/// # Errors
/// If they cannot be written.
pub(crate) fn print_rows(format: Format, columns: &[Column], rows: &[Value]) -> io::Result<()> {
    terminal::print(rows_text(format, columns, rows, max_value_width())?)
}

/// Prints one value on standard output; as a table, one line per column.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn print_one(format: Format, columns: &[Column], value: &Value) -> io::Result<()> {
    let longest = max_value_width();
    terminal::print(match format {
        Format::Table => {
            let mut table = Table::new(["key", "value"]).without_heads();
            for column in columns {
                table.row([column.title.to_owned(), shortened(cell(value, column), longest)]);
            }
            table.text(terminal::columns())
        }
        Format::Json => json(value)?,
        Format::Csv => rows_text(format, columns, std::slice::from_ref(value), longest)?,
    })
}

/// Prints one value with all that is in it: as a table, one line per leaf with its dotted path.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn print_tree(format: Format, value: &Value) -> io::Result<()> {
    if format == Format::Json {
        return terminal::print(json(value)?);
    }
    let longest = max_value_width();
    let mut table = Table::new(["key", "value"]);
    for [path, leaf] in leaves(value) {
        table.row([path, shortened(leaf, longest)]);
    }
    terminal::print(if format == Format::Csv { table.csv() } else { table.without_heads().text(terminal::columns()) })
}

fn rows_text(format: Format, columns: &[Column], rows: &[Value], longest: usize) -> io::Result<String> {
    if format == Format::Json {
        return json(&rows);
    }
    let is_numeric =
        |column: &Column| !rows.is_empty() && rows.iter().all(|row| is_number(row.pointer(column.pointer)));
    let numbers = (0..columns.len()).filter(|index| is_numeric(&columns[*index]));
    let mut table = Table::new(columns.iter().map(|column| column.title)).align_right(numbers).split(KEYS);
    for row in rows {
        table.row(columns.iter().map(|column| shortened(cell(row, column), longest)));
    }
    Ok(if format == Format::Csv { table.csv() } else { table.text(terminal::columns()) })
}

fn is_number(value: Option<&Value>) -> bool {
    matches!(value, None | Some(Value::Null | Value::Number(_)))
}

/// The value of a column as text: strings bare, lists joined by spaces, nothing for what is absent.
pub(crate) fn cell(row: &Value, column: &Column) -> String {
    row.pointer(column.pointer).map(leaf_text).unwrap_or_default()
}

/// Longest line of a program's output on a terminal, and longest value of a column, in characters: more would push away
/// everything else on it.
const MAX_LINE_CHARACTERS: usize = 4096;

/// Output of a program as a terminal may have it: its lines and tabs are kept, everything else that commands is shown, and
/// a line without an end is cut. A file or pipe gets whole lines.
pub(crate) fn for_terminal(output: &str) -> String {
    shown(output, MAX_LINE_CHARACTERS)
}

/// The same with whole lines, for a file, or a pipe that may end on a terminal.
pub(crate) fn without_commands(output: &str) -> String {
    shown(output, usize::MAX)
}

/// Characters of a value that standard output gets: all of them where it is no terminal.
fn max_value_width() -> usize {
    if io::stdout().is_terminal() { MAX_LINE_CHARACTERS } else { usize::MAX }
}

/// A value that is cut where it is longer than `longest` characters, and says so.
fn shortened(value: String, longest: usize) -> String {
    match value.char_indices().nth(longest) {
        Some((cut, _)) => format!("{}… ({} bytes more: a file or pipe gets them)", &value[..cut], value.len() - cut),
        None => value,
    }
}

fn shown(output: &str, max_line_characters: usize) -> String {
    let mut shown = String::with_capacity(output.len());
    for line in output.split_inclusive('\n') {
        let (text, end) = line.strip_suffix('\n').map_or((line, ""), |text| (text, "\n"));
        let text = text.strip_suffix('\r').unwrap_or(text);
        let cut = text.char_indices().nth(max_line_characters).map_or(text.len(), |(cut, _)| cut);
        shown.push_str(&visible_lines(&text[..cut]));
        if cut < text.len() {
            // Writing to a string cannot fail.
            let _ = write!(shown, "… ({} bytes more of this line: a file or pipe gets them)", text.len() - cut);
        }
        shown.push_str(end);
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: [Column; 3] =
        [Column::new("name", "/name"), Column::new("ready", "/scale/ready"), Column::new("note", "/note")];

    fn written(format: Format) -> String {
        let rows = [
            json!({"name": "a", "scale": {"ready": 10}, "note": "x, \"y\"", "more": 1}),
            json!({"name": "bcd", "scale": {"ready": 2}}),
        ];
        rows_text(format, &COLUMNS, &rows, usize::MAX).unwrap()
    }

    #[test]
    fn a_table_aligns_its_columns_and_puts_numbers_right() {
        assert_eq!(written(Format::Table), " name  ready  note\n a        10  x, \"y\"\n bcd       2\n");
    }

    #[test]
    fn csv_quotes_what_needs_it_and_leaves_absent_values_empty() {
        assert_eq!(written(Format::Csv), "name,ready,note\na,10,\"x, \"\"y\"\"\"\nbcd,2,\n");
    }

    #[test]
    fn what_commands_a_terminal_is_shown_instead_of_sent() {
        let rows = [json!({"name": "a\u{1b}[2J", "note": "\u{7}b\r\nc\u{9b}1m \u{202e}d ü"})];
        for format in [Format::Table, Format::Csv] {
            let text = rows_text(format, &COLUMNS, &rows, usize::MAX).unwrap();
            assert!(text.contains(r"a\u{1b}[2J") && text.contains(r"\u{7}b\r\nc\u{9b}1m \u{202e}d ü"), "{text:?}");
            assert!(text.lines().count() == 2 && !text.contains(['\u{1b}', '\u{7}', '\r', '\u{9b}']), "{text:?}");
        }
        let text = rows_text(Format::Json, &COLUMNS, &rows, usize::MAX).unwrap();
        assert!(text.contains(r"\u0007b\r\nc\u009b1m \u202ed ü"), "{text:?}");
        assert!(!text.contains(|character: char| character.is_control() && character != '\n'), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), Value::from(&rows[..]), "the same values");
        let leaves = leaves(&json!({"env": {"\u{1b}c": "\u{8}"}}));
        assert_eq!(leaves, [[r"env.\u{1b}c".to_owned(), r"\u{8}".to_owned()]]);
    }

    #[test]
    fn a_program_cannot_command_the_terminal_that_shows_its_output() {
        let shown = for_terminal("one\ttwo\r\nhidden\rshown\u{1b}]0;title\u{7}\n\nlast");
        assert_eq!(shown, "one\ttwo\nhidden\\rshown\\u{1b}]0;title\\u{7}\n\nlast");
        assert_eq!(without_commands("a\u{7}\tb\r\n"), "a\\u{7}\tb\n");
        assert_eq!(without_commands(&"x".repeat(60_000)).len(), 60_000, "a pipe gets whole lines");
        let endless = for_terminal(&format!("{}\nnext\n", "ü".repeat(60_000)));
        let lines: Vec<_> = endless.lines().collect();
        let expected = format!("{}… (111808 bytes more", "ü".repeat(4096));
        assert!(lines.len() == 2 && lines[0].starts_with(&expected) && lines[1] == "next", "{endless}");
    }

    #[test]
    fn a_terminal_gets_no_endless_value() {
        let rows = [json!({"name": "ü".repeat(60_000), "note": "last"})];
        for format in [Format::Table, Format::Csv] {
            let text = |longest| rows_text(format, &COLUMNS, &rows, longest).unwrap();
            let cut = format!("{}… (111808 bytes more", "ü".repeat(4096));
            assert!(text(MAX_LINE_CHARACTERS).contains(&cut), "{format:?} on a terminal");
            assert!(text(usize::MAX).contains(&"ü".repeat(60_000)), "{format:?} in a file or pipe");
        }
    }

    #[test]
    fn json_keeps_fields_that_no_column_shows() {
        let rows: Value = serde_json::from_str(&written(Format::Json)).unwrap();
        assert_eq!(rows[0]["more"], 1);
    }
}
