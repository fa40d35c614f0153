//! Function names: DNS labels, because a name is also the host that clients address.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest name: one DNS label (RFC 1035, section 2.3.4).
const MAX_LENGTH: usize = 63;

/// The name of a function: a DNS label of 1 to 63 characters from `a-z`, `0-9` and `-`, not starting or ending with
/// `-`.
///
/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FunctionName(Arc<str>);

/// The reason why a text is not a function name.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NameError {
    /// It is empty or has more than 63 characters.
    #[error("a function name has 1 to 63 characters, this one has {0}")]
    Length(usize),
    /// It has a character outside `a-z`, `0-9` and `-`.
    #[error("a function name has only a-z, 0-9 and '-', this one has {0:?}")]
    Character(char),
    /// It starts or ends with `-`.
    #[error("a function name begins and ends in a letter or digit")]
    Hyphen,
}

impl FunctionName {
    /// Placeholder for a function of which only the id is known any more.
    #[must_use]
    pub fn deregistered() -> Self {
        Self("deregistered".into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FunctionName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > MAX_LENGTH {
            // In characters, as users count, although the bound is in bytes.
            return Err(NameError::Length(text.chars().count()));
        }
        if let Some(bad) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
            return Err(NameError::Character(bad));
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(NameError::Hyphen);
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for FunctionName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<FunctionName> for String {
    fn from(name: FunctionName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for FunctionName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_labels_are_names_and_nothing_else_is() {
        for good in ["a", "hello-1", "0", &"x".repeat(63)] {
            assert_eq!(good.parse::<FunctionName>().unwrap().as_str(), good);
        }
        assert_eq!("".parse::<FunctionName>(), Err(NameError::Length(0)));
        assert_eq!("x".repeat(64).parse::<FunctionName>(), Err(NameError::Length(64)));
        assert_eq!("Hello".parse::<FunctionName>(), Err(NameError::Character('H')));
        assert_eq!("a.b".parse::<FunctionName>(), Err(NameError::Character('.')));
        assert_eq!("-a".parse::<FunctionName>(), Err(NameError::Hyphen));
        assert_eq!("a-".parse::<FunctionName>(), Err(NameError::Hyphen));
    }
}
