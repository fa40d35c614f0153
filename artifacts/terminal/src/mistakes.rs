//! Mistakes on a command line in a user's words: of a text that is no number, Rust says what its parser found, and not what
//! it expected.

use std::{
    error::Error,
    num::{IntErrorKind, ParseFloatError, ParseIntError},
};

use clap::error::ErrorKind;

/// The same mistake in words that say what is expected.
#[must_use]
pub(crate) fn explained(error: clap::Error) -> clap::Error {
    let Some((said, expected)) = error.source().and_then(|source| Some((source.to_string(), expected(source)?))) else {
        return error;
    };
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    clap::Error::raw(ErrorKind::ValueValidation, text.replacen(&format!(": {said}"), &format!(": {expected}"), 1))
}

/// The expected form of a number that could not be parsed.
fn expected(source: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(error) = source.downcast_ref::<ParseIntError>() {
        return Some(match error.kind() {
            IntErrorKind::PosOverflow => "expected a smaller whole number",
            IntErrorKind::NegOverflow => "expected a larger whole number",
            _ => "expected a whole number",
        });
    }
    source.is::<ParseFloatError>().then_some("expected a number")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[arg(long)]
        plain: Option<u16>,
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
        bounded: Option<u16>,
        #[arg(long)]
        real: Option<f64>,
    }

    fn complaint(typed: &str) -> String {
        explained(Typed::try_parse_from(typed.split(' ')).unwrap_err()).to_string()
    }

    #[test]
    fn a_text_that_is_no_number_is_reported_with_the_expected_form() {
        for (typed, expected) in [
            ("p --plain x", "invalid value 'x' for '--plain <PLAIN>': expected a whole number\n"),
            ("p --plain=", "for '--plain <PLAIN>': expected a whole number\n"),
            ("p --plain 1.5", "invalid value '1.5' for '--plain <PLAIN>': expected a whole number\n"),
            ("p --bounded x", "invalid value 'x' for '--bounded <BOUNDED>': expected a whole number\n"),
            ("p --bounded 99999999999999999999", "'--bounded <BOUNDED>': expected a smaller whole number\n"),
            ("p --real x", "invalid value 'x' for '--real <REAL>': expected a number\n"),
            // What says enough already, or is no matter of a number.
            ("p --bounded 65", "invalid value '65' for '--bounded <BOUNDED>': 65 is not in 1..=64\n"),
            ("p --plain 65536", "65536 is not in 0..=65535\n"),
            ("p --nonsense", "unexpected argument '--nonsense' found\n"),
        ] {
            let found = complaint(typed);
            assert!(
                found.starts_with("error: ") && found.contains(expected),
                "{typed}: expected {expected:?}: {found}"
            );
            assert_eq!(found.matches("error:").count(), 1, "{found}");
            assert!(found.contains("try '--help'") && found.ends_with('\n'), "{found}");
        }
    }
}
