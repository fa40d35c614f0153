//! SHA-256 of what a run depends on: programs, traces, schedules.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// Most files of a folder that are hashed: a trace has three; anything near this bound is no trace.
const MAX_FILES: usize = 10_000;

/// SHA-256 of a text, in hexadecimal.
#[must_use]
pub fn of_text(text: &str) -> String {
    hex(Sha256::digest(text.as_bytes()).as_slice())
}

/// SHA-256 of a file's bytes, in hexadecimal.
///
/// # Errors
/// If it cannot be read.
pub fn of_file(path: &Path) -> io::Result<String> {
    let mut hash = Hashing(Sha256::new());
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hex(hash.0.finalize().as_slice()))
}

/// Every file directly in a folder with its SHA-256, or the one file given, by file name.
///
/// # Errors
/// If one cannot be read, or there are too many.
pub fn of_files(path: &Path) -> io::Result<Vec<(String, String)>> {
    let mut files: Vec<PathBuf> = Vec::new();
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            let file = entry?.path();
            if file.is_file() {
                files.push(file);
            }
        }
    } else {
        files.push(path.to_owned());
    }
    if files.len() > MAX_FILES {
        return Err(io::Error::other(format!("{} has more than {MAX_FILES} files", path.display())));
    }
    files.sort();
    let name = |file: &Path| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    files.iter().map(|file| Ok((name(file), of_file(file)?))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Hashing(Sha256);

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // FIPS 180-2, appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn text_and_file_have_the_published_checksum() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b"), "abc").unwrap();
        fs::write(folder.path().join("a"), "").unwrap();
        assert_eq!(of_text("abc"), ABC);
        let files = of_files(folder.path()).unwrap();
        assert_eq!(files[0].0, "a");
        assert_eq!(files[1], ("b".to_owned(), ABC.to_owned()));
    }
}
