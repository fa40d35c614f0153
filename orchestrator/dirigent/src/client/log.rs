//! What the sandboxes of a function wrote, fetched from the workers that run them.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use model::{FunctionName, SandboxId};
use serde_json::Value;
use ureq::http::{Method, StatusCode};

use super::{function, http::Server, node::rows};
use crate::output::visible;

/// Longest wait for a worker's answer; a log is bounded and read from memory.
const WORKER_TIMEOUT: Duration = Duration::from_secs(10);

/// Prints the logs of a function's sandboxes, or of the one asked for, each under its id.
///
/// # Errors
/// When the function is unknown, or a worker cannot be asked.
pub(crate) fn print(control_plane: &Server, name: &FunctionName, only: Option<SandboxId>) -> anyhow::Result<()> {
    let shown = control_plane.get(&function::path(name))?;
    let only = only.map(|id| id.to_string());
    let mut printed = 0;
    for endpoint in rows(&shown, "endpoints") {
        let text = |field: &str| endpoint.get(field).and_then(Value::as_str);
        let Some(sandbox) = text("sandbox").filter(|id| only.as_deref().is_none_or(|only| only == *id)) else {
            continue;
        };
        let Some(worker) = text("worker_admin") else {
            eprintln!("{sandbox}: its worker is not connected");
            continue;
        };
        let worker = Server::new("worker", worker, WORKER_TIMEOUT);
        let answer = worker.ask(Method::GET, &format!("/v1/sandboxes/{sandbox}/logs"), None)?;
        if answer.status == StatusCode::NOT_FOUND {
            eprintln!("{sandbox}: no output is kept");
            continue;
        }
        answer.check()?;
        let mut out = io::stdout().lock();
        writeln!(out, "==> {sandbox} <==")?;
        if out.is_terminal() {
            out.write_all(for_terminal(&answer.body).as_bytes())?;
        } else {
            out.write_all(answer.body.as_bytes())?;
        }
        printed += 1;
    }
    if printed == 0 {
        eprintln!("{name}: no sandbox to show");
    }
    Ok(())
}

/// Output of a program as a terminal may have it: its lines and tabs are kept, everything else that commands is shown. A
/// file or pipe gets every byte.
fn for_terminal(output: &str) -> String {
    let line = |line: &str| line.split('\t').map(visible).collect::<Vec<_>>().join("\t");
    output.split('\n').map(|text| line(text.strip_suffix('\r').unwrap_or(text))).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_cannot_command_the_terminal_that_shows_its_output() {
        let shown = for_terminal("one\ttwo\r\nhidden\rshown\u{1b}]0;title\u{7}\n");
        assert_eq!(shown, "one\ttwo\nhidden\\rshown\\u{1b}]0;title\\u{7}\n");
    }
}
