//! Errors as people read them: the message, and each cause on a line of its own.

use std::fmt::Write as _;

use crate::{Reported, note, output::is_reader_gone};

/// Begins the line of an error.
pub(crate) const ERROR: &str = "error: ";
/// Begins the line of a cause.
pub(crate) const CAUSE: &str = "caused by: ";
/// Indents the causes, and the further lines of a message.
const INDENT: &str = "  ";

/// Prints an error with its causes on standard error. Prints nothing if the reader of standard output has gone, which is
/// no failure, or if the reason was reported before.
pub fn report(error: &anyhow::Error) {
    if !is_reader_gone(error.as_ref()) && !error.is::<Reported>() {
        note!("{}", error_text(error));
    }
}

/// `error: MESSAGE` and, for each cause, a line `caused by: CAUSE`. A message of one word, such as an option or a file,
/// says nothing alone and is followed by its cause on the same line. A cause that the message before it repeats is left
/// out, because libraries do repeat theirs.
#[must_use]
pub fn error_text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let mut last = String::new();
    for cause in error.chain() {
        let message = cause.to_string();
        if last.is_empty() {
            text.push_str(ERROR);
        } else if last.ends_with(&message) {
            continue;
        } else if !last.contains(char::is_whitespace) {
            text.push_str(": ");
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n{INDENT}{CAUSE}");
        }
        text.push_str(&message.trim_end().replace('\n', &format!("\n{INDENT}")));
        last = message;
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn each_cause_has_a_line() {
        let error = anyhow!("connection refused").context("control plane at :9091").context("registering f");
        let expected = "error: registering f\n  caused by: control plane at :9091\n  caused by: connection refused";
        assert_eq!(error_text(&error), expected);
    }

    #[test]
    fn an_option_and_a_file_are_followed_by_what_is_wrong_with_them() {
        let error = anyhow!("invalid digit").context("row 3 is no row").context("f.csv").context("--trace");
        assert_eq!(error_text(&error), "error: --trace: f.csv: row 3 is no row\n  caused by: invalid digit");
    }

    #[test]
    fn a_repeated_cause_is_shown_once_and_further_lines_are_indented() {
        let error = anyhow!("no space left").context("write: no space left").context("the end of LOG:\nlast line\n");
        assert_eq!(error_text(&error), "error: the end of LOG:\n  last line\n  caused by: write: no space left");
    }
}
