//! Tables on standard output, all in one style.

use comfy_table::{ContentArrangement, Table, presets::ASCII_FULL_CONDENSED};

/// An empty table that reads well on a terminal, to whose width long cells are wrapped, and in a file.
pub(crate) fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_FULL_CONDENSED);
    if terminal::columns().is_some() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table
}
