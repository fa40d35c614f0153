//! Progress output: a spinner on a terminal, plain lines elsewhere; always on standard error.

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// Interval between frames of the spinner.
const TICK: Duration = Duration::from_millis(120);

/// Progress output for the user.
#[derive(Clone, Debug)]
pub struct Console {
    terminal: bool,
}

/// A lengthy task; prints its duration when finished, and nothing when dropped before.
#[derive(Debug)]
pub struct Task {
    text: String,
    began: Instant,
    bar: Option<ProgressBar>,
}

impl Console {
    /// The one of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self { terminal: io::stderr().is_terminal() }
    }

    /// A line.
    pub fn line(&self, text: &str) {
        terminal::note!("{text}");
    }

    /// Begins a lengthy task.
    #[must_use]
    pub fn begin(&self, text: impl Into<String>) -> Task {
        let text = text.into();
        let bar = self.terminal.then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("the template is constant");
            let bar = ProgressBar::new_spinner().with_style(style).with_message(text.clone());
            bar.enable_steady_tick(TICK);
            bar
        });
        if bar.is_none() {
            self.line(&format!("{text} …"));
        }
        Task { text, began: Instant::now(), bar }
    }
}

impl Task {
    /// Ends it.
    pub fn done(self, result: &str) {
        let took = self.began.elapsed().as_secs_f64();
        let result = if result.is_empty() { String::new() } else { format!(": {result}") };
        let line = format!("{}{result} ({took:.1} s)", self.text);
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        terminal::note!("{line}");
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
