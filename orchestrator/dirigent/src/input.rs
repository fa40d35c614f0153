//! Files that options name, read whole; what is wrong with one is said with the option.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Most bytes of a file that is held whole: above any of its purposes, and a file without an end must not take all memory.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// A file that an option names cannot be used.
#[derive(Debug, Error)]
#[error("{option} {}: {problem}", path.display())]
pub(crate) struct InputError {
    option: &'static str,
    path: PathBuf,
    problem: String,
}

/// The bytes of the file that `option` names; `-` is standard input.
///
/// # Errors
/// If there is no such file, or it cannot be read.
pub(crate) fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, InputError> {
    let failed = |error: io::Error| {
        let problem = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file".to_owned(),
            io::ErrorKind::IsADirectory => "expected a file, got a directory".to_owned(),
            _ => error.to_string(),
        };
        InputError { option, path: path.to_owned(), problem }
    };
    let bytes = if path == Path::new("-") { whole(io::stdin()) } else { fs::File::open(path).and_then(whole) };
    let too_long = || InputError {
        option,
        path: path.to_owned(),
        problem: format!("expected at most {MAX_BYTES} bytes, got more"),
    };
    bytes.map_err(failed)?.ok_or_else(too_long)
}

/// All that can be read; `None` when it is more than is held.
fn whole(input: impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    input.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= MAX_BYTES).then_some(bytes))
}

/// The same as text.
///
/// # Errors
/// As [`read`], and when it is no UTF-8.
pub(crate) fn read_text(option: &'static str, path: &Path) -> Result<String, InputError> {
    let problem = "expected text in UTF-8, got other bytes".to_owned();
    String::from_utf8(read(option, path)?).map_err(|_| InputError { option, path: path.to_owned(), problem })
}
