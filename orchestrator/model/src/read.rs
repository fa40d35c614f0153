//! Reads specifications as users write them: JSON, with errors that state the position of the mistake and the
//! expectation.
//!
//! serde's errors speak of Rust's types (`invalid type: string, expected u32`). Here the same error names the field's
//! path, the expectation in a user's terms, and the given value.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
};

use serde_json::{Value, error::Category};
use serde_path_to_error::{Path, Segment};
use thiserror::Error;

use crate::{FunctionName, FunctionSpec, expectation::expectation, text::shortened};

/// Characters of a text or a path shown in a message: enough to find it.
const MAX_SHOWN_CHARS: usize = 60;

/// The document that contains a specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout<'a> {
    /// A document with one specification, of the function of this name, which the text may omit.
    Named(&'a str),
    /// One line of a document with one specification per line.
    Line,
}

/// A text is not a valid specification.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{problem}")]
pub struct ReadError {
    /// Path of the wrong field, for example `scale.max`; `None` if the whole text is wrong.
    pub field: Option<String>,
    /// The problem, starting with the field.
    pub problem: String,
    /// Line within the text, from 1.
    pub line: usize,
    /// Byte within that line, from 1: of the field or, if it is absent, where reading stopped.
    pub column: usize,
}

impl FunctionSpec {
    /// Reads a specification and checks its bounds.
    ///
    /// # Errors
    /// Returns the first mistake.
    pub fn read(text: &[u8], layout: Layout<'_>) -> Result<Self, ReadError> {
        check_form(text, layout)?;
        let text = &match layout {
            Layout::Line => Cow::Borrowed(text),
            Layout::Named(name) => with_name(text, name, layout)?,
        };
        let mut json = serde_json::Deserializer::from_slice(text);
        let spec: Self =
            serde_path_to_error::deserialize(&mut json).map_err(|error| match error.inner().classify() {
                Category::Data => mistake(text, &error),
                _ => unreadable(layout, error.inner()),
            })?;
        // A deserializer alone ignores what follows the value.
        json.end().map_err(|error| unreadable(layout, &error))?;
        spec.check().map_err(|error| {
            let keys: Vec<&str> = error.field.split('.').collect();
            about(text, &keys, error.field.to_owned(), error.to_string())
        })?;
        Ok(spec)
    }
}

/// Reads many specifications, one per line, with unique names.
#[derive(Debug, Default)]
pub struct LineReader {
    /// The line of each name.
    lines: HashMap<FunctionName, usize>,
}

impl LineReader {
    /// Reads the line with this number.
    ///
    /// # Errors
    /// Returns the first mistake. A name that occurred on an earlier line is one: either could be meant.
    pub fn read(&mut self, text: &[u8], number: usize) -> Result<FunctionSpec, ReadError> {
        let spec = FunctionSpec::read(text, Layout::Line)?;
        match self.lines.entry(spec.name.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(number);
                Ok(spec)
            }
            Entry::Occupied(entry) => {
                let problem = format!(
                    "name: expected each function once, {:?} is on line {} too",
                    spec.name.as_str(),
                    entry.get()
                );
                Err(about(text, &["name"], "name".to_owned(), problem))
            }
        }
    }
}

/// Refuses text that is visibly no JSON, or no single function, with a more helpful message than a parser's.
fn check_form(text: &[u8], layout: Layout<'_>) -> Result<(), ReadError> {
    let whole = |problem: &str| Err(ReadError { field: None, problem: problem.to_owned(), line: 1, column: 1 });
    if text.starts_with(b"\xEF\xBB\xBF") {
        return whole("begins with a byte order mark (BOM): expected UTF-8 without one");
    }
    if text.starts_with(b"\xFF\xFE") || text.starts_with(b"\xFE\xFF") {
        return whole("is UTF-16: expected UTF-8");
    }
    match (text.trim_ascii_start().first(), layout) {
        (Some(b'['), Layout::Line) => whole(
            "expected one function on each line, got a list: write each function on a line of its own, without the \
             brackets and commas of a list",
        ),
        (Some(b'['), Layout::Named(_)) => whole("expected one function as an object {…}, got a list"),
        _ => Ok(()),
    }
}

/// The text with `name` inserted where it moves no line.
fn with_name<'a>(text: &'a [u8], name: &str, layout: Layout<'_>) -> Result<Cow<'a, [u8]>, ReadError> {
    let document = serde_json::from_slice(text).map_err(|error| unreadable(layout, &error))?;
    // Any other value is refused by the caller, which knows the expectation.
    let Value::Object(fields) = document else { return Ok(Cow::Borrowed(text)) };
    match fields.get("name") {
        Some(Value::String(given)) if given == name => Ok(Cow::Borrowed(text)),
        Some(given) => {
            let problem = format!("name: expected {name:?} as in the address, got {}", found(given));
            Err(about(text, &["name"], "name".to_owned(), problem))
        }
        None => {
            // Before the closing brace, so that positions in the rest of the text stay.
            let end = text.trim_ascii_end().len().saturating_sub(1);
            let comma = if fields.is_empty() { "" } else { "," };
            let name = format!("{comma}\"name\":{}", Value::from(name));
            Ok(Cow::Owned([&text[..end], name.as_bytes(), &text[end..]].concat()))
        }
    }
}

/// The error for invalid JSON.
fn unreadable(layout: Layout<'_>, error: &serde_json::Error) -> ReadError {
    let message = error.to_string();
    // serde_json appends the position to its text; here it is reported apart.
    let message = message.split(" at line ").next().unwrap_or_default();
    let problem = match (layout, error.classify()) {
        (Layout::Line, Category::Eof) => {
            "the line ends within a function: expected each function on one line, not over several".to_owned()
        }
        (Layout::Line, _) if message == "trailing characters" => {
            "expected the end of the line after the function, got more text".to_owned()
        }
        (Layout::Named(_), _) if message == "trailing characters" => {
            "expected nothing after the function, got more text".to_owned()
        }
        _ => format!("expected JSON: {message}"),
    };
    // The end of an empty text is before the first column.
    ReadError { field: None, problem, line: error.line().max(1), column: error.column().max(1) }
}

/// The error for JSON that is no specification: names the field, the expectation and the given value.
fn mistake(text: &[u8], error: &serde_path_to_error::Error<serde_json::Error>) -> ReadError {
    let (path, message) = (error.path(), error.inner().to_string());
    let message = message.split(" at line ").next().unwrap_or_default();
    let mut keys: Vec<&str> = path.iter().filter_map(key).collect();
    let mut field = if path.iter().next().is_some() { path.to_string() } else { String::new() };
    // serde tells the kinds of error apart by their text only.
    let quoted = |prefix: &str| message.strip_prefix(prefix)?.split('`').next();
    let problem = if let Some(missing) = quoted("missing field `") {
        field = if field.is_empty() { missing.to_owned() } else { format!("{field}.{missing}") };
        "is missing".to_owned()
    } else if let Some((_, known)) = message.split_once("unknown field `").and_then(|(_, rest)| rest.split_once("`, "))
    {
        format!("there is no such field, {}", known.replace('`', ""))
    } else if let Some(twice) = quoted("duplicate field `") {
        if keys.last() != Some(&twice) {
            keys.push(twice);
            field = if field.is_empty() { twice.to_owned() } else { format!("{field}.{twice}") };
        }
        "is there twice".to_owned()
    } else {
        let document: Value = serde_json::from_slice(text).unwrap_or_default();
        let got = lookup(&document, path);
        match got {
            // For an invalid name the specific problem says more than the rule.
            Value::String(_) if field == "name" => message.to_owned(),
            got => format!("expected {}, got {}", expectation(path), found(got)),
        }
    };
    if field.is_empty() {
        return ReadError { field: None, problem, line: error.inner().line(), column: error.inner().column() };
    }
    let field = shortened(&field, MAX_SHOWN_CHARS);
    about(text, &keys, field.clone(), format!("{field}: {problem}"))
}

/// An error in the field that `keys` lead to.
fn about(text: &[u8], keys: &[&str], field: String, problem: String) -> ReadError {
    let before = &text[..position(text, keys)];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    ReadError { field: Some(field), problem, line, column }
}

/// Position of the last key that exists, each searched for behind the one before; 0 if none does.
fn position(text: &[u8], keys: &[&str]) -> usize {
    let mut at = 0;
    for key in keys {
        // By searching the text, because a parsed document has no positions.
        let quoted = Value::from(*key).to_string();
        let is_key = |rest: &[u8]| {
            rest.strip_prefix(quoted.as_bytes()).is_some_and(|after| after.trim_ascii_start().first() == Some(&b':'))
        };
        match (at..text.len()).find(|start| is_key(&text[*start..])) {
            Some(start) => at = start,
            None => break,
        }
    }
    at
}

fn key(segment: &Segment) -> Option<&str> {
    match segment {
        Segment::Map { key } => Some(key),
        _ => None,
    }
}

/// The value that a path leads to.
fn lookup<'a>(document: &'a Value, path: &Path) -> &'a Value {
    path.iter().fold(document, |value, segment| {
        let below = match segment {
            Segment::Map { key } => value.get(key),
            Segment::Seq { index } => value.get(index),
            Segment::Enum { .. } | Segment::Unknown => None,
        };
        below.unwrap_or(value)
    })
}

/// The given value in a user's terms.
fn found(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("number {number}"),
        Value::String(text) => format!("text {:?}", shortened(text, MAX_SHOWN_CHARS)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str, layout: Layout<'_>) -> ReadError {
        FunctionSpec::read(text.as_bytes(), layout).expect_err(text)
    }

    #[test]
    fn a_name_may_be_left_out_where_it_is_known() {
        let expected = FunctionSpec::new("f".parse().unwrap(), "i");
        for text in [r#"{"image":"i"}"#, "{\n \"image\": \"i\"\n}\n", r#"{"name":"f","image":"i"}"#] {
            assert_eq!(FunctionSpec::read(text.as_bytes(), Layout::Named("f")).unwrap(), expected, "{text}");
        }
        let other = problem(r#"{"image":"i","name":"g"}"#, Layout::Named("f"));
        assert_eq!(other.problem, r#"name: expected "f" as in the address, got text "g""#);
        assert_eq!(problem("{}", Layout::Named("f")).problem, "image: is missing");
    }

    #[test]
    fn a_wrong_value_is_named_with_what_was_expected() {
        for (fields, field, expected) in [
            (
                r#""memory":"128Mi""#,
                "memory",
                r#"expected MiB as a whole number or a size like 128MiB, got text "128Mi""#,
            ),
            (r#""memory":1e3"#, "memory", "expected MiB as a whole number or a size like 128MiB, got number 1000.0"),
            (r#""timeout":30"#, "timeout", r#"expected a duration as text, like "250ms" or "30s", got number 30"#),
            (r#""port":"9090""#, "port", r#"expected a port as a whole number, 1 to 65535, got text "9090""#),
            (r#""port":0"#, "port", "expected 1 to 65535, got 0"),
            (
                r#""cpu":"0.5""#,
                "cpu",
                "expected millicores as a whole number, like 500 for half a core, got text \"0.5\"",
            ),
            (r#""concurrency":-1"#, "concurrency", "expected a whole number, 1 to 10000, got number -1"),
            (r#""concurrency":0"#, "concurrency", "expected 1 to 10000, got 0"),
            (r#""protocol":"tcp""#, "protocol", r#"expected "http1" or "h2c", got text "tcp""#),
            (r#""scale":{"min":"1"}"#, "scale.min", "expected a whole number, 0 to 4294967295, got text \"1\""),
            (r#""protocol":1"#, "protocol", r#"expected "http1" or "h2c", got number 1"#),
            (r#""retry":true"#, "retry", r#"expected "idempotent" or "any", got true"#),
            (r#""retry":null"#, "retry", r#"expected "idempotent" or "any", got null"#),
            (r#""retry":["any"]"#, "retry", r#"expected "idempotent" or "any", got a list"#),
            (r#""retry":{"any":null}"#, "retry", r#"expected "idempotent" or "any", got an object"#),
            (r#""env":{"A":"1","B":"2","A":"3"}"#, "env.A", "is there twice"),
            (r#""scale":{"max":-1}"#, "scale.max", "expected a whole number, 1 to 4294967295, got number -1"),
            (r#""scale":{"min":3,"max":2}"#, "scale.max", "expected at least 1 and not below scale.min (3), got 2"),
            (r#""scale":{"panic_threshold":"x"}"#, "scale.panic_threshold", "expected a number, got text \"x\""),
            (r#""scale":{"max_scale_up_rate":[]}"#, "scale.max_scale_up_rate", "expected a number, got a list"),
            (
                r#""queue":{"deadline":null}"#,
                "queue.deadline",
                "expected a duration as text, like \"250ms\" or \"30s\", got null",
            ),
            (
                r#""queue":[3]"#,
                "queue",
                "expected an object like {\"deadline\": \"60s\", \"limit\": 10000}, got a list",
            ),
            (r#""queue":{"limit":0}"#, "queue.limit", "expected at least 1 where scale.min is 0"),
            (r#""scale":[1,5]"#, "scale", "expected an object like {\"min\": 0, \"max\": 10}, got a list"),
            (r#""scale":[]"#, "scale", "expected an object like {\"min\": 0, \"max\": 10}, got a list"),
            (r#""env":["A=b"]"#, "env", r#"expected an object of texts, like {"NAME": "value"}, got a list"#),
            (r#""env":{"A":1}"#, "env.A", "expected a text, got number 1"),
            (r#""args":["a",true]"#, "args[1]", "expected a text, got true"),
            (r#""image":{}"#, "image", "expected a text like \"builtin:function\", got an object"),
            (r#""scale":{"most":1}"#, "scale.most", "there is no such field, expected one of min, max, policy, "),
            (r#""colour":1"#, "colour", "there is no such field, expected one of name, image, "),
            (r#""cpu":1,"cpu":2"#, "cpu", "is there twice"),
        ] {
            let text = if field == "image" { format!("{{{fields}}}") } else { format!(r#"{{"image":"i",{fields}}}"#) };
            let found = problem(&text, Layout::Named("f"));
            assert_eq!(found.field.as_deref(), Some(field), "{text}: {found}");
            let expected = format!("{field}: {expected}");
            assert!(found.problem.starts_with(&expected), "{text}: expected {expected:?}, found {:?}", found.problem);
        }
    }

    #[test]
    fn text_after_the_function_is_reported_rather_than_a_missing_name() {
        for after in ["x", ",", "{\"image\":\"i\"}"] {
            let found = problem(&format!("{{\"image\":\"i\"}} {after}"), Layout::Named("f"));
            let expected = "expected nothing after the function, got more text";
            assert_eq!((found.field.as_deref(), found.problem.as_str(), found.column), (None, expected, 15));
        }
    }

    #[test]
    fn an_error_has_its_line_and_column() {
        let text = "{\n  \"image\": \"i\",\n  \"scale\": {\"min\": 0,\n    \"max\": \"many\"}\n}";
        let found = problem(text, Layout::Named("f"));
        assert_eq!((found.line, found.column), (4, 5), "{found}");
        let found = problem("", Layout::Named("f"));
        assert_eq!((found.line, found.column), (1, 1), "{found}");
        let found = problem("{\n  \"image\": i\n}", Layout::Named("f"));
        assert_eq!((found.line, found.problem.as_str()), (2, "expected JSON: expected value"));
        let found = problem(r#"{"name":"f","image":"i","concurrency":0}"#, Layout::Line);
        assert_eq!((found.line, found.column), (1, 25), "{found}");
    }

    #[test]
    fn a_name_that_is_there_twice_is_reported_with_both_lines() {
        let mut reader = LineReader::default();
        assert!(reader.read(br#"{"name":"f","image":"i"}"#, 1).is_ok());
        assert!(reader.read(br#"{"name":"g","image":"i","cpu":"x"}"#, 2).is_err());
        assert!(reader.read(br#"{"name":"g","image":"i"}"#, 3).is_ok(), "a line that was refused is no function");
        let twice = reader.read(br#"{"image":"i","name":"f"}"#, 9).unwrap_err();
        assert_eq!(twice.problem, "name: expected each function once, \"f\" is on line 1 too");
        assert_eq!((twice.field.as_deref(), twice.line, twice.column), (Some("name"), 1, 14));
    }

    #[test]
    fn a_line_without_exactly_one_function_is_refused_with_advice() {
        for (text, expected) in [
            ("\u{feff}{\"name\":\"f\",\"image\":\"i\"}", "begins with a byte order mark (BOM)"),
            ("{", "expected each function on one line, not over several"),
            ("  \"name\": \"f\",", "expected a function as an object"),
            ("[{\"name\":\"f\",\"image\":\"i\"}]", "write each function on a line of its own, without the brackets"),
            ("{\"name\":\"f\",\"image\":\"i\"},", "expected the end of the line after the function"),
            ("7", "expected a function as an object"),
            ("{\"image\":\"i\"}", "name: is missing"),
            ("{\"name\":\"F\",\"image\":\"i\"}", "name: a function name has only a-z, 0-9 and '-'"),
        ] {
            let found = problem(text, Layout::Line);
            assert!(found.problem.contains(expected), "{text}: expected {expected:?}, found {:?}", found.problem);
        }
    }
}
