//! The lines of a program's log that show why it failed: of one of this workspace, or of any other.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use crate::failure::{CAUSE, ERROR};

/// Bytes that are looked through for the first error: a program that cannot start says so soon.
const HEAD_BYTES: u64 = 1024 * 1024;
/// Bytes of which the last lines are shown.
const TAIL_BYTES: u64 = 64 * 1024;
/// Last lines that a message repeats.
const TAIL_LINES: usize = 15;
/// Longest line in a message, in characters.
const MAX_LINE: usize = 500;
/// Words of a line that says what went wrong, in lower case.
const ERROR_WORDS: [&str; 6] = ["error", "exception", "fatal", "panic", "cannot", "failed"];
/// Levels of lines that say that all is well, whatever words they have.
const QUIET_LEVELS: [&str; 3] = [" INFO ", " DEBUG ", " TRACE "];

/// The first line of the log that speaks of an error, and its last lines, under the log's name: what fails first is
/// the reason, and what follows often only its consequences.
#[must_use]
pub fn excerpt(log: &Path) -> String {
    match read(log) {
        Ok((head, tail)) if head.is_empty() && tail.is_empty() => format!("{} is empty", log.display()),
        Ok((head, tail)) => format!("{}{}", first(log, &head, &tail), last(log, &tail)),
        Err(error) => format!("{} cannot be read: {error}", log.display()),
    }
}

/// The last message in the log, on one line: a program that fails reports the reason last. An error of this workspace's
/// programs is returned with its causes, everything else is the last line that is not empty. `None` if there is none.
#[must_use]
pub fn last_message(log: &Path) -> Option<String> {
    let (_, tail) = read(log).ok()?;
    let mut lines = tail.lines().map(str::trim).rev().filter(|line| !line.is_empty());
    let last = lines.next()?;
    let mut message: Vec<&str> = vec![last.strip_prefix(CAUSE).or(last.strip_prefix(ERROR)).unwrap_or(last)];
    if last.starts_with(CAUSE) {
        for line in lines {
            match (line.strip_prefix(CAUSE), line.strip_prefix(ERROR)) {
                (Some(cause), _) => message.push(cause),
                (None, Some(error)) => {
                    message.push(error);
                    break;
                }
                (None, None) => break,
            }
        }
    }
    message.reverse();
    Some(shortened(&message.join(": ")))
}

fn read(log: &Path) -> io::Result<(String, String)> {
    let mut file = File::open(log)?;
    let mut part = |from: SeekFrom, bytes: u64| {
        file.seek(from)?;
        let mut read = Vec::new();
        (&mut file).take(bytes).read_to_end(&mut read)?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&read).into_owned())
    };
    let head = part(SeekFrom::Start(0), HEAD_BYTES)?;
    let length = log.metadata()?.len();
    let tail = part(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)), TAIL_BYTES)?;
    Ok((head, tail))
}

/// The first error, unless it is among the last lines anyway.
fn first(log: &Path, head: &str, tail: &str) -> String {
    match head.lines().map(str::trim).find(|line| is_error(line)) {
        Some(line) if !last_lines(tail).iter().any(|last| last.trim() == line) => {
            format!("the first error in {}:\n  {}\n", log.display(), shortened(line))
        }
        _ => String::new(),
    }
}

fn last(log: &Path, tail: &str) -> String {
    let lines: Vec<String> = last_lines(tail).into_iter().map(shortened).collect();
    format!("the end of {}:\n  {}", log.display(), lines.join("\n  "))
}

fn last_lines(tail: &str) -> Vec<&str> {
    let lines: Vec<&str> = tail.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].to_vec()
}

/// Returns true if a line reports an error: by a word, or as the log of Kubernetes' components, where it begins with `E` or `F`
/// and the date (`I` and `W` are for what is none).
fn is_error(line: &str) -> bool {
    let is_dated = line.len() > 5 && line.bytes().skip(1).take(4).all(|byte| byte.is_ascii_digit());
    match line.bytes().next() {
        Some(b'E' | b'F') if is_dated => return true,
        Some(b'I' | b'W') if is_dated => return false,
        _ => {}
    }
    let lower = line.to_lowercase();
    !QUIET_LEVELS.iter().any(|level| line.contains(level)) && ERROR_WORDS.iter().any(|word| lower.contains(word))
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(MAX_LINE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt_of(text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("part.log");
        std::fs::write(&log, text).unwrap();
        excerpt(&log).replace(&log.display().to_string(), "LOG")
    }

    #[test]
    fn the_first_error_is_kept_however_much_follows() {
        let after: String = (0..100_000).map(|index| format!("goroutine {index} [running]\n")).collect();
        let found = excerpt_of(&format!("2026-01-01 INFO failed=0\npanic: no such key\n{after}"));
        assert!(
            found.starts_with("the first error in LOG:\n  panic: no such key\nthe end of LOG:\n  goroutine "),
            "{found}"
        );
        assert!(found.ends_with("  goroutine 99999 [running]"), "{found}");
        assert_eq!(found.lines().count(), 3 + TAIL_LINES);
    }

    #[test]
    fn a_short_log_is_shown_once() {
        assert_eq!(excerpt_of("begins\nerror: cannot listen\n"), "the end of LOG:\n  begins\n  error: cannot listen");
        assert_eq!(excerpt_of(""), "LOG is empty");
        assert!(excerpt(Path::new("no-such.log")).starts_with("no-such.log cannot be read: "));
    }

    #[test]
    fn the_last_message_is_the_last_line_or_an_error_with_its_causes() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("part.log");
        let last_of = |text: &str| {
            std::fs::write(&log, text).unwrap();
            last_message(&log)
        };
        assert_eq!(last_of("begins\n  it gave up \n\n").as_deref(), Some("it gave up"));
        assert_eq!(last_of("begins\nerror: no trace\n").as_deref(), Some("no trace"));
        let error = crate::error_text(&anyhow::anyhow!("no such file").context("f.csv").context("--trace"));
        assert_eq!(last_of(&format!("begins\n{error}\n")).as_deref(), Some("--trace: f.csv: no such file"));
        assert_eq!((last_of("\n"), last_message(Path::new("no-such.log"))), (None, None));
    }

    #[test]
    fn errors_are_recognised_by_level_or_by_word() {
        for (line, expected) in [
            ("E0101 12:00:00.000000 1 server.go:1] it went wrong", true),
            ("W0101 12:00:00.000000 1 server.go:1] no error budget", false),
            ("Every0 is fine", false),
            ("thread 'main' panicked at src/main.rs:1:1", true),
            ("2026-01-01T00:00:00Z  INFO part: failed=0", false),
            ("2026-01-01T00:00:00Z ERROR part: gone", true),
            ("ModuleNotFoundError: No module named 'x'", true),
        ] {
            assert_eq!(is_error(line), expected, "{line}");
        }
    }

    #[test]
    fn an_endless_line_is_cut() {
        let found = excerpt_of(&"ü".repeat(200_000));
        assert!(found.chars().count() < 2 * MAX_LINE, "{}", found.len());
    }
}
