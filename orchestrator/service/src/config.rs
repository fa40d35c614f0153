//! The configuration of a component: plain data with a default for every key, checked as a whole before it is used.

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// The configuration of a component. Its program reads it from a file, overrides keys by options, and validates the
/// result.
pub trait Config: Serialize + DeserializeOwned + Default {
    /// Checks the bounds that the types of the keys do not express.
    ///
    /// # Errors
    /// The first key that is out of bounds or contradicts another one.
    fn validate(&self) -> Result<(), ConfigError>;
}

/// A key of a configuration has a value that cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{key} {problem}")]
pub struct ConfigError {
    /// The key's path, for example `health.dead_after`.
    pub key: &'static str,
    /// The problem and the expected value, to be read after the key.
    pub problem: String,
}

impl ConfigError {
    /// Returns an error for `key` unless its value `is_valid`.
    ///
    /// # Errors
    /// If it is not.
    pub fn unless(is_valid: bool, key: &'static str, problem: impl Into<String>) -> Result<(), Self> {
        if is_valid { Ok(()) } else { Err(Self { key, problem: problem.into() }) }
    }
}
