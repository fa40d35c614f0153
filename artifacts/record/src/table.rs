//! Plain CSV tables of rows that know how to serialise themselves.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::RecordError;

/// Writes rows as CSV, with a header from the row type.
pub struct TableWriter<W: Write = BufWriter<File>> {
    path: PathBuf,
    csv: csv::Writer<W>,
}

impl TableWriter {
    /// Creates the file, replacing one that is there.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create(path: &Path) -> Result<Self, RecordError> {
        let file = File::create(path).map_err(|source| RecordError::File { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), csv: csv::Writer::from_writer(BufWriter::new(file)) })
    }
}

impl<W: Write> TableWriter<W> {
    /// Adds a row.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&mut self, row: &impl Serialize) -> Result<(), RecordError> {
        self.csv.serialize(row).map_err(|error| self.failed(io::Error::other(error)))
    }

    /// Hands all rows so far to the operating system.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn flush(&mut self) -> Result<(), RecordError> {
        self.csv.flush().map_err(|error| self.failed(error))
    }

    fn failed(&self, source: io::Error) -> RecordError {
        RecordError::File { path: self.path.clone(), source }
    }
}

/// Reads a whole CSV file into rows.
///
/// # Errors
/// If the file cannot be read, or a row is not of the expected form (row number and column are named).
pub fn read_table<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, RecordError> {
    let file = File::open(path).map_err(|source| RecordError::File { path: path.to_owned(), source })?;
    let mut csv = csv::Reader::from_reader(file);
    let in_row = |row, problem| RecordError::Row { path: path.to_owned(), row, problem };
    let headers = csv.headers().map_err(|error| in_row(1, error.to_string()))?.clone();
    let mut rows = Vec::new();
    for (row, number) in csv.into_deserialize().zip(2..) {
        rows.push(row.map_err(|error| in_row(number, problem(&error, &headers)))?);
    }
    Ok(rows)
}

/// The problem of a row in words, with the name of the column if known.
pub(crate) fn problem(error: &csv::Error, headers: &csv::StringRecord) -> String {
    let csv::ErrorKind::Deserialize { err, .. } = error.kind() else { return error.to_string() };
    let column = err.field().and_then(|field| headers.get(usize::try_from(field).ok()?));
    match column {
        Some(column) => format!("column {column}: {}", err.kind()),
        None => err.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProcessUsage;

    fn usage(process: &str) -> ProcessUsage {
        ProcessUsage { process: process.to_owned(), cpu_user_us: 1, cpu_sys_us: 2, rss_bytes: 3, ctx_switches: 4 }
    }

    #[test]
    fn rows_are_read_as_written_below_one_header() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("processes.csv");
        let rows = [usage("control-plane"), usage("a, \"quoted\"\nname")];
        let mut table = TableWriter::create(&path).unwrap();
        rows.iter().for_each(|row| table.write(row).unwrap());
        table.flush().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("process,cpu_user_us,cpu_sys_us,rss_bytes,ctx_switches\ncontrol-plane,1,2,3,4\n"),
            "{text}"
        );
        assert_eq!(read_table::<ProcessUsage>(&path).unwrap(), rows);
        TableWriter::create(&path).unwrap().flush().unwrap();
        assert_eq!(read_table::<ProcessUsage>(&path).unwrap(), [], "a new table replaces the file");
    }

    #[test]
    fn a_missing_column_or_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("processes.csv");
        let absent = read_table::<ProcessUsage>(&path).unwrap_err().to_string();
        assert_eq!(absent, path.display().to_string());
        std::fs::write(&path, "process,cpu_user_us\na,1\n").unwrap();
        let error = read_table::<ProcessUsage>(&path).unwrap_err().to_string();
        assert!(error.contains("row 2: ") && error.contains("missing field `cpu_sys_us`"), "{error}");
        std::fs::write(&path, "process,cpu_user_us,cpu_sys_us,rss_bytes,ctx_switches\na,1,2\n").unwrap();
        let error = read_table::<ProcessUsage>(&path).unwrap_err().to_string();
        assert!(error.contains("row 2: ") && error.contains("found record with 3 fields"), "{error}");
    }

    #[test]
    fn a_table_in_no_folder_cannot_be_created() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("absent/processes.csv");
        let error = TableWriter::create(&path).err().map(|error| error.to_string());
        assert_eq!(error, Some(path.display().to_string()));
    }

    #[test]
    fn a_bad_value_is_named_by_row_and_column() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("processes.csv");
        let text = "process,cpu_user_us,cpu_sys_us,rss_bytes,ctx_switches\na,1,2,3,4\nb,1,x,3,4\n";
        std::fs::write(&path, text).unwrap();
        let error = read_table::<ProcessUsage>(&path).unwrap_err().to_string();
        assert!(error.contains("row 3: column cpu_sys_us: invalid digit"), "{error}");
    }
}
