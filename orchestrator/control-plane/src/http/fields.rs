//! The fields of a form or of a query, read with messages that name the field, the expectation and what stands there.

use std::{ops::RangeInclusive, str::FromStr};

use super::problem::Problem;

/// Fields in order; a name may occur several times.
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads `name=value&…` as browsers write it (WHATWG URL, 5.1). What cannot be decoded is kept as it is.
    pub(super) fn read(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    /// Reads the query of an address.
    pub(super) fn of_query(query: Option<&str>) -> Self {
        Self::read(query.unwrap_or_default().as_bytes())
    }

    /// The name of every field, also of those without a value.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The values of every field of that name that has one: existing clients send fields without a value for "none".
    pub(super) fn all<'a>(&'a self, field: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, value)| name == field && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The first value of that name.
    pub(super) fn one<'a>(&'a self, field: &'a str) -> Option<&'a str> {
        self.all(field).next()
    }

    /// A value that has to be there.
    pub(super) fn needed<'a>(&'a self, field: &'a str, expected: &str) -> Result<&'a str, Problem> {
        self.one(field).ok_or_else(|| Problem::bad_field(field, format!("{field}: expected {expected}, got nothing")))
    }

    /// A number, if the field is present; `expected` describes valid ones.
    pub(super) fn number<T: FromStr>(&self, field: &str, expected: &str) -> Result<Option<T>, Problem> {
        let read = |text: &str| text.trim().parse().map_err(|_| unexpected(field, expected, text));
        self.one(field).map(read).transpose()
    }

    /// A whole number within bounds, when there is one.
    pub(super) fn within(&self, field: &str, bounds: RangeInclusive<usize>) -> Result<Option<usize>, Problem> {
        let expected = format!("a whole number, {} to {}", bounds.start(), bounds.end());
        match self.number(field, &expected)? {
            Some(number) if !bounds.contains(&number) => Err(unexpected(field, &expected, &number.to_string())),
            number => Ok(number),
        }
    }

    /// Returns true if a switch is on; without a value it is off.
    pub(super) fn flag(&self, field: &str) -> Result<bool, Problem> {
        match self.one(field) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(other) => Err(unexpected(field, "true or false", other)),
        }
    }
}

/// The value of a field is none of those that it can have.
pub(super) fn unexpected(field: &str, expected: &str, text: &str) -> Problem {
    Problem::bad_field(field, format!("{field}: expected {expected}, got {text:?}"))
}
