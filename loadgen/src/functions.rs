//! `functions.ndjson`: the functions a schedule needs, one JSON object a line, as a control plane registers them.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::Path,
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use terminal::UsageError;
use trace::{LABEL, Schedule, is_label};

/// The image of the trace function, which every runtime knows.
pub(crate) const DEFAULT_IMAGE: &str = "builtin:function";

/// Most bytes of a file: above any purpose of one, and a file without an end must not take all memory.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// One function to register. What this program does not know of is passed on as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FunctionLine {
    /// Its name, a DNS label.
    pub(crate) name: String,
    /// Its image.
    pub(crate) image: String,
    /// Memory that a sandbox of it reserves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<Memory>,
    /// Everything else.
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
    /// The line of a file that it was read from; `None` when it was made here.
    #[serde(skip)]
    pub(crate) source: Option<SourceLine>,
}

/// A line of a file with functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceLine {
    /// The file and the line's number.
    position: String,
    /// The line without the space around it.
    text: String,
    /// The column at which `text` begins, from 1.
    column: usize,
}

impl FunctionLine {
    /// The body sent to a control plane: a line of a file as it is, so that a column in it is the file's.
    pub(crate) fn body(&self) -> serde_json::Result<String> {
        match &self.source {
            Some(source) => Ok(source.text.clone()),
            None => serde_json::to_string(self),
        }
    }

    /// Its name and where it is in its file, by a column of [`FunctionLine::body`], from 1.
    pub(crate) fn position(&self, column: Option<usize>) -> String {
        match (&self.source, column) {
            (None, _) => self.name.clone(),
            (Some(source), None) => format!("{} ({})", self.name, source.position),
            (Some(source), Some(column)) => {
                format!("{} ({}, column {})", self.name, source.position, source.column + column - 1)
            }
        }
    }
}

/// A size of memory, as control planes take it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Memory {
    /// In MiB.
    Mib(u64),
    /// With its unit, such as `128MiB`, which the control plane reads.
    Size(String),
}

/// The functions of a schedule, running `image`.
pub(crate) fn of_schedule(schedule: &Schedule, image: &str) -> Vec<FunctionLine> {
    let line = |function: &trace::ScheduledFunction| FunctionLine {
        name: function.name.clone(),
        image: image.to_owned(),
        memory: Some(Memory::Mib(u64::from(function.memory_mib.max(1)))),
        rest: Map::new(),
        source: None,
    };
    schedule.functions.iter().map(line).collect()
}

/// Writes the file.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn write(path: &Path, functions: &[FunctionLine]) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path).with_context(|| path.display().to_string())?);
    for function in functions {
        serde_json::to_writer(&mut file, function)?;
        file.write_all(b"\n")?;
    }
    file.flush().with_context(|| path.display().to_string())
}

/// The content of a file.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Its functions.
    pub(crate) functions: Vec<FunctionLine>,
    /// Problems of its other lines: file, line, and column or field.
    pub(crate) refused: Vec<String>,
}

/// Reads the file, `-` being standard input; empty lines and byte order marks are passed over.
///
/// # Errors
/// [`UsageError`] when it cannot be read, or no line of it has a function: then it is likely to be another file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Contents> {
    try_read(path).map_err(UsageError::of)
}

fn try_read(path: &Path) -> anyhow::Result<Contents> {
    let mut bytes = Vec::new();
    let mut whole = |input: &mut dyn Read| input.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    let read = match path.to_str() {
        Some("-") => whole(&mut io::stdin()),
        _ => File::open(path).and_then(|mut file| whole(&mut file)),
    };
    if read.with_context(|| format!("--from {}", path.display()))? as u64 > MAX_BYTES {
        bail!("--from {}: expected at most {MAX_BYTES} bytes, found more", path.display());
    }
    let mut contents = Contents::default();
    let mut lines = HashMap::new();
    for (number, line) in (1_u64..).zip(bytes.split(|byte| *byte == b'\n')) {
        let position = format!("{}, line {number}", path.display());
        match read_line(line, &position) {
            Ok(None) => {}
            Ok(Some(function)) => match lines.get(&function.name) {
                Some(first) => contents.refused.push(format!(
                    "{position}, field name: expected each function once, found {:?} again, first in line {first}",
                    function.name
                )),
                None => {
                    lines.insert(function.name.clone(), number);
                    contents.functions.push(function);
                }
            },
            Err(problem) => contents.refused.push(format!("{position}{problem}")),
        }
    }
    match (contents.functions.is_empty(), &contents.refused[..]) {
        (false, _) => Ok(contents),
        (true, []) => bail!("{}: expected a function a line, found none", path.display()),
        (true, [only]) => bail!("{only}"),
        (true, [first, more @ ..]) => bail!("{first}; and {} more lines without a function", more.len()),
    }
}

/// The function of the line at `position`, if it has one; an error begins with its position in the line.
fn read_line(line: &[u8], position: &str) -> Result<Option<FunctionLine>, String> {
    let line = std::str::from_utf8(line).map_err(|_| ": expected text in UTF-8, found other bytes".to_owned())?;
    let line = line.strip_prefix('\u{feff}').unwrap_or(line);
    let (text, column) = (line.trim(), line.len() - line.trim_start().len() + 1);
    if text.is_empty() {
        return Ok(None);
    }
    let mut function = parse(text, column)?;
    function.source = Some(SourceLine { position: position.to_owned(), text: text.to_owned(), column });
    Ok(Some(function))
}

/// The text of a line, which begins at `column`.
fn parse(text: &str, column: usize) -> Result<FunctionLine, String> {
    if text.starts_with('[') {
        return Err(": expected one JSON object a line, found an array: `jq -c '.[]'` makes lines of one".to_owned());
    }
    let value: Value = serde_json::from_str(text).map_err(|error| {
        let hint = if error.is_eof() { "; an object over several lines `jq -c .` puts on one" } else { "" };
        let problem = error.to_string();
        let problem = problem.split(" at line ").next().unwrap_or_default();
        let column = error.column() + column - 1;
        format!(", column {column}: expected one JSON object a line: {problem}{hint}")
    })?;
    let found = |field: &str| value.get(field).map_or_else(|| "nothing".to_owned(), Value::to_string);
    let wrong =
        |field: &str, expected: &str| Err(format!(", field {field}: expected {expected}, found {}", found(field)));
    if !value.is_object() {
        return Err(format!(": expected one JSON object a line, found {value}"));
    }
    if !value.get("name").and_then(Value::as_str).is_some_and(is_label) {
        return wrong("name", LABEL);
    }
    if !value.get("image").is_some_and(Value::is_string) {
        return wrong("image", "a text");
    }
    if !value.get("memory").is_none_or(|memory| memory.is_null() || memory.is_string() || memory.is_u64()) {
        return wrong("memory", "MiB as a whole number or a size like \"128MiB\"");
    }
    serde_json::from_value(value).map_err(|error| format!(": {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_passed_on() {
        let text = r#"{"name":"f","image":"builtin:function","memory":7,"scale":{"max":1}}"#;
        let line: FunctionLine = serde_json::from_str(text).unwrap();
        assert_eq!((&line.memory, line.rest["scale"]["max"].as_u64()), (&Some(Memory::Mib(7)), Some(1)));
        assert_eq!(serde_json::to_string(&line).unwrap(), text);
    }

    fn read_text(text: &[u8]) -> Result<Contents, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let named = |problem: String| problem.replace(&file.path().display().to_string(), "FILE");
        let mut contents = read(file.path()).map_err(|error| named(format!("{error:#}")))?;
        contents.refused = contents.refused.into_iter().map(named).collect();
        Ok(contents)
    }

    #[test]
    fn errors_of_a_line_name_its_position_and_a_remedy() {
        let good = r#"{"name":"f","image":"i"}"#;
        for (text, expected) in [
            (format!("{good}\n\n{{\"image\":\"i\"}}\n"), "FILE, line 3, field name: expected a name of 1 to 63"),
            (
                format!("{good}\n{{\"name\":\"a/b\",\"image\":\"i\"}}"),
                "FILE, line 2, field name: expected a name of 1 to 63",
            ),
            (r#"{"name":"f"}"#.to_owned(), "FILE, line 1, field image: expected a text, found nothing"),
            (r#"{"name":"f","image":"i","memory":-1}"#.to_owned(), "field memory: expected MiB as a whole number"),
            (
                format!("{good}\n{good}"),
                "FILE, line 2, field name: expected each function once, found \"f\" again, first in line 1",
            ),
            (format!("[{good}]"), "FILE, line 1: expected one JSON object a line, found an array: `jq -c '.[]'`"),
            ("{\n\"name\":\"f\"}".to_owned(), "`jq -c .` puts it on one"),
            (r#"{"name":f}"#.to_owned(), "FILE, line 1, column 10: expected one JSON object a line: expected"),
            ("7".to_owned(), "FILE, line 1: expected one JSON object a line, found 7"),
            ("\n".to_owned(), "FILE: expected a function a line, found none"),
        ] {
            let error = match read_text(text.as_bytes()) {
                Ok(contents) => {
                    assert_eq!(contents.functions.len(), 1, "the good one is kept: {text:?}");
                    contents.refused.concat()
                }
                Err(error) => error,
            };
            let expected = expected.replace("puts it on one", "puts on one");
            assert!(error.contains(&expected), "{text:?}: expected {expected:?} in {error:?}");
        }
    }

    #[test]
    fn a_byte_order_mark_line_breaks_of_two_bytes_and_sizes_with_units_are_read() {
        let text =
            "\u{feff}{\"name\":\"f\",\"image\":\"i\"}\r\n{\"name\":\"g\",\"image\":\"i\",\"memory\":\"1GiB\"}\r\n";
        let functions = read_text(text.as_bytes()).unwrap().functions;
        assert_eq!((functions.len(), &functions[1].memory), (2, &Some(Memory::Size("1GiB".to_owned()))));
    }

    #[test]
    fn each_line_counts_by_itself() {
        let good = |name: &str| format!("{{\"name\":\"{name}\",\"image\":\"i\"}}\n").into_bytes();
        let wrong = [&b"  {\"name\":x}\n"[..], b"\xff\n", b"{\"name\":\"w\"}\n"].concat();
        let Contents { functions, refused } = read_text(&[good("a"), wrong, good("b"), good("a")].concat()).unwrap();
        assert_eq!(functions.iter().map(|function| function.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let expected = [
            "FILE, line 2, column 11: expected one JSON object a line: expected value",
            "FILE, line 3: expected text in UTF-8, found other bytes",
            "FILE, line 4, field image: expected a text, found nothing",
            "FILE, line 6, field name: expected each function once, found \"a\" again, first in line 1",
        ];
        assert_eq!(refused, expected);
        let nothing = read_text(b"name,image\na,i\n").unwrap_err();
        assert!(
            nothing.starts_with("FILE, line 1, column 2: ")
                && nothing.ends_with("; and 1 more lines without a function"),
            "{nothing}"
        );
    }

    #[test]
    fn a_file_without_an_end_is_not_read_whole() {
        let error = read(Path::new("/dev/zero")).map(|contents| contents.functions.len()).unwrap_err().to_string();
        assert!(error.starts_with("--from /dev/zero: expected at most 67108864 bytes"), "{error}");
    }
}
