//! A client that sends one HTTP/1.1 request on a connection of its own and does nothing by itself: no retry, no pool, no
//! redirect. So a test sees the response as it was sent.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

/// A request that has no response after this is a failure: longer than any time-out or deadline of these tests.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// A request that was sent.
pub(crate) struct Ongoing {
    stream: TcpStream,
    since: Instant,
}

/// A response that came whole.
#[derive(Debug)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// From before the connection to the end of the response.
    pub(crate) took: Duration,
}

/// Sends a request; `headers` are whole lines.
pub(crate) fn send(address: &str, start: &str, headers: &[String], body: &str) -> Result<Ongoing, String> {
    let since = Instant::now();
    let mut stream = TcpStream::connect(address).map_err(|error| format!("connecting to {address}: {error}"))?;
    let mut text = format!("{start} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.push_str(body);
    stream.write_all(text.as_bytes()).map_err(|error| format!("sending {start}: {error}"))?;
    Ok(Ongoing { stream, since })
}

/// An operator's request, which must get a response.
pub(crate) fn request(address: &str, start: &str, body: &str) -> HttpResponse {
    let headers = [format!("Host: {address}"), "Content-Type: application/json".to_owned()];
    let response = send(address, start, &headers, body).and_then(Ongoing::response);
    response.unwrap_or_else(|error| panic!("{start} at {address}: expected an answer: {error}"))
}

impl Ongoing {
    /// Waits for the complete response.
    pub(crate) fn response(mut self) -> Result<HttpResponse, String> {
        self.stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        let mut bytes = Vec::new();
        let read = self.stream.read_to_end(&mut bytes);
        let took = self.since.elapsed();
        read.map_err(|error| format!("reading the answer after {took:?}: {error}"))?;
        HttpResponse::parse(&String::from_utf8_lossy(&bytes), took)
    }

    /// Waits for `client_timeout`, then hangs up; the response if it came before.
    pub(crate) fn response_within(mut self, client_timeout: Duration) -> Option<HttpResponse> {
        self.stream.set_read_timeout(Some(client_timeout)).unwrap();
        let mut first = [0];
        match self.stream.peek(&mut first) {
            Ok(1) => self.response().ok(),
            _ => {
                let _ = self.stream.flush();
                None
            }
        }
    }
}

impl HttpResponse {
    fn parse(text: &str, took: Duration) -> Result<Self, String> {
        let broken = || format!("expected a whole answer, found {text:?}");
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or_else(broken)?;
        let fields = lines.filter_map(|line| line.split_once(':'));
        let headers: Vec<_> = fields.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
        let response = Self { status, headers, body: body.to_owned(), took };
        match response.header("content-length").map(str::parse::<usize>) {
            Some(Ok(length)) if length == body.len() => Ok(response),
            Some(_) => Err(broken()),
            None if body.is_empty() => Ok(response),
            None => Err(format!("expected a Content-Length: {text:?}")),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("expected JSON ({error}): {self:?}"))
    }

    /// The sandbox that responded.
    pub(crate) fn sandbox(&self) -> &str {
        self.header("x-dirigent-sandbox").unwrap_or_else(|| panic!("expected the sandbox's id: {self:?}"))
    }

    /// Number of attempts.
    pub(crate) fn attempts(&self) -> u32 {
        let attempts = self.header("x-dirigent-attempts").and_then(|value| value.parse().ok());
        attempts.unwrap_or_else(|| panic!("expected the number of attempts: {self:?}"))
    }

    /// The data plane's error word; empty if the function responded.
    pub(crate) fn error(&self) -> &str {
        self.header("x-dirigent-error").unwrap_or_default()
    }

    /// Fails unless it is a refusal by the data plane with this status and word.
    pub(crate) fn assert_refused(&self, status: u16, error: &str) {
        assert!((self.status, self.error()) == (status, error), "expected {status} {error}, found {self:?}");
    }

    /// Fails unless the function responded with success.
    pub(crate) fn assert_ok(&self) -> &Self {
        assert!(self.status == 200 && self.error().is_empty(), "expected the function's answer, found {self:?}");
        self
    }
}
