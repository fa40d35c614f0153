//! Configuration files: TOML documents whose errors name file, line, column and key, and what was expected.
//!
//! Overlays (such as a scale of an experiment) are merged as parsed nodes that keep their place in the text, so an error
//! in an overlay points at the overlay's own line.

mod expected;

use std::{
    fs,
    io::{self, Read},
    ops::Range,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use thiserror::Error;
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer},
};

use expected::in_user_words;

/// Bytes of the largest file that is read. Files that people write have kilobytes, and a file without an end must not
/// take all memory.
const MAX_BYTES: u64 = 1 << 20;

/// A parsed table whose values know their place in the text.
pub type TomlTable<'a> = DeTable<'a>;

/// A document could not be read.
#[derive(Debug, Error)]
pub enum DocumentError {
    /// The file itself.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Its content is not what was expected.
    #[error("{}:{line}:{column}: {}{problem}", path.display(), key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default())]
    Content {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1, in characters.
        column: usize,
        /// Dotted path of the key, if the problem belongs to one.
        key: Option<String>,
        /// The value found and the one expected.
        problem: String,
    },
}

/// The text of a TOML file.
#[derive(Clone, Debug)]
pub struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or is too long to have been written by hand.
    pub fn read(path: &Path) -> Result<Self, DocumentError> {
        let text = read_text(path).map_err(|source| DocumentError::File { path: path.to_owned(), source })?;
        Ok(Self::new(path, text))
    }

    /// A document with `text`, as if read from `path`.
    #[must_use]
    pub fn new(path: &Path, text: String) -> Self {
        Self { path: path.to_owned(), text }
    }

    /// The file, as errors name it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text itself.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Parses the text.
    ///
    /// # Errors
    /// If it is not TOML.
    pub fn parse(&self) -> Result<TomlTable<'_>, DocumentError> {
        DeTable::parse(&self.text).map(Spanned::into_inner).map_err(|error| self.refused(&error))
    }

    /// Turns a table of this document into a checked value.
    ///
    /// # Errors
    /// If a key is unknown, missing or of the wrong type.
    pub fn decode<T: DeserializeOwned>(&self, table: TomlTable<'_>) -> Result<T, DocumentError> {
        let whole = Spanned::new(0..0, table);
        T::deserialize(Deserializer::from(whole)).map_err(|error| self.refused(&error))
    }

    /// Parses the text and turns all of it into a checked value.
    ///
    /// # Errors
    /// As [`Document::parse`] and [`Document::decode`].
    pub fn value<T: DeserializeOwned>(&self) -> Result<T, DocumentError> {
        self.decode(self.parse()?)
    }

    /// The error that `key` (a dotted path) is wrong; at the longest part of the path that the text sets.
    #[must_use]
    pub fn wrong(&self, key: &str, problem: impl Into<String>) -> DocumentError {
        self.wrong_at(self.offset_of(key).unwrap_or(0), Some(key.to_owned()), problem)
    }

    /// The error at a byte of the text.
    #[must_use]
    pub fn wrong_at(&self, offset: usize, key: Option<String>, problem: impl Into<String>) -> DocumentError {
        let (line, column) = position(&self.text, offset);
        DocumentError::Content { path: self.path.clone(), line, column, key, problem: problem.into() }
    }

    /// The byte where `key` (a dotted path), or the longest part of it that the text sets, begins. `None` if it sets no
    /// part of it.
    #[must_use]
    pub fn offset_of(&self, key: &str) -> Option<usize> {
        let is_part = |path: &str| {
            let rest = key.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let parts = self.places().into_iter().filter(|(path, _)| is_part(path));
        // Of a name and its value, which have the same path, the name begins first.
        parts.min_by_key(|(path, span)| (std::cmp::Reverse(path.len()), span.start)).map(|(_, span)| span.start)
    }

    fn refused(&self, error: &toml::de::Error) -> DocumentError {
        let span = error.span().unwrap_or(0..0);
        self.wrong_at(span.start, self.key_at(&span), in_user_words(error.message()))
    }

    /// The innermost key whose name or value holds `span`.
    fn key_at(&self, span: &Range<usize>) -> Option<String> {
        let holds = |(_, outer): &(String, Range<usize>)| outer.start <= span.start && span.end <= outer.end;
        let is_inside = !span.is_empty();
        let mut places = self.places().into_iter().filter(holds).filter(|_| is_inside).collect::<Vec<_>>();
        places.sort_by_key(|(_, outer)| outer.len());
        places.into_iter().next().map(|(key, _)| key)
    }

    /// Every key with the places of its name and of its value.
    fn places(&self) -> Vec<(String, Range<usize>)> {
        let mut places = Vec::new();
        if let Ok(root) = DeTable::parse(&self.text) {
            list_places(root.get_ref(), "", &mut places);
        }
        places
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("expected at most {MAX_BYTES} bytes, found more")));
    }
    Ok(text)
}

/// Line and column, both from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Nesting is bounded by the parser's own limit.
fn list_places(table: &DeTable<'_>, prefix: &str, places: &mut Vec<(String, Range<usize>)>) {
    for (name, value) in table {
        let path = if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
        places.push((path.clone(), name.span()));
        places.push((path.clone(), value.span()));
        match value.get_ref() {
            DeValue::Table(inner) => list_places(inner, &path, places),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let DeValue::Table(inner) = item.get_ref() {
                        list_places(inner, &format!("{path}[{index}]"), places);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Lays `over` on `base`: tables are merged key by key, anything else is replaced.
pub fn overlay<'a>(base: &mut TomlTable<'a>, over: TomlTable<'a>) {
    for (name, value) in over {
        let place = value.span();
        match (base.get_mut(name.get_ref().as_ref()).map(Spanned::get_mut), value.into_inner()) {
            (Some(DeValue::Table(under)), DeValue::Table(table)) => overlay(under, table),
            (_, value) => {
                base.insert(name, Spanned::new(place, value));
            }
        }
    }
}

/// Takes the table called `key` out of `table`; `None` when there is none.
///
/// # Errors
/// If there is something else of that name.
pub fn take_table<'a>(
    document: &Document,
    table: &mut TomlTable<'a>,
    key: &str,
) -> Result<Option<TomlTable<'a>>, DocumentError> {
    match table.remove(key).map(Spanned::into_inner) {
        None => Ok(None),
        Some(DeValue::Table(inner)) => Ok(Some(inner)),
        Some(_) => Err(document.wrong(key, "expected a table")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        size: u16,
        inner: Inner,
        #[serde(default)]
        labels: BTreeMap<String, String>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        delay: String,
        #[serde(default)]
        count: u32,
    }

    fn document(text: &str) -> Document {
        Document::new(Path::new("d.toml"), text.to_owned())
    }

    #[test]
    fn errors_name_file_line_column_and_key() {
        for (text, expected) in [
            ("size = 1\n[inner]\ndelay = \"1s\"\ncolour = 3\n", "d.toml:4:1: inner.colour: unknown field `colour`"),
            ("size = \"big\"\n", "d.toml:1:8: size: invalid type: string \"big\", expected a whole number, 0 to 65535"),
            ("size = 70000\n", "d.toml:1:8: size: invalid value: integer `70000`, expected a whole number, 0 to 65535"),
            ("size = 1\n\n[inner]\ncount = 1\n", "d.toml:3:1: inner: missing field `delay`"),
            ("inner = { delay = \"\", count = 1.5 }", "d.toml:1:31: inner.count: invalid type: floating point `1.5`"),
            ("size = 1\n[labels]\n'α' = 1\n", "d.toml:3:7: labels.α: invalid type"),
            ("size = 1\n[inner\n", "d.toml:2:"),
            ("size = \n", "d.toml:1:8: "),
            ("size = 1\n", "d.toml:1:1: missing field `inner`"),
        ] {
            let found = document(text).value::<Outer>().unwrap_err().to_string();
            assert!(found.starts_with(expected), "for {text:?} expected {expected:?}…, found {found:?}");
            assert_eq!(found.lines().count(), 1, "{found:?}");
        }
    }

    #[test]
    fn an_overlay_replaces_leaves_and_keeps_the_place_of_its_own_errors() {
        let document = document("size = 1\n[inner]\ndelay = \"1s\"\n[over.inner]\ncount = 5\nbogus = 1\n");
        let mut table = document.parse().unwrap();
        let mut over = take_table(&document, &mut table, "over").unwrap().unwrap();
        let mut broken = table.clone();
        overlay(&mut broken, over.clone());
        let error = document.decode::<Outer>(broken).unwrap_err().to_string();
        assert!(error.starts_with("d.toml:6:1: over.inner.bogus: unknown field"), "{error}");
        let DeValue::Table(inner) = over.get_mut("inner").unwrap().get_mut() else { panic!("a table") };
        inner.remove("bogus");
        overlay(&mut table, over);
        let merged: Outer = document.decode(table).unwrap();
        let inner = Inner { delay: "1s".to_owned(), count: 5 };
        assert_eq!(merged, Outer { size: 1, inner, labels: BTreeMap::new() });
    }

    #[test]
    fn an_error_about_a_value_is_placed_at_the_longest_part_of_its_key() {
        let document = document("size = 1\n[inner]\ndelay = \"soon\"\n[[list]]\n[[list]]\nname = 1\n");
        for (key, expected) in [
            ("inner.delay", "d.toml:3:1: inner.delay: not a duration"),
            ("inner.count", "d.toml:2:1: inner.count: not a duration"),
            ("list[1].name", "d.toml:6:1: list[1].name: not a duration"),
            ("in", "d.toml:1:1: in: not a duration"),
        ] {
            assert_eq!(document.wrong(key, "not a duration").to_string(), expected);
        }
        assert_eq!(document.offset_of("in"), None);
    }

    #[test]
    fn a_missing_file_and_one_without_an_end_are_refused() {
        let missing = Document::read(Path::new("/nowhere/d.toml")).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read /nowhere/d.toml");
        let endless = Document::read(Path::new("/dev/zero")).unwrap_err();
        let source = std::error::Error::source(&endless).unwrap().to_string();
        assert!(source.contains("expected at most 1048576 bytes"), "{source}");
    }
}
