//! Foreign text as messages show it.

/// The text, cut after `max_chars` characters: one of a megabyte would hide the message.
pub(crate) fn shortened(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
