//! The house rules as tests: what a reviewer would otherwise have to look for in every change.
//!
//! The library finds and reads the files of the workspace; each file in `tests/` holds one group of rules. A broken
//! rule is reported with file and line, what was found and what was expected.

mod markdown;
mod source;
mod words;
mod workspace;

pub use markdown::{Block, CommandLine, blocks, commands, table};
pub use source::{Function, Source, is_test_only};
pub use words::{REFUSED_WORDS, identifiers, words_of};
pub use workspace::{Workspace, relative};

/// Fails the calling test with every finding, one per line.
///
/// # Panics
/// If there is any finding: that is how a test fails.
#[allow(clippy::panic, reason = "a test fails by panicking, and this is its one way")]
pub fn expect_none(rule: &str, findings: &[String]) {
    if !findings.is_empty() {
        panic!("{rule}: {} found\n{}\n", findings.len(), findings.join("\n"));
    }
}
