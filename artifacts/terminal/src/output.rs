//! Output for people and scripts: results on standard output, everything else on standard error, without the characters
//! that command a terminal.
//!
//! Whoever reads it may go away early, as `head` does. That is no failure: the rest of the result is not needed, and what
//! a program does besides printing goes on. `println!` and `eprintln!` panic then, so the workspace's lints refuse them
//! outside tests.

use std::{
    error::Error,
    fmt::{self, Write as _},
    io::{self, IsTerminal, Write},
};

/// Columns of the narrowest terminal that tables are fitted to; in fewer, a cell would have some letters a line.
const MIN_COLUMNS: u16 = 40;

/// The columns of the terminal that standard output is, which tables are fitted to. `None` for a file or pipe, whose tables
/// are as wide as they are, and for a terminal that reports no width (0), as `script` and serial lines do.
#[must_use]
pub fn columns() -> Option<u16> {
    let shown = comfy_table::Table::new().width();
    shown.filter(|columns| *columns >= MIN_COLUMNS && io::stdout().is_terminal())
}

/// Prints a result on standard output, as it is. A reader that has gone is no error.
///
/// # Errors
/// If it cannot be written for another reason, such as a full disk.
pub fn print(result: impl AsRef<[u8]>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(result.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Writes a line for people on standard error, as a terminal may have it. Nobody learns when that fails.
pub fn note(line: fmt::Arguments<'_>) {
    // One call, so that lines of several threads do not mix.
    let _ = io::stderr().write_all(visible_lines(&format!("{line}\n")).as_bytes());
}

/// Writes a line for people on standard error, with the arguments of `format!`; never fails.
#[macro_export]
macro_rules! note {
    ($($argument:tt)*) => {
        $crate::note(::core::format_args!($($argument)*))
    };
}

/// Replaces every character that a terminal obeys with an escape: control characters, line ends among them, and those that
/// change the direction of writing, which make text look like another. For text that comes from a peer or a function.
#[must_use]
pub fn visible(text: &str) -> String {
    without(text, commands)
}

/// The same for a text of several lines: line ends and tabs stay.
#[must_use]
pub fn visible_lines(text: &str) -> String {
    without(text, |character| commands(character) && !matches!(character, '\n' | '\t'))
}

/// The text with escapes instead of these characters.
fn without(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_escaped(character) {
            // Writing to a string cannot fail.
            let _ = write!(shown, "{}", character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// JSON with the same characters escaped as JSON does it: libraries leave those from U+007F on as they are, one of which
/// (U+009B) begins commands. A reader of JSON finds the same values.
#[must_use]
pub fn visible_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for character in json.chars() {
        // Below U+007F only the line ends between values are left. All of these characters have four digits.
        if commands(character) && !character.is_ascii_whitespace() {
            // Writing to a string cannot fail.
            let _ = write!(shown, "\\u{:04x}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Returns true if a terminal obeys this character, or changes the direction of writing for it.
fn commands(character: char) -> bool {
    let turns = ['\u{61c}', '\u{200e}', '\u{200f}'].contains(&character)
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() || turns
}

/// Standard output for a long result: it ends with an error that [`is_reader_gone`] knows when its reader has gone, so
/// that no more of the result is made.
#[derive(Debug)]
pub struct Output(io::StdoutLock<'static>);

impl Output {
    /// Takes standard output for as long as this lives.
    #[must_use]
    pub fn lock() -> Self {
        Self(io::stdout().lock())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(mark)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(mark)
    }
}

/// The reader of standard output has gone. A type of its own, because a connection that breaks is the same kind of
/// error, and a failure.
#[derive(Debug)]
struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the reader of standard output has gone")
    }
}

impl Error for ReaderGone {}

fn mark(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::BrokenPipe { io::Error::new(error.kind(), ReaderGone) } else { error }
}

/// Returns true if an error, or its cause, is that the reader of [`Output`] has gone: a program then ends well, and says
/// nothing.
#[must_use]
pub fn is_reader_gone(error: &(dyn Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    let mut causes = causes.filter_map(|cause| cause.downcast_ref::<io::Error>()?.get_ref());
    causes.any(|inner| inner.is::<ReaderGone>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Context(io::Error);

    impl fmt::Display for Context {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("exporting")
        }
    }

    impl Error for Context {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn what_commands_a_terminal_is_escaped() {
        assert_eq!(visible("a\u{1b}[2J\r\nc\u{9b}1m \u{202e}d ü"), r"a\u{1b}[2J\r\nc\u{9b}1m \u{202e}d ü");
    }

    #[test]
    fn lines_and_tabs_are_kept_of_a_text_of_several_lines() {
        assert_eq!(visible_lines("a\tb\u{1b}[2J\nc\r\u{9b}\n"), "a\tb\\u{1b}[2J\nc\\r\\u{9b}\n");
        let once = visible("\u{1b}\u{202e}");
        assert_eq!(visible_lines(&once), once, "what is shown already stays");
    }

    #[test]
    fn a_reader_that_has_gone_is_distinguished_from_a_broken_connection() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_reader_gone(&Context(mark(broken()))), "under another error");
        assert!(!is_reader_gone(&Context(broken())), "a connection");
        assert!(!is_reader_gone(&mark(io::ErrorKind::StorageFull.into())), "a full disk");
    }
}
