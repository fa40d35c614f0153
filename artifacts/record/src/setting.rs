//! `settings.json`: what of a system is set otherwise than it was released.

use serde::{Deserialize, Serialize};

/// One setting that differs from the release, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// What it is set in: a ConfigMap, or a part.
    pub part: String,
    /// The key in it, the flag, or the variable.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Why it differs from the release.
    pub why: String,
}

impl Setting {
    /// That `part` has `key` set to `value`, and why.
    #[must_use]
    pub fn new(part: &str, key: &str, value: &str, why: &str) -> Self {
        Self { part: part.to_owned(), key: key.to_owned(), value: value.to_owned(), why: why.to_owned() }
    }
}
