//! The output of a function's sandboxes, fetched from the workers that run or ran them.

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use anyhow::{Context, bail};
use model::{FunctionName, SandboxId};
use serde_json::Value;
use terminal::{Format, Output, visible};

use super::{
    function,
    http::{Role, Server},
};
use crate::output::{self, Column, for_terminal, without_commands};

/// Longest wait for a worker's response; a log is bounded and read from memory.
const WORKER_TIMEOUT: Duration = Duration::from_secs(10);

const COLUMNS: [Column; 4] = [
    Column::new("sandbox", "/sandbox"),
    Column::new("ended", "/ended"),
    Column::new("dropped_bytes", "/dropped_bytes"),
    Column::new("text", "/text"),
];

/// Arguments of `dirigent function logs`.
pub(crate) struct Logs<'a> {
    /// Of this function.
    pub(crate) function: &'a FunctionName,
    /// Only of this sandbox.
    pub(crate) sandbox: Option<SandboxId>,
    /// As it was written, and not as a terminal may show it.
    pub(crate) raw: bool,
    /// `table`: each under a heading.
    pub(crate) format: Format,
}

impl Logs<'_> {
    /// Prints what the workers still have: of sandboxes that run, that ended, and that never became ready.
    ///
    /// # Errors
    /// If the function is unknown and no output of it is left, or a worker cannot be asked.
    pub(crate) fn print(&self, control_plane: &Server) -> anyhow::Result<()> {
        let nodes = control_plane.get("/v1/nodes")?;
        let admin = |node: &Value| node.get("worker_admin").and_then(Value::as_str).map(str::to_owned);
        let workers: BTreeSet<String> = control_plane.rows(&nodes, "nodes")?.iter().filter_map(admin).collect();
        let only = self.sandbox.map(|id| format!("&sandbox={id}")).unwrap_or_default();
        let path = format!("/v1/logs?function={}{only}", self.function);
        let (mut logs, mut silent) = (Vec::new(), 0);
        for worker in &workers {
            let source = worker.parse().with_context(|| format!("worker at {}", visible(worker)));
            let responded = source.and_then(|address| {
                let server = Server::new(Role::Worker, &address, WORKER_TIMEOUT);
                let response = server.get(&path)?;
                Ok((server.rows(&response, "logs")?.to_vec(), response))
            });
            match responded {
                Ok((kept, response)) => {
                    if let Some(omitted @ 1..) = response.get("omitted").and_then(Value::as_u64) {
                        terminal::note!(
                            "{omitted} older sandboxes of worker at {} are left out: use --sandbox",
                            visible(worker)
                        );
                    }
                    logs.extend(kept);
                }
                Err(error) => {
                    silent += 1;
                    terminal::note!("{error:#}");
                }
            }
        }
        if logs.is_empty() && silent == 0 {
            // It says so when there is no such function.
            let function = control_plane.get(&function::path(self.function))?;
            self.note_nothing(&function);
        }
        match self.format {
            Format::Table => self.write(&logs)?,
            format => output::print_rows(format, &COLUMNS, &logs)?,
        }
        if silent > 0 {
            bail!("{silent} of {} workers could not be asked", workers.len());
        }
        Ok(())
    }

    /// Says that there is no output, and what is known instead.
    fn note_nothing(&self, function: &Value) {
        let of = self.sandbox.map(|id| format!(" of sandbox {id}")).unwrap_or_default();
        let last_error = function.get("last_error").and_then(Value::as_str).map(visible);
        let last_error = last_error.map(|error| format!("; its last error: {error}")).unwrap_or_default();
        terminal::note!("{}: no output{of} is kept{last_error}", self.function);
    }

    fn write(&self, logs: &[Value]) -> io::Result<()> {
        let mut out = Output::lock();
        let is_terminal = io::stdout().is_terminal();
        for log in logs {
            writeln!(out, "==> {} <==", heading(log))?;
            let text = log.get("text").and_then(Value::as_str).unwrap_or_default();
            let text = match self.raw {
                true => text.to_owned(),
                false if is_terminal => for_terminal(text),
                false => without_commands(text),
            };
            out.write_all(text.as_bytes())?;
            if !text.is_empty() && !text.ends_with('\n') {
                writeln!(out)?;
            }
        }
        Ok(())
    }
}

/// The sandbox, and what its output does not show: that it has ended, and that the output begins before what is kept.
fn heading(log: &Value) -> String {
    let mut heading = log.get("sandbox").and_then(Value::as_str).map(visible).unwrap_or_default();
    if let Some(how) = log.get("ended").and_then(Value::as_str) {
        heading += &format!(", ended: {}", visible(how));
    }
    if let Some(dropped @ 1..) = log.get("dropped_bytes").and_then(Value::as_u64) {
        heading += &format!(", its first {dropped} bytes are not kept");
    }
    heading
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_heading_says_that_a_sandbox_has_ended_and_that_its_output_is_cut() {
        assert_eq!(heading(&json!({"sandbox": "1-2", "ended": null, "dropped_bytes": 0})), "1-2");
        let ended = json!({"sandbox": "1-2", "ended": "exit status: 3\u{1b}", "dropped_bytes": 7});
        assert_eq!(heading(&ended), "1-2, ended: exit status: 3\\u{1b}, its first 7 bytes are not kept");
    }
}
