//! Messages of the TOML parser in a user's words: expected types by their names in TOML, and the field that was probably
//! meant.

/// Similarity (Jaro) from which a name was probably meant; clap uses the same for options.
const MIN_SIMILARITY: f64 = 0.7;

/// Types of Rust as the parser names them at the end of a message, and their names in TOML.
const TYPES: [(&str, &str); 14] = [
    ("u8", "a whole number, 0 to 255"),
    ("u16", "a whole number, 0 to 65535"),
    ("u32", "a whole number, 0 to 4294967295"),
    ("u64", "a whole number, 0 or more"),
    ("usize", "a whole number, 0 or more"),
    ("i32", "a whole number"),
    ("i64", "a whole number"),
    ("f32", "a number"),
    ("f64", "a number"),
    ("a boolean", "true or false"),
    ("a sequence", "a list"),
    ("a map", "a table"),
    ("string or table", "a text or a table"),
    ("a string", "a text in quotes"),
];

/// A message of the parser on one line, with what helps.
pub(super) fn in_user_words(message: &str) -> String {
    let line = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let Some((found, expected)) = line.rsplit_once(", expected ") else { return line };
    let known = TYPES.iter().find(|(name, _)| *name == expected).map(|(_, words)| (*words).to_owned());
    let is_table = expected.strip_prefix("struct ").map(|_| "a table".to_owned());
    let words = known.or(is_table).unwrap_or_else(|| expected.to_owned());
    let meant = meant(found, expected).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
    format!("{found}, expected {words}{meant}")
}

/// The expected name that is most like the unknown one, both of which stand in backquotes.
fn meant<'a>(found: &str, expected: &'a str) -> Option<&'a str> {
    let unknown = found.strip_prefix("unknown ").and_then(|rest| rest.split('`').nth(1))?;
    let names = expected.split('`').skip(1).step_by(2);
    let similar = names.map(|name| (strsim::jaro(unknown, name), name));
    let best = similar.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.filter(|(similarity, _)| *similarity > MIN_SIMILARITY).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_names_that_a_user_knows() {
        for (message, expected) in [
            ("invalid type: string \"x\", expected u16", "string \"x\", expected a whole number, 0 to 65535"),
            ("invalid type: integer `1`, expected a boolean", "integer `1`, expected true or false"),
            ("invalid type: string \"a, expected b\", expected struct Limits", "expected a table"),
            ("invalid value: string \"1x\",\nexpected a duration", "string \"1x\", expected a duration"),
            ("duplicate key", "duplicate key"),
        ] {
            let found = in_user_words(message);
            assert!(found.ends_with(expected), "expected …{expected:?}, found {found:?}");
        }
    }

    #[test]
    fn a_name_that_is_almost_right_is_suggested() {
        for (message, expected) in [
            ("unknown field `hots`, expected one of `about`, `host`", "`host`; did you mean `host`?"),
            ("unknown variant `proces`, expected `process` or `hollow`", "; did you mean `process`?"),
            ("unknown field `colour`, expected one of `about`, `host`", "`about`, `host`"),
            ("unknown field `x`, there are no fields", "there are no fields"),
        ] {
            let found = in_user_words(message);
            assert!(found.ends_with(expected), "expected …{expected:?}, found {found:?}");
        }
    }
}
