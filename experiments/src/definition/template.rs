//! Templates: text with placeholders `{name}` that are filled from named values.
//!
//! Only a dotted name directly between braces is a placeholder, so that TOML inline tables and JSON in configuration files
//! need no escaping.

use std::collections::BTreeMap;

use placeholder::{Part, parts};
use thiserror::Error;

/// A placeholder names an unknown value.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{{{name}}} is not known here; known: {known}")]
pub struct TemplateError {
    /// The name between the braces.
    pub name: String,
    /// Names of known values.
    pub known: String,
}

/// Named values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(BTreeMap<String, String>);

impl Values {
    /// Adds or replaces a value.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// The same values and one more.
    #[must_use]
    pub fn with(&self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let mut more = self.clone();
        more.set(name, value);
        more
    }

    /// The same values for a template of requests, whose `{function}` and `{address}` the load generator fills for each
    /// function.
    #[must_use]
    pub fn with_request_places(&self) -> Self {
        self.with("function", "{function}").with("address", "{address}")
    }

    /// Adds every leaf of a JSON value under `prefix`, with dotted names; arrays and nulls have none.
    pub fn set_leaves(&mut self, prefix: &str, value: &serde_json::Value) {
        use serde_json::Value;
        match value {
            Value::Object(fields) => {
                for (key, inner) in fields {
                    let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    self.set_leaves(&name, inner);
                }
            }
            Value::String(text) => self.set(prefix, text.as_str()),
            Value::Number(_) | Value::Bool(_) => self.set(prefix, value.to_string()),
            Value::Null | Value::Array(_) => {}
        }
    }

    /// Fills every placeholder of `template`.
    ///
    /// # Errors
    /// If a placeholder names no value.
    pub fn expand(&self, template: &str) -> Result<String, TemplateError> {
        let mut filled = String::with_capacity(template.len());
        for part in parts(template) {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Placeholder(name) => filled.push_str(self.0.get(name).ok_or_else(|| self.unknown(name))?),
            }
        }
        Ok(filled)
    }

    /// Fills every template of a command line.
    ///
    /// # Errors
    /// If a placeholder names no value.
    pub fn expand_all(&self, templates: &[String]) -> Result<Vec<String>, TemplateError> {
        templates.iter().map(|template| self.expand(template)).collect()
    }

    fn unknown(&self, name: &str) -> TemplateError {
        let first = name.split('.').next().unwrap_or(name);
        let near: Vec<&str> = self.0.keys().map(String::as_str).filter(|key| key.starts_with(first)).collect();
        let known = if near.is_empty() { self.0.keys().map(String::as_str).collect() } else { near };
        TemplateError { name: name.to_owned(), known: known.join(", ") }
    }
}

/// The names of the placeholders of a template, in order.
pub fn places(template: &str) -> impl Iterator<Item = &str> {
    parts(template).into_iter().filter_map(|part| match part {
        Part::Placeholder(name) => Some(name),
        Part::Text(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        let mut values = Values::default();
        values.set("dir", "/d");
        values.set("ports.worker-1.admin", "127.0.0.1:5");
        values
    }

    #[test]
    fn places_are_filled_and_other_braces_are_left_alone() {
        let text = "a = { model = \"constant\" }\nb = \"{dir}/x\"\nc = {}\nd = {ports.worker-1.admin}{dir}{";
        let filled = values().expand(text).unwrap();
        assert_eq!(filled, "a = { model = \"constant\" }\nb = \"/d/x\"\nc = {}\nd = 127.0.0.1:5/d{");
        assert_eq!(places(text).collect::<Vec<_>>(), ["dir", "ports.worker-1.admin", "dir"]);
    }

    #[test]
    fn an_unknown_place_is_named_with_those_that_could_be_meant() {
        let error = values().expand("{ports.worker-2.admin}").unwrap_err();
        assert_eq!(error.to_string(), "{ports.worker-2.admin} is not known here; known: ports.worker-1.admin");
    }

    #[test]
    fn leaves_of_json_become_dotted_names() {
        let mut values = Values::default();
        values.set_leaves("", &serde_json::json!({"sandbox": {"nodes": 50, "mode": "sleep", "list": [1]}, "seed": 7}));
        assert_eq!(values.expand("{sandbox.nodes} {sandbox.mode} {seed}").unwrap(), "50 sleep 7");
        assert!(values.expand("{sandbox.list}").is_err());
    }
}
