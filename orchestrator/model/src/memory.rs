//! Memory in specifications: MiB as a number, or a size with a unit.

use std::fmt;

use serde::{Deserializer, de};

/// Deserializes a number of MiB, or a text such as `128MiB` or `2GiB`.
///
/// # Errors
/// Returns an error if it is neither, or more than a `u32` of MiB.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    deserializer.deserialize_any(Memory)
}

/// The expected form, for error messages.
const EXPECTED: &str = "MiB as a whole number or a size like 128MiB";

/// Parses a size that a user typed, in the forms of a specification.
///
/// # Errors
/// Returns the expectation, if it is something else or more than a `u32` of MiB.
pub fn parse(text: &str) -> Result<u32, String> {
    text.parse().ok().or_else(|| mib(text)).ok_or_else(|| format!("expected {EXPECTED}"))
}

struct Memory;

impl de::Visitor<'_> for Memory {
    type Value = u32;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(EXPECTED)
    }

    fn visit_u64<E: de::Error>(self, mib: u64) -> Result<u32, E> {
        u32::try_from(mib).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(mib), &self))
    }

    fn visit_i64<E: de::Error>(self, mib: i64) -> Result<u32, E> {
        // serde_json calls this for negative numbers only.
        u32::try_from(mib).map_err(|_| E::invalid_value(de::Unexpected::Signed(mib), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u32, E> {
        mib(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// The size in MiB; only units that are whole MiB.
fn mib(text: &str) -> Option<u32> {
    let (number, unit_mib) = match (text.strip_suffix("MiB"), text.strip_suffix("GiB")) {
        (Some(number), _) => (number, 1),
        (_, Some(number)) => (number, 1024),
        _ => return None,
    };
    number.trim_end().parse::<u32>().ok()?.checked_mul(unit_mib)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_mib() {
        for (text, expected) in [
            ("128MiB", Some(128)),
            ("2 GiB", Some(2048)),
            ("128Mi", None),
            ("128", None),
            ("1.5GiB", None),
            ("4194304GiB", None),
            ("MiB", None),
        ] {
            assert_eq!(mib(text), expected, "{text}");
        }
    }

    #[test]
    fn a_typed_size_is_read_as_in_a_specification() {
        for (text, expected) in [("128", Some(128)), ("2GiB", Some(2048))] {
            assert_eq!(parse(text).ok(), expected, "{text}");
        }
        for text in ["5000000000", "128Mi", "123m", "100MB", "1KB", "-1", ""] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("128MiB"), "{text}: {error}");
        }
    }
}
