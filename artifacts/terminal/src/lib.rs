//! The command line of every program: its arguments, output formats and tables, errors, exit codes, configuration files
//! and shell completions.
//!
//! A program implements [`Program`], and its main function is [`main`]. What differs from program to program is what can
//! be typed and what that does; how results are printed and how mistakes are reported does not.

mod completions;
mod document;
mod exit;
mod failure;
mod format;
pub mod log;
mod mistakes;
mod output;
mod program;
mod table;

pub use document::{Document, DocumentError, TomlTable, overlay, take_table};
pub use exit::{Exit, Reported, UsageError};
pub use failure::{error_text, report};
pub use format::{Format, FormatOption, csv, json, leaf_text, leaves, leaves_csv, print_result};
pub use output::{Output, columns, is_reader_gone, note, print, visible, visible_json, visible_lines};
pub use program::{Program, command, main};
pub use table::{Head, Table};
