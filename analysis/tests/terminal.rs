//! Tables on a terminal: fitted to its width, and as they are in a file where it tells none.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use std::{
    path::Path,
    process::{Command, Stdio},
};

use fixture::Fixture;

fn analysis(arguments: &[&str], runs: &[&Path]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_analysis"));
    command.args(arguments).args(runs).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// The longest line of the tables; what is said below them is no table.
fn longest(text: &str) -> usize {
    let of_tables = text.lines().filter(|line| !line.contains(": "));
    of_tables.map(|line| line.chars().count()).max().unwrap()
}

/// Runs it in a pipe and on terminals; what it says in a pipe and on one of 80 columns.
fn shown(arguments: &[&str], runs: &[&Path]) -> [String; 2] {
    let piped = String::from_utf8(analysis(arguments, runs).output().unwrap().stdout).unwrap();
    assert!(longest(&piped) > 80, "or nothing would have to be fitted:\n{piped}");
    let on_a_terminal = |columns| programs::on_a_terminal(analysis(arguments, runs), columns).unwrap().1;
    assert_eq!(on_a_terminal(0), piped, "{arguments:?}: one that tells no width");
    let fitted = on_a_terminal(80);
    assert!(longest(&fitted) <= 80, "{arguments:?}:\n{fitted}");
    [piped, fitted]
}

/// The words of a text, sorted.
fn words(text: &str) -> Vec<&str> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    words.sort_unstable();
    words
}

#[test]
fn the_table_of_rates_is_split_and_cuts_no_number() {
    let run = Fixture::sweep();
    let [piped, fitted] = shown(&["report"], &[run.path()]);
    let numbers = |text: &str| {
        let is_number = |word: &&str| word.chars().all(|letter| letter.is_ascii_digit() || ",.".contains(letter));
        words(text).into_iter().filter(is_number).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&fitted), numbers(&piped), "{fitted}");
    for head in ["offered/s", "p99.9 ms", "machine's cores", "objective"] {
        assert_eq!(fitted.matches(head).count(), 1, "{head}: {fitted}");
    }
    assert!(
        fitted.matches("rate-10").count() > piped.matches("rate-10").count(),
        "each part says its points: {fitted}"
    );
}

#[test]
fn the_table_of_a_trace_is_split_with_heads_that_say_what_they_are() {
    let run = Fixture::by_hand();
    let [piped, fitted] = shown(&["report"], &[run.path()]);
    for head in ["slowdown p50", "slowdown p99", "sched. p99"] {
        assert_eq!(fitted.matches(head).count(), 1, "{head}: {fitted}");
    }
    assert!(!piped.contains("slowdown p99"), "there they stand beside each other: {piped}");
}

#[test]
fn claims_are_wrapped_between_their_words() {
    let run = Fixture::by_hand();
    let [piped, fitted] = shown(&["claims"], &[run.path()]);
    assert!(fitted.lines().count() > piped.lines().count(), "{fitted}");
}

#[test]
fn what_is_exported_commands_no_terminal_and_is_whole_in_a_pipe() {
    let run = Fixture::by_hand();
    let name = "a\u{1b}[2J\u{9b}1m\u{202e}b";
    std::fs::rename(run.path().join("dirigent"), run.path().join(name)).unwrap();
    let piped = analysis(&["export"], &[run.path()]).output().unwrap().stdout;
    assert!(String::from_utf8(piped).unwrap().contains(&format!("\n{name},azure-500,1,")));
    let (status, shown) = programs::on_a_terminal(analysis(&["export"], &[run.path()]), 80).unwrap();
    assert!(status.success() && shown.contains(r"a\u{1b}[2J\u{9b}1m\u{202e}b,azure-500,1,"), "{shown:?}");
    assert!(!shown.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{shown:?}");
}
