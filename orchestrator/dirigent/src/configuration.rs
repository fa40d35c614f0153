//! Configuration files: TOML in which every key has a default and an unknown key is an error.
//!
//! What is wrong is said with file, line, column and key, so that nobody searches for it.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use toml::de::{DeTable, DeValue};

use crate::input::{self, InputError};

/// A configuration file could not be used.
#[derive(Debug, Error)]
pub(crate) enum ConfigurationError {
    /// The file itself.
    #[error(transparent)]
    Read(#[from] InputError),
    /// Something in it.
    #[error("{}:{line}:{column}: {key}{problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1, in characters.
        column: usize,
        /// Dotted path of the key and `: `, or nothing where the text is no TOML.
        key: String,
        /// The found and the expected value.
        problem: String,
    },
}

/// A configuration, and the file it came from so that later complaints can name a place in it.
pub(crate) struct Loaded<T> {
    /// The configuration.
    pub(crate) value: T,
    file: Option<(PathBuf, String)>,
}

/// The configuration in `path`, or the defaults when there is none.
///
/// # Errors
/// When the file cannot be read, is no TOML, has an unknown key or a value of the wrong form.
pub(crate) fn load<T: DeserializeOwned + Default>(path: Option<&Path>) -> Result<Loaded<T>, ConfigurationError> {
    let Some(path) = path else { return Ok(Loaded { value: T::default(), file: None }) };
    let text = input::read_text("--config", path)?;
    Ok(Loaded { value: parse(path, &text)?, file: Some((path.to_owned(), text)) })
}

/// The configuration in `text`, which was read from `path`.
fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigurationError> {
    toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let key = match DeTable::parse(text) {
            Ok(table) => key_at(table.get_ref(), &span).join("."),
            Err(_) => String::new(),
        };
        let key = if key.is_empty() { key } else { format!("{key}: ") };
        content(path, text, span.start, key, error.message())
    })
}

impl<T> Loaded<T> {
    /// A complaint about the value of `key`, a dotted path; with file and line where the file sets it.
    pub(crate) fn complaint(&self, key: &str, problem: &str) -> anyhow::Error {
        let position = self.file.as_ref().and_then(|(path, text)| {
            let table = DeTable::parse(text).ok()?;
            let offset = offset_of(table.get_ref(), key)?;
            Some(content(path, text, offset, format!("{key} "), problem))
        });
        position.map_or_else(|| anyhow!("{key} {problem}"), Into::into)
    }
}

fn content(path: &Path, text: &str, offset: usize, key: String, problem: &str) -> ConfigurationError {
    let (line, column) = position(text, offset);
    ConfigurationError::Content { path: path.to_owned(), line, column, key, problem: problem.to_owned() }
}

/// Offset of the longest part of the dotted path `key` that is set.
fn offset_of(table: &DeTable<'_>, key: &str) -> Option<usize> {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let (name, value) = table.iter().find(|(name, _)| name.get_ref() == first)?;
    let below = rest.and_then(|rest| offset_of(value.get_ref().as_table()?, rest));
    Some(below.unwrap_or(name.span().start))
}

/// The effective configuration as TOML.
///
/// # Errors
/// When a value has no form in TOML.
pub(crate) fn to_toml(configuration: &impl Serialize) -> Result<String, toml::ser::Error> {
    toml::to_string_pretty(configuration)
}

/// Line and column, both from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The path of the innermost key whose name or value holds `span`.
fn key_at(table: &DeTable<'_>, span: &Range<usize>) -> Vec<String> {
    let holds = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    for (key, value) in table {
        let inner = match value.get_ref() {
            DeValue::Table(inner) => key_at(inner, span),
            DeValue::Array(values) => values
                .iter()
                .filter_map(|value| value.get_ref().as_table())
                .map(|inner| key_at(inner, span))
                .find(|path| !path.is_empty())
                .unwrap_or_default(),
            _ => Vec::new(),
        };
        if !inner.is_empty() || holds(key.span()) || holds(value.span()) {
            return std::iter::once(key.get_ref().to_string()).chain(inner).collect();
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Example {
        #[serde(rename = "port")]
        _port: u16,
        #[serde(rename = "hollow")]
        _hollow: Inner,
        #[serde(rename = "labels")]
        _labels: BTreeMap<String, String>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Inner {
        #[serde(rename = "nodes")]
        _nodes: u32,
    }

    fn problem(text: &str) -> String {
        parse::<Example>(Path::new("a.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_said_with_file_line_column_and_key() {
        for (text, expected) in [
            ("port = 1\ncolour = 2\n", "a.toml:2:1: colour: unknown field `colour`"),
            ("port = 'x'\n", "a.toml:1:8: port: invalid type: string \"x\", expected u16"),
            ("port = 70000\n", "a.toml:1:8: port: invalid value: integer `70000`, expected u16"),
            ("\n[hollow]\n\nnodes = -1", "a.toml:4:9: hollow.nodes: invalid value"),
            ("[hollow]\nnodez = 1", "a.toml:2:1: hollow.nodez: unknown field `nodez`, expected `nodes`"),
            ("hollow = { nodes = 1.5 }", "a.toml:1:20: hollow.nodes: invalid type: floating point `1.5`"),
            ("[labels]\n'α' = 1\n", "a.toml:2:7: labels.α: invalid type"),
            ("port = \n", "a.toml:1:8: "),
        ] {
            let found = problem(text);
            assert!(found.starts_with(expected), "for {text:?} expected {expected:?}…, found {found:?}");
        }
    }

    #[test]
    fn a_complaint_about_a_value_names_its_position_in_the_file() {
        let text = "port = 1\n[hollow]\nnodes = 0\n".to_owned();
        let loaded = Loaded { value: (), file: Some((PathBuf::from("a.toml"), text)) };
        let complain = |key| loaded.complaint(key, "must be above 0").to_string();
        assert_eq!(complain("hollow.nodes"), "a.toml:3:1: hollow.nodes must be above 0");
        assert_eq!(complain("labels"), "labels must be above 0");
        assert_eq!(Loaded { value: (), file: None }.complaint("port", "x").to_string(), "port x");
    }

    #[test]
    fn without_a_file_everything_has_its_default_and_a_missing_file_is_named() {
        assert!(load::<Example>(None).is_ok());
        let missing = load::<Example>(Some(Path::new("no/such.toml"))).map(|_| ()).unwrap_err();
        assert_eq!(missing.to_string(), "--config no/such.toml: there is no such file");
    }
}
