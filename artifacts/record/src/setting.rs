//! `settings.json`: the settings of a system that differ from its release.

use serde::{Deserialize, Serialize};

/// One setting that differs from the release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The ConfigMap or component that has the setting.
    pub part: String,
    /// The key in it, the flag, or the variable.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The reason for the difference from the release.
    pub why: String,
}

impl Setting {
    /// A setting of `part`: `key` has `value`, for the reason `why`.
    #[must_use]
    pub fn new(part: &str, key: &str, value: &str, why: &str) -> Self {
        Self { part: part.to_owned(), key: key.to_owned(), value: value.to_owned(), why: why.to_owned() }
    }
}
