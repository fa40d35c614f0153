//! Readiness of a process or a system: an address that responds with 200, a file that exists, a command that succeeds.

use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use ureq::Agent;

use crate::{definition::template::Values, system::Check};

/// Longest time of one check; checks are repeated.
const WAIT_TIMEOUT: Duration = Duration::from_secs(2);

/// Most bytes that are read of a response.
const MAX_RESPONSE_BYTES: u64 = 64 * 1024 * 1024;

/// A check with all placeholders filled.
#[derive(Clone, Debug)]
pub enum Condition {
    /// An address that responds with status 200.
    Http(String),
    /// A file that exists.
    File(String),
    /// A command that succeeds.
    Command(Vec<String>),
}

impl Condition {
    /// Fills the placeholders of a check.
    ///
    /// # Errors
    /// If a placeholder names no value.
    pub fn new(check: &Check, values: &Values) -> anyhow::Result<Self> {
        Ok(match (&check.http, &check.file) {
            (Some(address), _) => Self::Http(values.expand(address).context("ready.http")?),
            (None, Some(path)) => Self::File(values.expand(path).context("ready.file")?),
            (None, None) => Self::Command(values.expand_all(&check.command).context("ready.command")?),
        })
    }

    /// Checks the condition once.
    ///
    /// # Errors
    /// The reason, when it does not hold.
    pub fn holds(&self) -> Result<(), String> {
        match self {
            Self::Http(address) => match get(address) {
                Ok((200, _)) => Ok(()),
                Ok((status, body)) => Err(format!("{address} responds with {status} {}", first_line(&body))),
                Err(error) => Err(format!("{address}: {error:#}")),
            },
            Self::File(path) if Path::new(path).exists() => Ok(()),
            Self::File(path) => Err(format!("{path} is not there")),
            Self::Command(command) => run_once(command),
        }
    }
}

fn run_once(command: &[String]) -> Result<(), String> {
    let (program, arguments) = command.split_first().ok_or("no command")?;
    let quiet =
        Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match quiet {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{} {}", command.join(" "), crate::system::process::describe(status))),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

/// Sends a GET request; returns the status and the body.
///
/// # Errors
/// If there is no response.
pub fn get(address: &str) -> anyhow::Result<(u16, String)> {
    // Checked addresses are on this machine, possibly in private namespaces: a proxy of the user cannot reach them.
    let config = Agent::config_builder().proxy(None).timeout_global(Some(WAIT_TIMEOUT)).http_status_as_error(false);
    let config = config.build();
    let mut answer = Agent::new_with_config(config).get(address).call()?;
    let mut body = Vec::new();
    answer.body_mut().as_reader().take(MAX_RESPONSE_BYTES).read_to_end(&mut body)?;
    Ok((answer.status().as_u16(), String::from_utf8_lossy(&body).into_owned()))
}

fn first_line(body: &str) -> &str {
    body.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{io::Write, net::TcpListener, thread};

    use super::*;

    /// Answers one connection with `status`, then is gone.
    fn server(status: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = connection.read(&mut request).unwrap();
            write!(connection, "HTTP/1.1 {status}\r\ncontent-length: 8\r\nconnection: close\r\n\r\nno node\n").unwrap();
        });
        format!("http://{address}/readyz")
    }

    #[test]
    fn an_address_holds_when_it_answers_200_and_else_says_what_it_answers() {
        assert_eq!(Condition::Http(server("200 OK")).holds(), Ok(()));
        let not_ready = Condition::Http(server("503 Service Unavailable")).holds().unwrap_err();
        assert!(not_ready.ends_with("/readyz responds with 503 no node"), "{not_ready}");
    }

    #[test]
    fn a_closed_port_a_missing_file_and_a_failing_command_do_not_hold() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(Condition::Http(format!("http://{closed}/")).holds().is_err());
        assert!(Condition::File("/nonexistent".to_owned()).holds().unwrap_err().contains("is not there"));
        assert_eq!(Condition::Command(vec!["true".to_owned()]).holds(), Ok(()));
        assert_eq!(Condition::Command(vec!["false".to_owned()]).holds().unwrap_err(), "false ended with exit code 1");
    }
}
