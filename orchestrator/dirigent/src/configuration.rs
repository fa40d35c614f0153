//! Configuration files of the daemons: every key has a default, and an unknown key is an error.

use std::path::Path;

use anyhow::anyhow;
use serde::{Serialize, de::DeserializeOwned};
use terminal::{Document, DocumentError};
use thiserror::Error;

use crate::input::{self, InputError};

/// A configuration file could not be used.
#[derive(Debug, Error)]
pub(crate) enum ConfigurationError {
    /// The file itself.
    #[error(transparent)]
    Read(#[from] InputError),
    /// Something in it.
    #[error(transparent)]
    Content(#[from] DocumentError),
}

/// A configuration, and the file it came from so that later errors can name a place in it.
pub(crate) struct Loaded<T> {
    /// The configuration.
    pub(crate) value: T,
    file: Option<Document>,
}

/// The configuration in `path`, or the defaults when there is none.
///
/// # Errors
/// If the file cannot be read, is no TOML, has an unknown key or a value of the wrong form.
pub(crate) fn load<T: DeserializeOwned + Default>(path: Option<&Path>) -> Result<Loaded<T>, ConfigurationError> {
    let Some(path) = path else { return Ok(Loaded { value: T::default(), file: None }) };
    let file = Document::new(path, input::read_text("--config", path)?);
    Ok(Loaded { value: file.value()?, file: Some(file) })
}

impl<T> Loaded<T> {
    /// An error about the value of `key`, a dotted path; with file and line where the file sets it.
    pub(crate) fn complaint(&self, key: &str, problem: &str) -> anyhow::Error {
        let problem = format!("{key} {problem}");
        match self.file.as_ref().and_then(|file| Some((file, file.offset_of(key)?))) {
            Some((file, offset)) => file.wrong_at(offset, None, problem).into(),
            None => anyhow!(problem),
        }
    }
}

/// The effective configuration as TOML.
///
/// # Errors
/// If a value has no form in TOML.
pub(crate) fn to_toml(configuration: &impl Serialize) -> Result<String, toml::ser::Error> {
    toml::to_string_pretty(configuration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_about_a_value_names_its_position_in_the_file() {
        let file = Document::new(Path::new("a.toml"), "port = 1\n[hollow]\nnodes = 0\n".to_owned());
        let loaded = Loaded { value: (), file: Some(file) };
        let complain = |key| loaded.complaint(key, "must be above 0").to_string();
        assert_eq!(complain("hollow.nodes"), "a.toml:3:1: hollow.nodes must be above 0");
        assert_eq!(complain("labels"), "labels must be above 0");
        assert_eq!(Loaded { value: (), file: None }.complaint("port", "x").to_string(), "port x");
    }

    #[test]
    fn without_a_file_everything_has_its_default_and_a_missing_file_is_named() {
        assert!(load::<Vec<u8>>(None).is_ok());
        let missing = load::<Vec<u8>>(Some(Path::new("no/such.toml"))).map(|_| ()).unwrap_err();
        assert_eq!(missing.to_string(), "--config no/such.toml: there is no such file");
    }
}
