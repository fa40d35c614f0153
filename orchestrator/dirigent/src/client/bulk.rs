//! Registering many functions from a file: newline-delimited JSON in, one result line each back.
//!
//! The whole file is checked before anything is sent, so that a mistake in its last line registers nothing.

use std::path::Path;

use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use model::{FunctionName, LineReader};
use serde_json::{Map, Value};
use ureq::http::Method;

use super::http::{self, Server};
use crate::{
    command_line::Format,
    failure::{Failure, Outcome},
    input,
    output::{self, Column},
};

/// Functions sent in one request: enough that the round trip does not matter, few enough that progress shows.
const CHUNK: usize = 200;

const COLUMNS: [Column; 4] = [
    Column::new("line", "/line"),
    Column::new("name", "/name"),
    Column::new("result", "/result"),
    Column::new("error", "/error"),
];

/// A function of the file, checked.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    /// Which line of the file it is, from 1.
    number: usize,
    name: FunctionName,
    /// What the file has, so that a column in it means the same to the control plane.
    text: String,
}

/// Registers every function of the file.
///
/// Its result is a line that counts them, or, for a script, a row for each.
pub(crate) fn register(control_plane: &Server, format: Format, path: &Path) -> Outcome {
    let lines = read(path).map_err(Failure::Usage)?;
    let progress = ProgressBar::new(lines.len() as u64);
    progress.set_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} functions").expect("a valid template"));
    let mut results = Vec::new();
    for chunk in lines.chunks(CHUNK) {
        let texts: Vec<&str> = chunk.iter().map(|line| line.text.as_str()).collect();
        let body = Some((texts.join("\n") + "\n", "application/x-ndjson"));
        let answer = control_plane.ask(Method::POST, "/v1/functions", body)?;
        answer.check().with_context(|| control_plane.describe())?;
        results.extend(chunk_results(&answer.body, chunk));
        progress.inc(chunk.len() as u64);
    }
    progress.finish_and_clear();
    let problems: Vec<String> = results.iter().filter_map(|result| problem(path, result)).collect();
    for problem in &problems {
        stdio::note!("{problem}");
    }
    match format {
        Format::Table => {
            let done = lines.len() - problems.len();
            stdio::print(format!("{done} of {} functions registered\n", lines.len()))?;
        }
        Format::Json | Format::Csv => output::print_rows(format, &COLUMNS, &results)?,
    }
    if problems.is_empty() { Ok(()) } else { Err(anyhow!("{} functions were refused", problems.len()).into()) }
}

/// The functions of a file; blank lines are allowed.
fn read(path: &Path) -> anyhow::Result<Vec<Line>> {
    let file = input::read("--from", path)?;
    let mut lines = Vec::new();
    let mut reader = LineReader::default();
    for (text, number) in file.split(|byte| *byte == b'\n').zip(1..).filter(|(text, _)| !text.trim_ascii().is_empty()) {
        let spec = reader
            .read(text, number)
            .map_err(|error| anyhow!("{}:{number}:{}: {error}", path.display(), error.column))?;
        let text = String::from_utf8(text.trim_ascii_end().to_vec())
            .with_context(|| format!("{}:{number}: is not UTF-8", path.display()))?;
        lines.push(Line { number, name: spec.name, text });
    }
    if lines.is_empty() {
        return Err(anyhow!("{}: has no function", path.display()));
    }
    Ok(lines)
}

/// What became of each line of a chunk, with its place in the file; a result that is missing counts as a refusal.
fn chunk_results(answer: &str, chunk: &[Line]) -> Vec<Value> {
    let mut results = answer.lines().filter(|line| !line.trim().is_empty());
    let result = |line: &Line| {
        let result = results.next().and_then(|result| serde_json::from_str(result).ok());
        let mut result = match result {
            Some(Value::Object(result)) => result,
            _ => Map::from_iter([("error".to_owned(), "no result came back".into())]),
        };
        result.insert("line".to_owned(), line.number.into());
        result.insert("name".to_owned(), line.name.as_str().into());
        Value::Object(result)
    };
    chunk.iter().map(result).collect()
}

/// What is wrong with a line that was refused.
fn problem(path: &Path, result: &Value) -> Option<String> {
    let number = |name: &str| result.get(name).and_then(Value::as_u64);
    if number("status").is_some_and(|status| (200..300).contains(&status)) {
        return None;
    }
    let name = result.get("name").and_then(Value::as_str).unwrap_or_default();
    let (line, column) = (number("line").unwrap_or(1), number("column").unwrap_or(1));
    Some(format!("{}:{line}:{column}: {name}: {}", path.display(), http::describe(result)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read_text(text: &str) -> anyhow::Result<Vec<Line>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        read(file.path())
    }

    #[test]
    fn the_place_that_is_wrong_is_named() {
        let good = r#"{"name":"a","image":"i"}"#;
        let other = r#"{"name":"b","image":"i"}"#;
        assert_eq!(read_text(&format!("{good}\r\n\n{other}")).unwrap()[1].number, 3);
        for (bad, expected) in [
            (r#"{"name":"a"}"#, ":2:1: image: is missing"),
            (r#"{"name":"A","image":"i"}"#, ":2:2: name: a function name has only a-z"),
            (r#"{"name":"a","image":"i","timeout":"0s"}"#, ":2:25: timeout: expected more than 0s, got 0s"),
            (r#"{"name":"a","image":"i","memory":"128Mi"}"#, ":2:25: memory: expected MiB as a whole number or a size"),
            (good, ":2:2: name: expected each function once, \"a\" is on line 1 too"),
            (r#"{"name":"a","image":"i"},"#, ":2:25: expected the end of the line after the function"),
        ] {
            let found = format!("{:#}", read_text(&format!("{good}\n{bad}\n")).unwrap_err());
            assert!(found.contains(expected), "expected {expected:?}: {found}");
        }
        assert!(read_text("\n").is_err(), "a file without functions is a mistake");
    }

    #[test]
    fn files_of_another_form_are_refused_with_what_to_do() {
        let function = r#"{"name":"a","image":"i"}"#;
        for (text, expected) in [
            (format!("\u{feff}{function}\r\n{function}\r\n"), ":1:1: begins with a byte order mark"),
            ("{\n  \"name\": \"a\",\n  \"image\": \"i\"\n}\n".to_owned(), ":1:1: the line ends within a function"),
            (format!("[{function}]\n"), ":1:1: expected one function on each line, got a list"),
            (format!("[\n{function}\n]\n"), ":1:1: expected one function on each line, got a list"),
        ] {
            let found = format!("{:#}", read_text(&text).unwrap_err());
            assert!(found.contains(expected), "expected {expected:?}: {found}");
        }
    }

    #[test]
    fn refused_and_missing_results_are_failures_with_their_place() {
        let chunk = [("a", 7), ("b", 9), ("c", 10)].map(|(name, number)| Line {
            number,
            name: name.parse().unwrap(),
            text: String::new(),
        });
        let answer = "{\"status\":201}\n{\"status\":400,\"error\":\"x\",\"column\":3}\n";
        let expected = ["f.ndjson:9:3: b: x", "f.ndjson:10:1: c: no result came back"];
        let results = chunk_results(answer, &chunk);
        let problems: Vec<_> = results.iter().filter_map(|result| problem(Path::new("f.ndjson"), result)).collect();
        assert_eq!(problems, expected);
        let places: Vec<_> = results.iter().map(|result| (&result["line"], &result["name"])).collect();
        assert_eq!(places, [(&7.into(), &"a".into()), (&9.into(), &"b".into()), (&10.into(), &"c".into())]);
    }
}
