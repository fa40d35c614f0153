//! The findings of reading a trace besides its functions: missing functions and ignored columns.

use serde::Serialize;

/// The findings of reading a trace; empty for a generated one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoadReport {
    /// Functions with counts but no run times, by name in the trace (owner/app/function).
    pub without_run_time: Vec<String>,
    /// Functions with counts but no memory.
    pub without_memory: Vec<String>,
    /// Number of functions left out because a file did not have them.
    pub dropped: usize,
    /// Number of functions with default run times or memory.
    pub defaulted: usize,
    /// The default run time, in words.
    pub default_run_time: String,
    /// The default memory, in words.
    pub default_memory: String,
    /// Cells without a count, taken as 0.
    pub empty_counts: usize,
    /// Number of rows in each file of functions or applications that it has already.
    pub duplicates: Vec<(String, usize)>,
    /// Those rows were merged into the first; else they were left.
    pub merged: bool,
    /// Rows of run times whose function has no counts.
    pub unused_run_times: usize,
    /// Rows of memory whose function or application has no counts.
    pub unused_memory: usize,
    /// Columns that no one reads, as `file: column`.
    pub ignored_columns: Vec<String>,
    /// Memory was given per application and shared evenly among its functions.
    pub memory_per_app: bool,
}

impl LoadReport {
    /// One line for each thing that a reader of the results should know; empty when there is nothing to say.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for (missing, file, default) in [
            (&self.without_run_time, "durations.csv", &self.default_run_time),
            (&self.without_memory, "memory.csv", &self.default_memory),
        ] {
            if let Some(first) = missing.first() {
                let fate =
                    if self.dropped > 0 { "dropped".to_owned() } else { format!("given the default of {default}") };
                let count = missing.len();
                notes.push(format!("{count} functions without a usable row in {file} were {fate}, first {first}"));
            }
        }
        for (rows, file) in [(self.unused_run_times, "durations.csv"), (self.unused_memory, "memory.csv")] {
            if rows > 0 {
                notes.push(format!("{rows} rows of {file} match no function in invocations.csv"));
            }
        }
        for (file, rows) in &self.duplicates {
            let fate = if self.merged { "merged with the first" } else { "left: the first was taken" };
            notes.push(format!("{rows} rows of {file} for something that has one already were {fate}"));
        }
        if self.empty_counts > 0 {
            notes.push(format!("{} counts that are missing in invocations.csv were taken as 0", self.empty_counts));
        }
        if self.dropped > self.without_run_time.len().max(self.without_memory.len()) {
            notes.push(format!("{} functions were dropped in all", self.dropped));
        }
        if self.memory_per_app {
            notes.push("memory is given per application and shared evenly among its functions".to_owned());
        }
        if !self.ignored_columns.is_empty() {
            notes.push(format!("columns not read: {}", self.ignored_columns.join(", ")));
        }
        notes
    }
}
