//! The shape of every Rust file: its header, its length and that of its functions, its name, and what it must not hold.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{path::Path, sync::LazyLock};

use tidy::{REFUSED_WORDS, Source, Workspace, expect_none, identifiers, words_of};

/// A longer file models more than one concept.
const MOST_FILE_LINES: usize = 400;
/// A function fits on a screen.
const MOST_FUNCTION_LINES: usize = 70;
/// More arguments are a type that has no name yet.
const MOST_ARGUMENTS: usize = 5;
/// A header says what a file is, why it exists and what it owns; more belongs into docs.
const MOST_HEADER_SENTENCES: usize = 5;
/// File names that say nothing about the content.
const EMPTY_NAMES: [&str; 7] = ["util", "utils", "helper", "helpers", "common", "misc", "stuff"];

/// Every Rust file of the workspace by name, read once for all tests.
static SOURCES: LazyLock<Vec<(String, Result<Source, String>)>> = LazyLock::new(|| {
    let workspace = Workspace::read();
    workspace.with_extension("rs").map(|path| (workspace.name(path), Source::read(path))).collect()
});

/// The findings of `rule` over every Rust file of the workspace.
fn over_sources(rule: impl Fn(&str, &Source) -> Vec<String>) -> Vec<String> {
    assert!(SOURCES.len() > 50, "expected to find the workspace's sources, found {} files", SOURCES.len());
    let found = |(name, source): &(String, Result<Source, String>)| match source {
        Ok(source) => rule(name, source),
        Err(problem) => vec![problem.clone()],
    };
    SOURCES.iter().flat_map(found).collect()
}

#[test]
fn every_file_opens_with_what_it_is() {
    let findings = over_sources(|name, source| match source.header_sentences() {
        None => vec![format!(
            "{name}:1: expected `//!` and one to {MOST_HEADER_SENTENCES} sentences: what, why, what it owns"
        )],
        Some(found) if !(1..=MOST_HEADER_SENTENCES).contains(&found) => {
            vec![format!("{name}:1: the header has {found} sentences, expected one to {MOST_HEADER_SENTENCES}")]
        }
        Some(_) => Vec::new(),
    });
    expect_none("headers", &findings);
}

#[test]
fn files_and_functions_are_short() {
    let findings = over_sources(|name, source| {
        let mut findings = Vec::new();
        let lines = source.text.lines().count();
        if lines > MOST_FILE_LINES && !source.is_test {
            findings.push(format!("{name}:{lines}: the file has {lines} lines, expected at most {MOST_FILE_LINES}"));
        }
        for function in &source.functions {
            let at = format!("{name}:{}: `{}`", function.line, function.name);
            if function.lines > MOST_FUNCTION_LINES {
                findings.push(format!("{at} has {} lines, expected at most {MOST_FUNCTION_LINES}", function.lines));
            }
            if function.arguments > MOST_ARGUMENTS {
                findings.push(format!("{at} has {} arguments, expected at most {MOST_ARGUMENTS}", function.arguments));
            }
        }
        findings
    });
    expect_none("lengths", &findings);
}

#[test]
fn names_of_files_and_folders_say_what_is_inside() {
    let workspace = Workspace::read();
    let mut findings = Vec::new();
    for path in workspace.with_extension("rs") {
        let name = workspace.name(path);
        for part in Path::new(&name).iter().filter_map(|part| part.to_str()) {
            let stem = part.strip_suffix(".rs").unwrap_or(part);
            if EMPTY_NAMES.contains(&stem) {
                findings.push(format!("{name}:1: `{stem}` says nothing, expected the noun it holds"));
            }
        }
    }
    expect_none("names", &findings);
}

#[test]
fn a_module_lies_beside_its_folder() {
    let findings = over_sources(|name, _| {
        // In `tests/`, cargo takes a file next to the folder for a test program of its own.
        let is_old = name.ends_with("/mod.rs") && !name.contains("/tests/");
        is_old.then(|| format!("{name}:1: expected the folder's name and `.rs`, beside it")).into_iter().collect()
    });
    expect_none("modules", &findings);
}

#[test]
fn identifiers_use_the_words_of_the_field() {
    let findings = over_sources(|name, source| {
        let of_private = |(line, identifier): (usize, String)| {
            let words = words_of(&identifier);
            let (word, term) = REFUSED_WORDS.iter().find(|(word, _)| words.iter().any(|own| own == word))?;
            Some(format!("{name}:{line}: `{identifier}` says \"{word}\", expected the standard term: {term}"))
        };
        identifiers(&source.text).into_iter().filter_map(of_private).collect()
    });
    expect_none("words", &findings);
}

#[test]
fn tests_wait_for_states_and_none_is_ignored() {
    let sleep = concat!("sleep", "(");
    let findings = over_sources(|name, source| {
        let code = source.test_code().filter(|(_, line)| !line.trim_start().starts_with("//"));
        let mut findings: Vec<String> = code
            .filter(|(_, line)| line.match_indices(sleep).any(|(at, _)| line[..at].ends_with("::")))
            .map(|(number, _)| {
                format!("{name}:{number}: a sleep in a test, expected a wait for the state with a deadline")
            })
            .collect();
        findings.extend(source.ignored.iter().map(|number| {
            format!("{name}:{number}: an ignored test, expected one that says itself why it is skipped")
        }));
        findings
    });
    expect_none("tests", &findings);
}

/// Constructors of HTTP clients that would send requests through the proxy of the user's environment.
const PROXIED: [&str; 8] = [
    "ureq::get(",
    "ureq::post(",
    "ureq::put(",
    "ureq::delete(",
    "ureq::head(",
    "ureq::agent(",
    "new_with_defaults(",
    "Config::default(",
];

#[test]
fn no_http_client_takes_the_proxy_of_the_user() {
    let findings = over_sources(|name, source| {
        let text = &source.text;
        let builders = text.match_indices("Agent::config_builder()");
        let unset = builders.filter(|(at, _)| {
            let statement = text[*at..].split(';').next().unwrap_or_default();
            !statement.contains(".proxy(None)")
        });
        let made = PROXIED.iter().filter(|_| text.contains("ureq")).flat_map(|call| text.match_indices(call));
        unset
            .chain(made)
            .filter(|(at, _)| !text[..*at].ends_with('"'))
            .map(|(at, found)| {
                let line = text[..at].lines().count();
                format!(
                    "{name}:{line}: `{found}`, expected a client with `.proxy(None)`: all it asks is in the cluster"
                )
            })
            .collect()
    });
    expect_none("proxies", &findings);
}

#[test]
fn nothing_is_left_unfinished() {
    let marks = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("FIX", "ME"), concat!("XX", "X")];
    let findings = over_sources(|name, source| {
        let lines = source.text.lines().enumerate();
        lines
            .flat_map(|(index, line)| marks.iter().filter(|mark| line.contains(**mark)).map(move |mark| (index, mark)))
            .map(|(index, mark)| format!("{name}:{}: `{mark}`, expected finished code or an issue", index + 1))
            .collect()
    });
    expect_none("unfinished", &findings);
}
