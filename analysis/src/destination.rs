//! Destination of a figure or a table: standard output, or a file that is complete or does not exist. Control
//! characters are escaped on a terminal; a file or pipe gets every byte.

use std::{
    fs::{self, File},
    io::{self, BufWriter, IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Writes to the file, or to standard output. A file takes its name only when all of it is on the disk, so one that was
/// there before is kept if that fails.
///
/// # Errors
/// If `write` fails, or what it wrote cannot be kept, as on a full disk.
pub(crate) fn write_to(output: Option<&Path>, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let Some(path) = output else {
        let out = terminal::Output::lock();
        if !io::stdout().is_terminal() {
            return flushed(BufWriter::new(out), write).map(drop);
        }
        let mut shown = flushed(BufWriter::new(Shown { out, line: Vec::new() }), write)?;
        return Ok(shown.flush()?);
    };
    let failed = || format!("cannot write {}", path.display());
    // A device or a pipe is written to; a link stays one, and the file behind it is replaced.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let file = File::create(path).with_context(failed)?;
        return flushed(BufWriter::new(file), write).map(drop).with_context(failed);
    }
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let partial = partial(&path);
    let written = File::create(&partial).map_err(anyhow::Error::from).and_then(|file| {
        flushed(BufWriter::new(file), write)?.sync_all()?;
        Ok(fs::rename(&partial, &path)?)
    });
    if written.is_err() {
        // It may not be there; if it cannot be removed, the reason why nothing was written is still the one to report.
        let _ = fs::remove_file(&partial);
    }
    written.with_context(failed)
}

/// Writes everything, also what a buffer holds, whose errors would be lost with it.
fn flushed<W: Write>(mut out: BufWriter<W>, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<W> {
    write(&mut out)?;
    out.into_inner().map_err(|error| io::Error::from(error).into())
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

/// Passes text on line by line, without what commands a terminal.
struct Shown<W> {
    out: W,
    /// Bytes since the last newline.
    line: Vec<u8>,
}

impl<W: Write> Write for Shown<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if let Some(end) = self.line.iter().rposition(|byte| *byte == b'\n') {
            let rest = self.line.split_off(end + 1);
            let lines = std::mem::replace(&mut self.line, rest);
            self.out.write_all(terminal::visible_lines(&String::from_utf8_lossy(&lines)).as_bytes())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        self.out.write_all(terminal::visible_lines(&String::from_utf8_lossy(&line)).as_bytes())?;
        self.out.flush()
    }
}
