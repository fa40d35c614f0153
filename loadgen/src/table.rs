//! Tables on standard output, all in one style.

use comfy_table::{Table, presets::ASCII_FULL_CONDENSED};

/// An empty table that reads well on a terminal and in a file.
pub(crate) fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_FULL_CONDENSED);
    table
}
