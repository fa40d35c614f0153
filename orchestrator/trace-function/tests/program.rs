//! The program `trace-function` as the worker starts it: its port, its end, its complaints.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A running program that does not outlive its test.
struct Running {
    child: Child,
    address: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> Command {
    let mut command = Command::new(programs::path("trace-function").unwrap());
    command.env_remove("PORT").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn start(command: &mut Command) -> Running {
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("said {line:?}")).trim().parse().unwrap();
    Running { child, address }
}

fn get(address: SocketAddr, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nhost: f\r\nconnection: close\r\n{headers}\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

fn failed(command: &mut Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    assert!(!status.success(), "a failure was expected");
    String::from_utf8(stderr).unwrap()
}

#[test]
fn it_serves_on_the_port_of_the_environment_until_a_signal() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut running = start(program().env("PORT", free.port().to_string()).args(["--name", "here"]));
    assert_eq!(running.address, free);
    let response = get(free, "workload: trace\r\nrequested_cpu: 1.5\r\nfunction: f\r\n");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.contains(r#""MachineName":"here""#), "{response}");
    kill(Pid::from_raw(running.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert!(running.child.wait().unwrap().success(), "SIGTERM ends it with exit code 0");
}

#[test]
fn a_flag_wins_over_the_environment() {
    let running = start(program().env("PORT", "1").args(["--port", "0", "--mode", "sleep"]));
    assert!(get(running.address, "").contains("OK - EMPTY"));
}

#[test]
fn a_taken_port_and_a_bad_port_are_errors() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = failed(program().args(["--port", &address.port().to_string()]));
    assert!(error.contains(&address.to_string()) && programs::is_one_error(&error), "{error}");
    let error = failed(program().env("PORT", "eighty"));
    assert!(error.contains("PORT") && error.contains("eighty"), "{error}");
}

#[test]
fn help_has_an_example() {
    let help = program().arg("--help").output().unwrap();
    assert!(String::from_utf8(help.stdout).unwrap().contains("Example:\n  trace-function --mode spin"));
}
