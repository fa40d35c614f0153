//! Templates of a request: text in which names between braces stand for values of an invocation.

use std::fmt;

use thiserror::Error;

/// A text with placeholders, parsed once so that rendering cannot fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Placeholder(Placeholder),
}

/// A value that differs between functions or between runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    Function,
    Address,
}

/// Every placeholder by its name.
const PLACEHOLDERS: [(&str, Placeholder); 2] = [("function", Placeholder::Function), ("address", Placeholder::Address)];

impl Placeholder {
    fn from_name(name: &str) -> Result<Self, UnknownPlaceholder> {
        let known = PLACEHOLDERS.into_iter().find(|(known, _)| *known == name);
        known.map(|(_, placeholder)| placeholder).ok_or_else(|| UnknownPlaceholder(name.to_owned()))
    }
}

/// A template names a value that does not exist.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("unknown placeholder {{{0}}}; known are {{function}} and {{address}}")]
pub(crate) struct UnknownPlaceholder(String);

/// The values that placeholders stand for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'a> {
    /// Name of the invoked function.
    pub(crate) function: &'a str,
    /// The first address of the system, as the user typed it.
    pub(crate) address: &'a str,
}

impl Values<'static> {
    /// Values of the right form, with which a template is tried when it is loaded.
    pub(crate) const SAMPLE: Self = Self { function: "f", address: "127.0.0.1:80" };
}

impl Template {
    /// Parses a text. Braces around anything but a name are text, so that values in JSON need no escaping.
    ///
    /// # Errors
    /// If a name between braces is no placeholder.
    pub(crate) fn parse(text: &str) -> Result<Self, UnknownPlaceholder> {
        let parts = placeholder::parts(text).into_iter().map(|part| match part {
            placeholder::Part::Text(text) => Ok(Part::Text(text.to_owned())),
            placeholder::Part::Placeholder(name) => Placeholder::from_name(name).map(Part::Placeholder),
        });
        parts.collect::<Result<_, _>>().map(Self)
    }

    /// The text with its values.
    pub(crate) fn render(&self, values: Values<'_>) -> String {
        let mut rendered = String::new();
        for part in &self.0 {
            rendered.push_str(match part {
                Part::Text(text) => text,
                Part::Placeholder(Placeholder::Function) => values.function,
                Part::Placeholder(Placeholder::Address) => values.address,
            });
        }
        rendered
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Values { function: "{function}", address: "{address}" }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_replaced_and_other_braces_are_text() {
        let values = Values { function: "f-1", address: "h:80" };
        for (text, rendered) in [
            ("", ""),
            ("{function}", "f-1"),
            ("/{function}/x/{function}?at={address}", "/f-1/x/f-1?at=h:80"),
            (r#"{"a":{}} {"#, r#"{"a":{}} {"#),
            ("{{function}}", "{f-1}"),
        ] {
            let template = Template::parse(text).unwrap();
            assert_eq!(template.render(values), rendered, "{text}");
            assert_eq!(template.to_string(), text);
        }
    }

    #[test]
    fn an_unknown_placeholder_is_refused_with_those_that_exist() {
        let error = Template::parse("/{fn}").unwrap_err().to_string();
        assert_eq!(error, "unknown placeholder {fn}; known are {function} and {address}");
    }
}
