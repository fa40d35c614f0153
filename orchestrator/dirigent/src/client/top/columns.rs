//! The columns of a table that fit a terminal, and their widths: a number is shown whole or not at all.

use crate::output::Column;

/// Columns of characters that a name gets before the numbers do, where it is so long.
const NAME_WIDTH: usize = 16;
/// Columns of characters below which an error's text is not worth a column.
const ERROR_WIDTH: usize = 12;
/// Between two columns.
pub(super) const SPACING: usize = 1;

/// Columns in the order in which they are dropped, last to first: columns not named here are dropped before.
const IMPORTANCE: [&str; 16] = [
    "/name",
    "/phase",
    "/state",
    "/invocations_per_s",
    "/running",
    "/waiting",
    "/ready",
    "/creations",
    "/mean_us",
    "/sandboxes",
    "/creations_failed",
    "/creations_per_s",
    "/p99_us",
    "/p50_us",
    "/cold_share",
    "/last_error",
];

/// A column that is shown: which one, and how wide in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) index: usize,
    pub(super) width: usize,
}

/// Columns of characters that all of `columns` with these `rows` of cells need to be shown whole.
pub(super) fn whole_width(columns: &[Column], rows: &[Vec<String>]) -> usize {
    let widths = (0..columns.len()).map(|index| content_width(columns, rows, index));
    widths.sum::<usize>() + SPACING * columns.len().saturating_sub(1)
}

/// The columns that fit into `room` characters, in their own order. Texts give way to numbers and get what is left.
pub(super) fn fit(columns: &[Column], rows: &[Vec<String>], room: usize) -> Vec<Shown> {
    let mut by_importance: Vec<usize> = (0..columns.len()).collect();
    let importance = |index: &usize| IMPORTANCE.iter().position(|pointer| *pointer == columns[*index].pointer);
    by_importance.sort_by_key(|index| importance(index).unwrap_or(IMPORTANCE.len()));
    let mut shown: Vec<Shown> = Vec::new();
    let mut left = room;
    for index in by_importance {
        let spacing = if shown.is_empty() { 0 } else { SPACING };
        let whole = content_width(columns, rows, index);
        let width = match columns[index].pointer {
            // Without a name the numbers say nothing: it is there also where it must be cut.
            "/name" | "/phase" => whole.min(NAME_WIDTH).min(room),
            "/last_error" => whole.min(ERROR_WIDTH),
            _ => whole,
        };
        if width + spacing <= left {
            left -= width + spacing;
            shown.push(Shown { index, width });
        }
    }
    for pointer in ["/name", "/last_error"] {
        if let Some(text) = shown.iter_mut().find(|shown| columns[shown.index].pointer == pointer) {
            let more = content_width(columns, rows, text.index).saturating_sub(text.width).min(left);
            text.width += more;
            left -= more;
        }
    }
    shown.sort_by_key(|shown| shown.index);
    shown
}

/// The width of the widest cell of a column, its heading among them.
fn content_width(columns: &[Column], rows: &[Vec<String>], index: usize) -> usize {
    let cells = rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.chars().count());
    cells.chain([columns[index].title.chars().count()]).max().unwrap_or_default()
}

/// The text within `width` characters: what is longer ends in `…`.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain((width > 0).then_some('…')).collect()
}

/// The text on lines of at most `width` characters, broken between words where they are shorter than that.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let word: Vec<char> = word.chars().collect();
        for part in word.chunks(width) {
            match lines.last_mut() {
                Some(line) if line.chars().count() + 1 + part.len() <= width => {
                    line.push(' ');
                    line.extend(part);
                }
                _ => lines.push(part.iter().collect()),
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::new("function", "/name"),
        Column::new("ready", "/ready"),
        Column::new("cold share", "/cold_share"),
        Column::new("last error", "/last_error"),
    ];

    fn widths(room: usize) -> Vec<(usize, usize)> {
        let row = ["a-function-of-a-long-name", "1234567", "0.25", "it did not become ready in time"];
        let row: Vec<String> = row.map(str::to_owned).into();
        fit(&COLUMNS, &[row], room).into_iter().map(|shown| (shown.index, shown.width)).collect()
    }

    #[test]
    fn numbers_are_whole_or_left_out_and_texts_get_what_is_left() {
        assert_eq!(widths(100), [(0, 25), (1, 7), (2, 10), (3, 31)]);
        assert_eq!(widths(60), [(0, 25), (1, 7), (2, 10), (3, 15)]);
        assert_eq!(widths(40), [(0, 21), (1, 7), (2, 10)]);
        assert_eq!(widths(30), [(0, 22), (1, 7)]);
        assert_eq!(widths(20), [(0, 20)]);
        assert_eq!(widths(4), [(0, 4)]);
    }

    #[test]
    fn long_texts_are_cut_visibly_or_go_on_below() {
        assert_eq!((cut("abcdef", 6), cut("abcdef", 4), cut("abcdef", 0)), ("abcdef".into(), "abc…".into(), "".into()));
        assert_eq!(wrapped("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrapped("abcdefgh ij", 4), ["abcd", "efgh", "ij"]);
    }
}
