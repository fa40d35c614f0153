//! Registering many functions from a file: newline-delimited JSON in, one result line each back.
//!
//! Each line counts by itself: one that is wrong is reported with its position and costs no other its registration, as
//! `loadgen register` has it.

use std::path::Path;

use anyhow::anyhow;
use indicatif::{ProgressBar, ProgressStyle};
use model::{FunctionName, LineReader};
use serde_json::{Map, Value, json};
use terminal::{Format, UsageError};
use ureq::http::Method;

use super::{
    function::note_unknown,
    http::{self, Server},
};
use crate::{
    input,
    output::{self, Column},
};

/// The byte order mark that some editors begin a file with; it is skipped, and counts as no column.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

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
    /// Its line in the file, from 1.
    number: usize,
    name: FunctionName,
    /// Its text as in the file, so that a column in it means the same to the control plane.
    text: String,
}

/// The content of a file.
#[derive(Debug, Default, PartialEq)]
struct Contents {
    /// Its functions.
    lines: Vec<Line>,
    /// Problems of its other lines, in the form of results of lines that a control plane refuses.
    refused: Vec<Value>,
}

/// Registers every function of the file that is right.
///
/// Its result is a line that counts them, or, for a script, a row for each line.
pub(crate) fn register(control_plane: &Server, format: Format, path: &Path) -> anyhow::Result<()> {
    let Contents { lines, refused } = read(path).map_err(UsageError::of)?;
    let (of, mut results) = (lines.len() + refused.len(), refused);
    let progress = ProgressBar::new(lines.len() as u64);
    progress.set_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} functions").expect("a valid template"));
    for chunk in lines.chunks(CHUNK) {
        let texts: Vec<&str> = chunk.iter().map(|line| line.text.as_str()).collect();
        let body = Some((texts.join("\n") + "\n", "application/x-ndjson"));
        let response = control_plane.request(Method::POST, "/v1/functions", body)?;
        results.extend(chunk_results(&response.body, chunk));
        progress.inc(chunk.len() as u64);
    }
    progress.finish_and_clear();
    results.sort_by_key(|result| result.get("line").and_then(Value::as_u64));
    let problems: Vec<String> = results.iter().filter_map(|result| problem(path, result)).collect();
    for problem in &problems {
        terminal::note!("{problem}");
    }
    note_unknown(&results);
    match format {
        Format::Table => {
            terminal::print(format!("{} of {of} functions registered\n", of - problems.len()))?;
        }
        Format::Json | Format::Csv => output::print_rows(format, &COLUMNS, &results)?,
    }
    if problems.is_empty() { Ok(()) } else { Err(anyhow!("{} of {of} functions were refused", problems.len())) }
}

/// The functions of a file; blank lines are allowed.
///
/// # Errors
/// If it cannot be read, or no line of it has a function that can be registered: then it is likely to be another file.
fn read(path: &Path) -> anyhow::Result<Contents> {
    let file = input::read("--from", path)?;
    let mut contents = Contents::default();
    let mut reader = LineReader::default();
    for (text, number) in file.split(|byte| *byte == b'\n').zip(1..) {
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        if text.trim_ascii().is_empty() {
            continue;
        }
        let line = reader.read(text, number).map_err(|error| (error.column, error.to_string()));
        let line = line.and_then(|spec| match String::from_utf8(text.trim_ascii_end().to_vec()) {
            Ok(text) => Ok(Line { number, name: spec.name, text }),
            Err(_) => Err((1, "is not UTF-8".to_owned())),
        });
        match line {
            Ok(line) => contents.lines.push(line),
            Err((column, error)) => {
                contents.refused.push(json!({"line": number, "column": column, "status": 400, "error": error}));
            }
        }
    }
    match contents.refused.first().and_then(|first| problem(path, first)) {
        _ if !contents.lines.is_empty() => Ok(contents),
        None => Err(anyhow!("{}: has no function", path.display())),
        Some(first) => match contents.refused.len() - 1 {
            0 => Err(anyhow!(first)),
            more => Err(anyhow!("{first}; and {more} more lines without a function that can be registered")),
        },
    }
}

/// The result of each line of a chunk, with its position in the file; a missing result counts as a refusal.
fn chunk_results(response: &str, chunk: &[Line]) -> Vec<Value> {
    let mut results = response.lines().filter(|line| !line.trim().is_empty());
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

/// The problem of a line that was refused.
fn problem(path: &Path, result: &Value) -> Option<String> {
    let number = |name: &str| result.get(name).and_then(Value::as_u64);
    if number("status").is_some_and(|status| (200..300).contains(&status)) {
        return None;
    }
    let name = result.get("name").and_then(Value::as_str).map(|name| format!("{name}: ")).unwrap_or_default();
    let (line, column) = (number("line").unwrap_or(1), number("column").unwrap_or(1));
    Some(format!("{}:{line}:{column}: {name}{}", path.display(), http::describe(result)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read_text(text: &str) -> anyhow::Result<Contents> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        read(file.path())
    }

    /// The names of the functions of a text, and what is said of its other lines.
    fn sorted_out(text: &str) -> (Vec<String>, Vec<String>) {
        let Contents { lines, refused } = read_text(text).unwrap();
        let problems = refused.iter().filter_map(|result| problem(Path::new("F"), result)).collect();
        (lines.iter().map(|line| line.name.to_string()).collect(), problems)
    }

    #[test]
    fn the_wrong_position_is_named() {
        let good = r#"{"name":"a","image":"i"}"#;
        let other = r#"{"name":"b","image":"i"}"#;
        assert_eq!(read_text(&format!("{good}\r\n\n{other}")).unwrap().lines[1].number, 3);
        for (bad, expected) in [
            (r#"{"name":"a"}"#, ":2:1: image: is missing"),
            (r#"{"name":"A","image":"i"}"#, ":2:2: name: a function name has only a-z"),
            (r#"{"name":"a","image":"i","timeout":"0s"}"#, ":2:25: timeout: expected more than 0s, got 0s"),
            (r#"{"name":"a","image":"i","memory":"128Mi"}"#, ":2:25: memory: expected MiB as a whole number or a size"),
            (good, ":2:2: name: expected each function once, \"a\" is on line 1 too"),
            (r#"{"name":"a","image":"i"},"#, ":2:25: expected the end of the line after the function"),
        ] {
            let (functions, problems) = sorted_out(&format!("{good}\n{bad}\n{other}\n"));
            assert_eq!(functions, ["a", "b"], "the others are kept: {bad}");
            let [found] = &problems[..] else { panic!("expected one problem of {bad}, found {problems:?}") };
            assert!(found.contains(expected), "expected {expected:?}: {found}");
        }
        assert!(read_text("\n").is_err(), "a file without functions is a mistake");
    }

    #[test]
    fn files_of_another_form_are_refused_with_what_to_do() {
        let function = r#"{"name":"a","image":"i"}"#;
        for (text, expected) in [
            ("{\n  \"name\": \"a\",\n  \"image\": \"i\"\n}\n".to_owned(), ":1:1: the line ends within a function"),
            (format!("[{function}]\n"), ":1:1: expected one function on each line, got a list"),
            (format!("[\n{function},\n]\n"), ":1:1: expected one function on each line, got a list"),
            ("a,b\n1,2\n3,4\n".to_owned(), "; and 2 more lines without a function that can be registered"),
        ] {
            let found = format!("{:#}", read_text(&text).unwrap_err());
            assert!(found.contains(expected), "expected {expected:?}: {found}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        let function = |name: &str| format!("\u{feff}{{\"name\":\"{name}\",\"image\":\"i\"}}\r\n");
        assert_eq!(sorted_out(&(function("a") + &function("b"))), (vec!["a".to_owned(), "b".to_owned()], vec![]));
        let (functions, problems) = sorted_out(&(function("a") + &function("b").replace("\"i\"", "1")));
        assert_eq!((functions.len(), problems.len()), (1, 1));
        assert!(problems[0].starts_with("F:2:13: image: expected "), "{problems:?}");
    }

    #[test]
    fn refused_and_missing_results_are_failures_with_their_position() {
        let chunk = [("a", 7), ("b", 9), ("c", 10)].map(|(name, number)| Line {
            number,
            name: name.parse().unwrap(),
            text: String::new(),
        });
        let response = "{\"status\":201}\n{\"status\":400,\"error\":\"x\",\"column\":3}\n";
        let expected = ["f.ndjson:9:3: b: x", "f.ndjson:10:1: c: no result came back"];
        let results = chunk_results(response, &chunk);
        let problems: Vec<_> = results.iter().filter_map(|result| problem(Path::new("f.ndjson"), result)).collect();
        assert_eq!(problems, expected);
        let places: Vec<_> = results.iter().map(|result| (&result["line"], &result["name"])).collect();
        assert_eq!(places, [(&7.into(), &"a".into()), (&9.into(), &"b".into()), (&10.into(), &"c".into())]);
    }
}
