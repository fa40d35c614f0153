//! Notes of a schedule as settings of its file form, `note_1` and so on: what was changed when it was made would be lost
//! otherwise to those who replay the file. The form has no quoting, so characters it cannot hold are percent-encoded.

use std::{collections::BTreeMap, fmt::Write as _};

/// Prefix of the keys of notes.
const KEY: &str = "note_";

/// Longest note, in characters; some list names of a trace's columns. A line of the form has room for it encoded.
const MAX_CHARACTERS: usize = 4096;

/// Returns true if this is the key of a note.
pub(super) fn is_key(key: &str) -> bool {
    key.strip_prefix(KEY).is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Key and value of the note at a position, counted from 0.
pub(super) fn setting(position: usize, note: &str) -> (String, String) {
    let mut value = String::with_capacity(note.len());
    for character in note.chars().take(MAX_CHARACTERS) {
        if matches!(character, '%' | ',' | '"' | '\n' | '\r') {
            // Writing to a string cannot fail.
            let _ = write!(value, "%{:02X}", u32::from(character));
        } else {
            value.push(character);
        }
    }
    (format!("{KEY}{}", position + 1), value)
}

/// Takes the notes out of the settings that were read, in their order.
pub(super) fn take(settings: &mut BTreeMap<String, String>) -> Vec<String> {
    (1_u32..).map_while(|number| settings.remove(&format!("{KEY}{number}"))).map(|value| decoded(&value)).collect()
}

/// The note; a `%` that begins no code stays.
fn decoded(value: &str) -> String {
    let mut note = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('%') {
        note.push_str(before);
        let code = after.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok()).filter(u8::is_ascii);
        match code {
            Some(code) => note.push(char::from(code)),
            None => note.push('%'),
        }
        rest = if code.is_some() { &after[2..] } else { after };
    }
    note + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_note_comes_back() {
        let notes = ["9 of 10, \"raised\" (--min-run)\r\nby 5 %", "100 %2C", "", "é"];
        let mut settings: BTreeMap<_, _> =
            notes.iter().enumerate().map(|(position, note)| setting(position, note)).collect();
        assert!(settings.values().all(|value| !value.contains([',', '"', '\n', '\r'])), "{settings:?}");
        assert!(settings.keys().all(|key| is_key(key)) && !is_key("note_x") && !is_key("seed"), "{settings:?}");
        settings.insert("arrivals".to_owned(), "exact".to_owned());
        assert_eq!((take(&mut settings), settings.len()), (notes.map(str::to_owned).to_vec(), 1));
        assert_eq!(decoded("a%"), "a%");
        assert_eq!(decoded("%é"), "%é");
        let (_, longest) = setting(0, &",".repeat(10_000));
        assert_eq!(decoded(&longest).len(), MAX_CHARACTERS);
    }
}
