//! Merges the same reason of several repetitions.

/// A reason: the text before and after its first number, and that number in each repetition that has the reason.
struct Reason<'a> {
    before: &'a str,
    numbers: Vec<&'a str>,
    after: &'a str,
}

/// Reasons of so many repetitions. Those that differ in their first number only are one, with the least and the greatest;
/// where not all repetitions have it, it says of how many it is.
pub(super) fn together<'a>(reasons: impl IntoIterator<Item = &'a String>, repetitions: usize) -> Vec<String> {
    let mut reported: Vec<Reason<'_>> = Vec::new();
    for reason in reasons {
        let (before, number, after) = parts(reason);
        match reported.iter_mut().find(|one| (one.before, one.after) == (before, after)) {
            Some(same) => same.numbers.push(number),
            None => reported.push(Reason { before, numbers: vec![number], after }),
        }
    }
    reported.iter().map(|reason| reason.said(repetitions)).collect()
}

/// A text at its first number, which that of `p99` is not.
fn parts(text: &str) -> (&str, &str, &str) {
    let mut in_word = false;
    let begins = |c: char| {
        let found = c.is_ascii_digit() && !in_word;
        in_word = c.is_alphanumeric();
        found
    };
    let start = text.find(begins).unwrap_or(text.len());
    let (before, rest) = text.split_at(start);
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, after) = rest.split_at(end);
    (before, number, after)
}

impl Reason<'_> {
    fn said(&self, repetitions: usize) -> String {
        let value = |text: &&&str| text.parse().unwrap_or(f64::NAN);
        let by_value = |a: &&&str, b: &&&str| f64::total_cmp(&value(a), &value(b));
        let least = self.numbers.iter().min_by(by_value).copied().unwrap_or_default();
        let greatest = self.numbers.iter().max_by(by_value).copied().unwrap_or_default();
        let range = if least == greatest { least.to_owned() } else { format!("{least} to {greatest}") };
        let count = self.numbers.len();
        let of = if count < repetitions { format!(" ({count} of {repetitions} repetitions)") } else { String::new() };
        format!("{}{range}{}{of}", self.before, self.after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_differ_in_a_number_are_said_once() {
        let of = |reasons: &[&str], repetitions| {
            together(&reasons.iter().map(|&reason| reason.to_owned()).collect::<Vec<_>>(), repetitions)
        };
        let slope = |percent| format!("latency may grow by {percent} % of its median per minute, not below 5 %");
        let said = of(&[&slope("9.9"), "91.0 % was achieved", &slope("10.1"), &slope("6.0")], 3);
        assert_eq!(said, [slope("6.0 to 10.1"), "91.0 % was achieved (1 of 3 repetitions)".to_owned()]);
        assert_eq!(of(&["too few responses", "too few responses"], 2), ["too few responses"], "one without a number");
        assert_eq!(of(&["lag p99 is 2.00 ms", "lag p99 is 12.00 ms"], 2), ["lag p99 is 2.00 to 12.00 ms"]);
        assert!(of(&[], 2).is_empty());
    }
}
