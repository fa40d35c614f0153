//! Output formats of results, chosen by `--format`.

use std::io;

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;

use crate::{print, visible, visible_json, visible_lines};

/// Output format of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Aligned columns, for people
    #[default]
    Table,
    /// JSON, for programs
    Json,
    /// Comma-separated values with a header, for programs
    Csv,
}

/// The option `--format` of a command that prints a result, also behind its subcommands.
#[derive(Clone, Copy, Debug, Default, Args, Serialize)]
pub struct FormatOption {
    /// Output format of the result
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
}

/// Prints a result on standard output: as `text` for people, or with all that is in it. CSV has a line for each leaf of its
/// JSON, with the leaf's dotted path.
///
/// # Errors
/// If it cannot be written.
pub fn print_result<T: Serialize>(format: Format, result: &T, text: impl FnOnce(&T) -> String) -> io::Result<()> {
    print(match format {
        Format::Table => visible_lines(&text(result)),
        Format::Json => json(result)?,
        Format::Csv => leaves_csv(&serde_json::to_value(result)?),
    })
}

/// The leaves of a value as CSV.
#[must_use]
pub fn leaves_csv(value: &Value) -> String {
    let header = [String::from("key"), String::from("value")];
    csv(std::iter::once(header).chain(leaves(value)))
}

/// The leaves of a value, each with its dotted path. What is absent or an empty list is left out; the items of a list are
/// joined by spaces unless they are objects.
#[must_use]
pub fn leaves(value: &Value) -> Vec<[String; 2]> {
    let mut leaves = Vec::new();
    collect_leaves(String::new(), value, &mut leaves);
    leaves
}

fn collect_leaves(path: String, value: &Value, leaves: &mut Vec<[String; 2]>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                collect_leaves(below(&visible(key)), inner, leaves);
            }
        }
        Value::Array(values) if values.iter().any(Value::is_object) => {
            for (index, inner) in values.iter().enumerate() {
                collect_leaves(below(&index.to_string()), inner, leaves);
            }
        }
        Value::Null => {}
        Value::Array(values) if values.is_empty() => {}
        leaf => leaves.push([path, leaf_text(leaf)]),
    }
}

/// A value as text: strings bare, lists joined by spaces, nothing for what is absent.
#[must_use]
pub fn leaf_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => visible(text),
        Value::Array(values) => values.iter().map(leaf_text).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// A value as JSON of several lines, without characters that command a terminal.
///
/// # Errors
/// If it has a key that is no text.
pub fn json(value: &impl Serialize) -> io::Result<String> {
    Ok(visible_json(&serde_json::to_string_pretty(value)?) + "\n")
}

/// Records as CSV, quoted where RFC 4180 asks for it, without characters that command a terminal.
#[must_use]
pub fn csv<R: IntoIterator<Item: AsRef<[u8]>>>(records: impl IntoIterator<Item = R>) -> String {
    let mut csv = ::csv::Writer::from_writer(Vec::new());
    for record in records {
        csv.write_record(record).expect("every record has a cell for each column, and memory can be written to");
    }
    let bytes = csv.into_inner().expect("memory can be written to");
    visible_lines(&String::from_utf8_lossy(&bytes))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_leaf_has_its_path() {
        let value = json!({"a": {"b": [1, 2], "none": null}, "list": [{"c": "x, y"}, {"c": "\u{1b}"}], "empty": []});
        let expected = [["a.b", "1 2"], ["list.0.c", "x, y"], ["list.1.c", r"\u{1b}"]];
        assert_eq!(leaves(&value), expected.map(|leaf| leaf.map(str::to_owned)));
        assert_eq!(leaves_csv(&value), "key,value\na.b,1 2\nlist.0.c,\"x, y\"\nlist.1.c,\\u{1b}\n");
    }

    #[test]
    fn json_is_indented_and_commands_no_terminal() {
        assert_eq!(json(&json!({"a": "\u{9b}1m"})).unwrap(), "{\n  \"a\": \"\\u009b1m\"\n}\n");
    }
}
