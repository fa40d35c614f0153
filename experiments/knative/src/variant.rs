//! The two forms of the baseline: as released, and with every client-side limit lifted.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A form of the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// Released settings.
    Stock,
    /// Client-side rate limits lifted, more workers.
    Tuned,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stock => "stock",
            Self::Tuned => "tuned",
        })
    }
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "stock" => Ok(Self::Stock),
            "tuned" => Ok(Self::Tuned),
            _ => Err(format!("{text:?} is no variant: expected stock or tuned")),
        }
    }
}
