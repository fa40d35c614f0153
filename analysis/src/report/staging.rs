//! A report in the making: all of it is written beside the one that there is, and takes its place at the end at once, so
//! that one that cannot be finished (a full disk, a signal) costs nothing that was there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use record::{Claims, RunDir, Summary, write_json};

use super::ReportError;

/// The folder in which a report is made.
pub(super) struct Staging<'a> {
    run: &'a RunDir,
    folder: PathBuf,
}

impl<'a> Staging<'a> {
    /// An empty staging directory; leftovers of an earlier one are removed. A regular file in place of the report is an
    /// error, because it is not ours to remove.
    pub(super) fn begin(run: &'a RunDir) -> Result<Self, ReportError> {
        let (folder, report) = (run.unfinished_report(), run.report());
        if report.exists() && !report.is_dir() {
            return Err(ReportError::Write { path: report, source: io::ErrorKind::NotADirectory.into() });
        }
        let staging = Self { run, folder };
        staging.clear()?;
        fs::create_dir_all(staging.figures()).map_err(|source| staging.failed(source))?;
        Ok(staging)
    }

    /// Final path of the page.
    pub(super) fn page(&self) -> PathBuf {
        self.run.report().join("index.html")
    }

    /// Writes the documents.
    pub(super) fn documents(&self, summary: &Summary, claims: &Claims) -> Result<(), ReportError> {
        write_json(&self.of(&self.run.summary()), summary).map_err(ReportError::Document)?;
        write_json(&self.of(&self.run.claims()), claims).map_err(ReportError::Document)
    }

    /// Writes the page.
    pub(super) fn write_page(&self, text: &str) -> Result<(), ReportError> {
        write(&self.of(&self.run.report()).join("index.html"), text)
    }

    /// Writes a figure for a paper.
    pub(super) fn write_figure(&self, name: &str, svg: &str) -> Result<(), ReportError> {
        write(&self.figures().join(format!("{name}.svg")), svg)
    }

    /// Puts everything in its place. The claims come last: they are what would be believed.
    pub(super) fn finish(self) -> Result<(), ReportError> {
        let (report, summary, claims) = (self.run.report(), self.run.summary(), self.run.claims());
        rename(&self.of(&summary), &summary)?;
        // A folder takes no other's place.
        if report.exists() {
            rename(&report, &self.folder.join("before"))?;
        }
        rename(&self.of(&report), &report)?;
        rename(&self.of(&claims), &claims)?;
        self.clear()
    }

    /// Staging path of a file or folder of the run.
    fn of(&self, place: &Path) -> PathBuf {
        self.folder.join(place.file_name().unwrap_or_default())
    }

    fn figures(&self) -> PathBuf {
        self.of(&self.run.report()).join("figures")
    }

    fn clear(&self) -> Result<(), ReportError> {
        match fs::remove_dir_all(&self.folder) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(self.failed(source)),
            _ => Ok(()),
        }
    }

    fn failed(&self, source: io::Error) -> ReportError {
        ReportError::Write { path: self.folder.clone(), source }
    }
}

fn write(path: &Path, text: &str) -> Result<(), ReportError> {
    fs::write(path, text).map_err(|source| ReportError::Write { path: path.to_owned(), source })
}

fn rename(from: &Path, to: &Path) -> Result<(), ReportError> {
    fs::rename(from, to).map_err(|source| ReportError::Write { path: to.to_owned(), source })
}
