//! TOML documents whose errors name file, line and key.
//!
//! Overlays (a scale, `quick`) are merged as parsed nodes that keep their place in the text, so an error in an overlay
//! points at the overlay's own line.

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use thiserror::Error;
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer},
};

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
    #[error("{}:{line}: {}{problem}", path.display(), key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default())]
    Content {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
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
    /// When it cannot be read.
    pub fn read(path: &Path) -> Result<Self, DocumentError> {
        let text = fs::read_to_string(path).map_err(|source| DocumentError::File { path: path.to_owned(), source })?;
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
    /// When it is not TOML.
    pub fn parse(&self) -> Result<TomlTable<'_>, DocumentError> {
        DeTable::parse(&self.text).map(Spanned::into_inner).map_err(|error| self.refused(&error))
    }

    /// Turns a table of this document into a checked value.
    ///
    /// # Errors
    /// When a key is unknown, missing or of the wrong type.
    pub fn decode<T: DeserializeOwned>(&self, table: TomlTable<'_>) -> Result<T, DocumentError> {
        let whole = Spanned::new(0..0, table);
        T::deserialize(Deserializer::from(whole)).map_err(|error| self.refused(&error))
    }

    /// The error that `key` (a dotted path) is wrong.
    #[must_use]
    pub fn wrong(&self, key: &str, problem: impl Into<String>) -> DocumentError {
        let place = self.places().into_iter().find(|(path, _)| path == key).map(|(_, span)| span.start);
        DocumentError::Content {
            path: self.path.clone(),
            line: self.line(place.unwrap_or(0)),
            key: Some(key.to_owned()),
            problem: problem.into(),
        }
    }

    fn refused(&self, error: &toml::de::Error) -> DocumentError {
        let offset = error.span().map_or(0, |span| span.start);
        DocumentError::Content {
            path: self.path.clone(),
            line: self.line(offset),
            key: self.key_at(offset),
            problem: error.message().lines().collect::<Vec<_>>().join(" "),
        }
    }

    fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
    }

    /// The innermost key whose name or value holds the byte at `offset`.
    fn key_at(&self, offset: usize) -> Option<String> {
        let holds = |(_, span): &(String, Range<usize>)| span.contains(&offset);
        self.places().into_iter().filter(holds).min_by_key(|(_, span)| span.len()).map(|(key, _)| key)
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
/// When there is something else of that name.
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
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        size: u32,
        inner: Inner,
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

    fn failure(text: &str) -> String {
        let document = document(text);
        let table = match document.parse() {
            Ok(table) => table,
            Err(error) => return error.to_string(),
        };
        document.decode::<Outer>(table).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let unknown = failure("size = 1\n[inner]\ndelay = \"1s\"\ncolour = 3\n");
        assert!(unknown.starts_with("d.toml:4: inner.colour: unknown field `colour`"), "{unknown}");
        let wrong_type = failure("size = \"big\"\n[inner]\ndelay = \"1s\"\n");
        assert!(wrong_type.starts_with("d.toml:1: size: invalid type: string \"big\", expected u32"), "{wrong_type}");
        let missing = failure("size = 1\n\n[inner]\ncount = 1\n");
        assert!(missing.starts_with("d.toml:3: inner: missing field `delay`"), "{missing}");
        let syntax = failure("size = 1\n[inner\n");
        assert!(syntax.starts_with("d.toml:2: "), "{syntax}");
    }

    #[test]
    fn an_overlay_replaces_leaves_and_keeps_the_place_of_its_own_errors() {
        let document = document("size = 1\n[inner]\ndelay = \"1s\"\n[over.inner]\ncount = 5\nbogus = 1\n");
        let mut table = document.parse().unwrap();
        let mut over = take_table(&document, &mut table, "over").unwrap().unwrap();
        let mut broken = table.clone();
        overlay(&mut broken, over.clone());
        let error = document.decode::<Outer>(broken).unwrap_err().to_string();
        assert!(error.starts_with("d.toml:6: over.inner.bogus: unknown field"), "{error}");
        let DeValue::Table(inner) = over.get_mut("inner").unwrap().get_mut() else { panic!("a table") };
        inner.remove("bogus");
        overlay(&mut table, over);
        let merged: Outer = document.decode(table).unwrap();
        assert_eq!(merged, Outer { size: 1, inner: Inner { delay: "1s".to_owned(), count: 5 } });
    }

    #[test]
    fn a_key_refused_by_its_reader_is_placed_too() {
        let error = document("size = 1\n[inner]\ndelay = \"soon\"\n").wrong("inner.delay", "not a duration");
        assert_eq!(error.to_string(), "d.toml:3: inner.delay: not a duration");
    }
}
