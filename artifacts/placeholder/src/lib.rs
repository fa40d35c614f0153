//! Placeholders: names between braces that stand for values in the texts of `systems.toml` and `targets.toml`.
//!
//! `repro` fills in the texts of a system and hands some of them to the load generator, which fills in `{function}` and
//! `{address}`: both programs must agree on which braces are a placeholder.

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Text that stays as it is.
    Text(&'a str),
    /// The name between the braces of a placeholder.
    Placeholder(&'a str),
}

/// Splits a text into its parts, in order. Only a name directly between braces is a placeholder, so that inline tables of
/// TOML and objects of JSON need no escaping.
#[must_use]
pub fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let after = &rest[open + 1..];
        match after.split_once('}').filter(|(name, _)| is_name(name)) {
            Some((name, behind)) => {
                parts.extend([Part::Text(&rest[..open]), Part::Placeholder(name)]);
                rest = behind;
            }
            None => {
                parts.push(Part::Text(&rest[..=open]));
                rest = after;
            }
        }
    }
    parts.push(Part::Text(rest));
    parts
}

/// Returns true if `text` is a dotted name: a letter, then letters, digits, `.`, `_` and `-`.
fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_between_braces_are_placeholders() {
        for (text, expected) in [
            ("", &[][..]),
            ("{a}", &["a"]),
            ("/{a}/{ports.worker-1.http}?x={b_2}", &["a", "ports.worker-1.http", "b_2"]),
            (r#"{"a":{}} { b } {1} {"#, &[]),
            ("{{a}}", &["a"]),
            ("{a{b}", &["b"]),
        ] {
            let names: Vec<&str> = parts(text)
                .into_iter()
                .filter_map(|part| match part {
                    Part::Placeholder(name) => Some(name),
                    Part::Text(_) => None,
                })
                .collect();
            assert_eq!(names, expected, "{text}");
        }
    }

    #[test]
    fn no_part_of_a_text_is_lost() {
        for text in ["", "a", "{a}", "{{a}b}{", "{}{c.d}{ e}", "{\u{e4}}{f}\u{e4}"] {
            let whole: String = parts(text)
                .into_iter()
                .map(|part| match part {
                    Part::Text(text) => text.to_owned(),
                    Part::Placeholder(name) => format!("{{{name}}}"),
                })
                .collect();
            assert_eq!(whole, text);
        }
    }
}
