//! The form in which every program reports an error.

/// Returns true if a program's standard error is one error: a line for the message, and one for each cause.
#[must_use]
pub fn is_one_error(standard_error: &str) -> bool {
    let mut lines = standard_error.lines();
    lines.next().is_some_and(|line| line.starts_with("error: ")) && lines.all(|line| line.starts_with("  caused by: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_a_message_and_its_causes() {
        for (text, expected) in [
            ("error: no trace\n", true),
            ("error: no trace\n  caused by: f.csv\n  caused by: no such file\n", true),
            ("error: no trace\nerror: no trace\n", false),
            ("error: the end of LOG:\n  last line\n", false),
            ("no trace\n", false),
            ("", false),
        ] {
            assert_eq!(is_one_error(text), expected, "{text:?}");
        }
    }
}
