//! Error texts with their causes, for log lines.

use std::error::Error;

/// Formats an error and its causes on one line, separated by colons. A cause whose text already occurs is not repeated:
/// many libraries include the cause in their own message.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let cause_text = inner.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        cause = inner.source();
    }
    text
}
