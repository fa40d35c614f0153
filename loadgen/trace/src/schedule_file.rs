//! A schedule on disk: one text file of three comma-separated tables, each with its header, a blank line between them.
//!
//! First `setting,value` (`format`, `version`, `seed`, `span_ns`, the number of `functions` and `invocations`, then how
//! the schedule was made, then its notes); then `function,memory_mib,invocations`; then `due_ns,function,run_us,memory_mib,phase` in
//! due order. The bytes depend on the schedule alone, so their checksum identifies it.

mod notes;
mod parser;

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use sha2::{Digest, Sha256};

use crate::{Schedule, TraceError};

const FORMAT: &str = "dirigent-schedule";
const VERSION: &str = "1";
/// Settings that the form itself owns.
const OWN_SETTINGS: [&str; 6] = ["format", "version", "seed", "span_ns", "functions", "invocations"];
const SETTING_COLUMNS: [&str; 2] = ["setting", "value"];
const FUNCTION_COLUMNS: [&str; 3] = ["function", "memory_mib", "invocations"];
const INVOCATION_COLUMNS: [&str; 5] = ["due_ns", "function", "run_us", "memory_mib", "phase"];
/// Written at once: large enough that a system call per buffer costs nothing.
const BUFFER: usize = 256 * 1024;

impl Schedule {
    /// Writes the file form: the same bytes for the same schedule.
    ///
    /// # Errors
    /// [`TraceError::File`] when it cannot be written; [`TraceError::Option`] when a setting has a name of the form's
    /// own, or a text has a comma, a quote or a line break.
    pub fn write(&self, path: &Path) -> Result<(), TraceError> {
        self.check_texts()?;
        let written = File::create(path).and_then(|file| {
            let mut writer = BufWriter::with_capacity(BUFFER, file);
            self.encode(&mut writer)?;
            writer.flush()
        });
        written.map_err(|source| TraceError::File { path: path.to_owned(), source })
    }

    /// SHA-256 of the file form, in hexadecimal: equal for equal schedules and for no others.
    #[must_use]
    pub fn checksum(&self) -> String {
        let mut writer = BufWriter::with_capacity(BUFFER, Digesting(Sha256::new()));
        self.encode(&mut writer).expect("hashing does not fail");
        let Ok(Digesting(hash)) = writer.into_inner() else { return String::new() };
        format!("{:x}", hash.finalize())
    }

    /// Reads the file form.
    ///
    /// # Errors
    /// A file that cannot be read; a cell or row that is not of the form, or a file that ends early, with row and
    /// column.
    pub fn read(path: &Path) -> Result<Self, TraceError> {
        parser::read(path)
    }

    /// Refuses texts that would need quoting: the form has none, so that any tool reads it.
    fn check_texts(&self) -> Result<(), TraceError> {
        let bad = |text: &str| text.is_empty() || text.contains(['\n', '\r', '"', ',']);
        for (key, value) in &self.settings {
            if bad(key) || bad(value) || OWN_SETTINGS.contains(&key.as_str()) || notes::is_key(key) {
                let problem = format!(
                    "expected a key and a value without quotes, commas or line breaks, the key none of {} nor that of a note, found {key:?} = {value:?}",
                    OWN_SETTINGS.join(", ")
                );
                return Err(TraceError::Option { option: "settings", problem });
            }
        }
        if let Some(function) = self.functions.iter().find(|function| bad(&function.name)) {
            let problem = format!("expected a name without quotes, commas or line breaks, found {:?}", function.name);
            return Err(TraceError::Option { option: "functions", problem });
        }
        Ok(())
    }

    fn encode(&self, writer: &mut impl Write) -> io::Result<()> {
        writeln!(writer, "{}\nformat,{FORMAT}\nversion,{VERSION}", SETTING_COLUMNS.join(","))?;
        writeln!(writer, "seed,{}\nspan_ns,{}", self.seed, self.span_ns)?;
        writeln!(writer, "functions,{}\ninvocations,{}", self.functions.len(), self.invocations.len())?;
        for (key, value) in &self.settings {
            writeln!(writer, "{key},{value}")?;
        }
        for (position, note) in self.notes.iter().enumerate() {
            let (key, value) = notes::setting(position, note);
            writeln!(writer, "{key},{value}")?;
        }
        writeln!(writer, "\n{}", FUNCTION_COLUMNS.join(","))?;
        for function in &self.functions {
            writeln!(writer, "{},{},{}", function.name, function.memory_mib, function.invocations)?;
        }
        writeln!(writer, "\n{}", INVOCATION_COLUMNS.join(","))?;
        for due in &self.invocations {
            let name = &self.functions[due.function as usize].name;
            let phase = due.phase.as_str();
            writeln!(writer, "{},{name},{},{},{phase}", due.due_ns, due.run_us, due.memory_mib)?;
        }
        Ok(())
    }
}

/// A writer that only hashes.
struct Digesting(Sha256);

impl Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
