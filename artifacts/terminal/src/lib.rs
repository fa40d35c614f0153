//! The command line of every program: its arguments, output formats and tables, errors, exit codes, configuration files
//! and shell completions.
//!
//! A program implements [`Program`], and its main function is [`main`]. What differs from program to program is what can
//! be typed and what that does; how results are printed and how mistakes are reported does not.

mod exit;
mod failure;
pub mod log;
mod mistakes;
mod output;
mod program;

pub use exit::{Exit, Reported, UsageError};
pub use failure::{error_text, report};
pub use output::{Output, columns, is_reader_gone, note, print, visible, visible_json, visible_lines};
pub use program::{Program, command, main};
