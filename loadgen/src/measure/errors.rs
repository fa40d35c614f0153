//! Errors of the invocations that failed, with counts: the first question of a user who sees a run
//! that failed.

use std::collections::BTreeMap;

/// Different errors that are counted separately; a system that names addresses or numbers in its errors may have any number.
const MAX_KINDS: usize = 256;
/// Kinds that are shown.
const SHOWN: usize = 3;
/// Characters of an error that are kept; a system may send any number of them.
const MAX_CHARACTERS: usize = 200;
/// Prefix of the error of an invocation whose function the data plane does not know.
const UNKNOWN_FUNCTION: &str = "unknown-function";

/// Errors by their words.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    by_words: BTreeMap<String, u64>,
    /// Those beyond [`MAX_KINDS`].
    others: u64,
}

impl Errors {
    /// Counts one. Parts of its words are the system's, and end on a terminal.
    pub(crate) fn note(&mut self, words: &str) {
        let words = shown(words);
        if let Some(count) = self.by_words.get_mut(&words) {
            *count += 1;
        } else if self.by_words.len() < MAX_KINDS {
            self.by_words.insert(words, 1);
        } else {
            self.others += 1;
        }
    }

    /// The most common ones with their counts, and what helps against one of them; nothing where there was none.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut kinds: Vec<(&str, u64)> = self.by_words.iter().map(|(words, count)| (words.as_str(), *count)).collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let rest = kinds.iter().skip(SHOWN).map(|(_, count)| count).sum::<u64>() + self.others;
        let is_unknown = kinds.iter().take(SHOWN).any(|(words, _)| words.starts_with(UNKNOWN_FUNCTION));
        let mut shown: Vec<String> =
            kinds.iter().take(SHOWN).map(|(words, count)| format!("{count} × {words}")).collect();
        if shown.is_empty() {
            return Vec::new();
        }
        shown.extend((rest > 0).then(|| format!("{rest} others")));
        let mut notes = vec![format!("errors: {}", shown.join(", "))];
        if is_unknown {
            let remedy = "the functions are not registered there: --register or `loadgen register` does that";
            notes.push(format!("{UNKNOWN_FUNCTION}: {remedy}"));
        }
        notes
    }
}

/// The words as they are shown.
fn shown(words: &str) -> String {
    let cut = words.char_indices().nth(MAX_CHARACTERS).map(|(cut, _)| cut);
    let mut shown = terminal::visible(&words[..cut.unwrap_or(words.len())]);
    if cut.is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_common_are_listed_and_the_rest_is_counted() {
        let mut errors = Errors::default();
        assert_eq!(errors.notes(), Vec::<String>::new());
        for (words, count) in [("a", 1), ("unknown-function; status 404", 7), ("c", 2), ("d", 3)] {
            (0..count).for_each(|_| errors.note(words));
        }
        let notes = errors.notes();
        assert_eq!(notes[0], "errors: 7 × unknown-function; status 404, 3 × d, 2 × c, 1 others");
        assert!(notes[1].contains("`loadgen register`"), "{notes:?}");
        (0..1000).for_each(|number| errors.note(&format!("port {number}")));
        assert_eq!(errors.by_words.len(), MAX_KINDS);
        assert!(errors.notes()[0].ends_with(", 1001 others"), "{:?}", errors.notes());
    }

    #[test]
    fn the_words_of_a_system_are_cut_and_command_no_terminal() {
        let mut errors = Errors::default();
        errors.note("\u{9b}31mred \u{202e}back; status 503");
        assert_eq!(errors.notes(), [r"errors: 1 × \u{9b}31mred \u{202e}back; status 503"]);
        let mut errors = Errors::default();
        for number in 0..3 {
            errors.note(&format!("{}{number}", "ü".repeat(9000)));
        }
        assert_eq!(errors.notes(), [format!("errors: 3 × {}…", "ü".repeat(200))]);
    }
}
