//! The identifiers of a Rust file, and the words that they are made of.

use proc_macro2::{TokenStream, TokenTree};

/// Words for known concepts that only this code had, and the terms that engineers of this field search for.
pub const REFUSED_WORDS: [(&str, &str); 31] = [
    ("loan", "grant"),
    ("lent", "granted"),
    ("lend", "grant"),
    ("borrower", "holder"),
    ("trouble", "creation back-off"),
    ("starved", "unschedulable"),
    ("feed", "retry"),
    ("beat", "heartbeat"),
    ("beats", "heartbeats"),
    ("bury", "mark dead"),
    ("haste", "flush priority"),
    ("hastes", "flush priorities"),
    ("hurry", "raise the priority"),
    ("speech", "HTTP version"),
    ("patience", "time-out or deadline"),
    ("farewell", "shutdown flush"),
    ("letting", "release"),
    ("greet", "hello or handshake"),
    ("excuse", "exemption"),
    ("ticket", "queue entry or permit"),
    ("verdict", "outcome"),
    ("keeper", "supervisor"),
    ("errand", "child command"),
    ("enclosure", "isolation"),
    ("enclosed", "isolated"),
    ("strange", "orphan"),
    ("registrar", "deployer"),
    ("testimony", "observation"),
    ("ink", "palette"),
    ("inks", "palettes"),
    ("lot", "candidates"),
];

/// Every identifier of a file with its line, from 1; those in strings and comments are none. Empty where it is not Rust.
#[must_use]
pub fn identifiers(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    collect(text.parse().unwrap_or_default(), &mut found);
    found
}

fn collect(tokens: TokenStream, found: &mut Vec<(usize, String)>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => collect(group.stream(), found),
            TokenTree::Ident(ident) => found.push((ident.span().start().line, ident.to_string())),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// The words of an identifier in snake, camel or upper case, in lower case.
#[must_use]
pub fn words_of(identifier: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before_is_lower = false;
    for letter in identifier.chars() {
        if letter == '_' || (letter.is_uppercase() && before_is_lower) {
            words.push(String::new());
        }
        before_is_lower = letter.is_lowercase();
        if let Some(word) = words.last_mut().filter(|_| letter != '_') {
            word.extend(letter.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_found_in_groups_and_not_in_strings_or_comments() {
        let found = identifiers("fn one() {\n    two(\"three\"); // four\n}\n");
        assert_eq!(found, [(1, "fn".to_owned()), (1, "one".to_owned()), (2, "two".to_owned())]);
    }

    #[test]
    fn words_are_told_apart_by_underscores_and_capitals() {
        assert_eq!(words_of("GrantCap"), ["grant", "cap"]);
        assert_eq!(words_of("_last_heartbeat_us"), ["last", "heartbeat", "us"]);
        assert_eq!(words_of("MAX_BACKOFF"), ["max", "backoff"]);
    }
}
