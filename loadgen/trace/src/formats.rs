//! The formats in which traces are published: one module each, behind one trait, in one table.
//!
//! To add one, write a module that implements [`TraceFormat`] and list it in [`FORMATS`]; nothing else names formats.

pub mod azure2019;
pub mod azure2021;
mod options;

use std::{fmt::Debug, fs, path::Path};

pub use options::{Duplicates, Missing, ReadOptions};

use crate::{ExactTrace, TraceError, Workload};

/// A trace as its format has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Trace {
    /// Counts per minute and distributions, from which invocations are drawn.
    Counts(Workload),
    /// Every call with its start and duration, replayed as they are.
    Calls(ExactTrace),
}

/// The variant of [`Trace`] that a format gives, known before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceKind {
    /// [`Trace::Counts`].
    Counts,
    /// [`Trace::Calls`].
    Calls,
}

/// One format of traces.
pub trait TraceFormat: Debug + Sync {
    /// The name by which `--trace-format` chooses it.
    fn name(&self) -> &'static str;

    /// The kind of trace that it has.
    fn kind(&self) -> TraceKind;

    /// Succeeds if `path` has this format, as far as names of files and headers show. It accepts whatever
    /// [`TraceFormat::read`] can read, reads no more than headers, and never opens anything but directories and files.
    ///
    /// # Errors
    /// What was expected and what was found instead.
    fn detect(&self, path: &Path) -> Result<(), String>;

    /// Reads the trace.
    ///
    /// # Errors
    /// A file that cannot be read, or that is not of the format: with file, row, column and what was expected.
    fn read(&self, path: &Path, options: &ReadOptions) -> Result<Trace, TraceError>;
}

/// Every format.
pub const FORMATS: [&dyn TraceFormat; 2] = [&azure2019::Azure2019, &azure2021::Azure2021];

/// The value of `--trace-format` that detects the format.
pub const AUTO: &str = "auto";

/// The format of `path`: the one called `name`, or with [`AUTO`] the only one that detects itself.
///
/// # Errors
/// [`TraceError::File`] when nothing is at `path`; [`TraceError::Format`] when it has no known format, several, or not the
/// one that was named.
pub fn resolve(name: &str, path: &Path) -> Result<&'static dyn TraceFormat, TraceError> {
    resolve_among(&FORMATS, name, path)
}

fn resolve_among<'a>(
    formats: &[&'a dyn TraceFormat],
    name: &str,
    path: &Path,
) -> Result<&'a dyn TraceFormat, TraceError> {
    fs::metadata(path).map_err(|source| TraceError::File { path: path.to_owned(), source })?;
    let refused = |problem: String| Err(TraceError::Format { path: path.to_owned(), problem });
    let names =
        |formats: &[&dyn TraceFormat]| formats.iter().map(|format| format.name()).collect::<Vec<_>>().join(", ");
    if name != AUTO {
        let Some(format) = formats.iter().find(|format| format.name() == name) else {
            let problem = format!("expected {AUTO} or one of {}, found {name:?}", names(formats));
            return Err(TraceError::Option { option: "trace-format", problem });
        };
        return match format.detect(path) {
            Ok(()) => Ok(*format),
            Err(found) => refused(format!(
                "not of the format {name}, which --trace-format says: {found}; known formats are {}",
                names(formats)
            )),
        };
    }
    let (mut detected, mut mismatches) = (Vec::new(), Vec::new());
    for format in formats {
        match format.detect(path) {
            Ok(()) => detected.push(*format),
            Err(found) => mismatches.push(format!("{}: {found}", format.name())),
        }
    }
    match detected[..] {
        [format] => Ok(format),
        [] => {
            refused(format!("not of a known format ({}); --trace-format names the one to read", mismatches.join("; ")))
        }
        _ => refused(format!("of several formats ({}); --trace-format names the one to read", names(&detected))),
    }
}

/// An error and its cause, for one line of a message.
fn with_cause(error: &TraceError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A format that every path has, or none.
    #[derive(Debug)]
    struct Fixed(&'static str, Result<(), &'static str>);

    impl TraceFormat for Fixed {
        fn name(&self) -> &'static str {
            self.0
        }

        fn kind(&self) -> TraceKind {
            TraceKind::Counts
        }

        fn detect(&self, _: &Path) -> Result<(), String> {
            self.1.map_err(str::to_owned)
        }

        fn read(&self, path: &Path, _: &ReadOptions) -> Result<Trace, TraceError> {
            Err(TraceError::Format { path: path.to_owned(), problem: "never read".to_owned() })
        }
    }

    fn resolved(formats: &[&dyn TraceFormat], name: &str) -> Result<&'static str, String> {
        let found = resolve_among(formats, name, Path::new("/"));
        found.map(TraceFormat::name).map_err(|error| error.to_string())
    }

    #[test]
    fn the_only_format_that_detects_itself_is_taken() {
        let formats: [&dyn TraceFormat; 2] = [&Fixed("a", Err("no a")), &Fixed("b", Ok(()))];
        assert_eq!(resolved(&formats, AUTO), Ok("b"));
    }

    #[test]
    fn an_ambiguous_trace_is_refused_until_its_format_is_named() {
        let formats: [&dyn TraceFormat; 3] = [&Fixed("a", Ok(())), &Fixed("b", Err("no b")), &Fixed("c", Ok(()))];
        let expected = "/: of several formats (a, c); --trace-format names the one to read";
        assert_eq!(resolved(&formats, AUTO), Err(expected.to_owned()));
        assert_eq!(resolved(&formats, "c"), Ok("c"));
    }

    #[test]
    fn a_trace_of_no_format_is_refused_with_what_each_expected() {
        let formats: [&dyn TraceFormat; 2] = [&Fixed("a", Err("no a")), &Fixed("b", Err("no b"))];
        let expected = "/: not of a known format (a: no a; b: no b); --trace-format names the one to read";
        assert_eq!(resolved(&formats, AUTO), Err(expected.to_owned()));
        let expected = "/: not of the format b, which --trace-format says: no b; known formats are a, b";
        assert_eq!(resolved(&formats, "b"), Err(expected.to_owned()));
        assert_eq!(
            resolved(&formats, "d"),
            Err("--trace-format: expected auto or one of a, b, found \"d\"".to_owned())
        );
    }

    #[test]
    fn nothing_at_the_path_is_no_format() {
        let error = resolve(AUTO, Path::new("/nowhere/at/all")).unwrap_err();
        assert!(matches!(error, TraceError::File { .. }), "{error}");
    }

    #[test]
    fn names_are_distinct_and_none_is_the_one_that_detects() {
        let mut names: Vec<&str> = FORMATS.iter().map(|format| format.name()).chain([AUTO]).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names, ["auto", "azure-2019", "azure-2021"]);
    }
}
