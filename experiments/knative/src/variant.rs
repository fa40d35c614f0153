//! The two forms of the baseline: as released, and with every client-side limit lifted.
//!
//! More workers are no part of the second: tried on two cores at 3 cold starts a second, twenty threads in each of
//! Knative's controllers and fifty in Kubernetes' only made more conflicts and retries (docs/experiments/baseline.md).

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A form of the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// Released settings
    Stock,
    /// Every client-side rate limit lifted, garbage collected less often
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_has_one_name_on_the_command_line_and_in_files() {
        for variant in Variant::value_variants() {
            let typed = variant.to_possible_value().unwrap();
            assert_eq!(typed.get_name(), variant.to_string());
            assert_eq!(serde_json::to_value(variant).unwrap(), variant.to_string());
        }
    }
}
