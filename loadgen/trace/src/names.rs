//! The names functions are registered under: DNS labels made from the trace's hashes, short where they can be.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

/// Lengths tried, in hexadecimal digits; the longest still fits a DNS label (63) with its prefix.
const LENGTHS: [usize; 4] = [16, 24, 32, 60];

/// Longest name: one DNS label.
const MAX_LABEL: usize = 63;
/// The description of a function's name, for messages that refuse one.
pub const LABEL: &str = "a name of 1 to 63 of a-z, 0-9 and -, not beginning or ending with -";

/// Returns true if a text can be the name of a function: the host that invocations are addressed to, and part of a URL.
#[must_use]
pub fn is_label(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_LABEL).contains(&name.len())
        && name.bytes().all(is_allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Names for functions given as (owner, application, function), in their order, unique, independent of the order: `f-`
/// and the first 16 digits of the function's hash, more of them for those that would collide, and a hash over all three
/// parts where the function's is not hexadecimal or not unique.
pub(crate) fn labels(identities: &[[&str; 3]]) -> Vec<String> {
    let mut digits: Vec<String> = identities.iter().map(own_digits).collect();
    let longest = LENGTHS[LENGTHS.len() - 1];
    for index in colliding(&digits, longest) {
        digits[index] = hashed(&identities[index]);
    }
    let mut lengths = vec![LENGTHS[0]; digits.len()];
    for &length in &LENGTHS[1..] {
        let names: Vec<String> = digits.iter().zip(&lengths).map(|(digits, &length)| prefix(digits, length)).collect();
        for index in colliding(&names, longest) {
            lengths[index] = length;
        }
    }
    digits.iter().zip(lengths).map(|(digits, length)| format!("f-{}", prefix(digits, length))).collect()
}

fn own_digits([owner, app, function]: &[&str; 3]) -> String {
    let hexadecimal = function.len() >= LENGTHS[0] && function.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hexadecimal { function.to_ascii_lowercase() } else { hashed(&[owner, app, function]) }
}

fn hashed(identity: &[&str; 3]) -> String {
    let mut hash = Sha256::new();
    for part in identity {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    format!("{:x}", hash.finalize())
}

fn prefix(digits: &str, length: usize) -> String {
    digits.get(..length).unwrap_or(digits).to_owned()
}

/// Indices of the texts that equal another one in their first `length` digits.
fn colliding(texts: &[String], length: usize) -> Vec<usize> {
    let mut first: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, text) in texts.iter().enumerate() {
        first.entry(prefix(text, length)).or_default().push(index);
    }
    first.into_values().filter(|indices| indices.len() > 1).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "6b6c3f35ccaa762d1cebb1c4afc9f45390be2e63a3eb7b837ffc8844f905e497";

    #[test]
    fn a_hash_gives_its_first_sixteen_digits() {
        assert_eq!(labels(&[["o", "a", HASH]]), ["f-6b6c3f35ccaa762d"]);
    }

    #[test]
    fn those_that_collide_are_extended_and_the_others_are_not() {
        let twin = format!("{}{}", &HASH[..20], "0".repeat(44));
        let other = "f".repeat(64);
        let names = labels(&[["o", "a", HASH], ["o", "a", &twin], ["o", "a", &other]]);
        assert_eq!(names, ["f-6b6c3f35ccaa762d1cebb1c4", "f-6b6c3f35ccaa762d1ceb0000", "f-ffffffffffffffff"]);
    }

    #[test]
    fn the_same_hash_in_two_applications_gives_two_names() {
        let names = labels(&[["o", "a", HASH], ["o", "b", HASH]]);
        assert_ne!(names[0], names[1]);
        let reversed = labels(&[["o", "b", HASH], ["o", "a", HASH]]);
        assert_eq!([&names[0], &names[1]], [&reversed[1], &reversed[0]], "the order must not matter");
    }

    #[test]
    fn any_text_gives_a_dns_label() {
        for name in labels(&[["", "", ""], ["o", "a", "My Function!"], ["o", "a", "abc"]]) {
            assert!(is_label(&name), "{name}");
        }
        let longest = "a".repeat(MAX_LABEL);
        assert!(is_label("a") && is_label("0-9") && is_label(&longest));
        for text in ["", "-a", "a-", "A", "a.b", "a b", "a\r", "a/b", "ä", &format!("{longest}a")] {
            assert!(!is_label(text), "{text:?}");
        }
    }
}
