//! Registration of many functions in one request: newline-delimited JSON in, one result line each back.
//!
//! The body is read line by line, so that a long request needs memory only for the lines in progress. Results are sent
//! when all of it was read: a client that writes everything before it reads would otherwise wait for ever.

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{Stream, StreamExt, stream};
use model::{FunctionSpec, LineReader};
use serde::Serialize;

use super::{
    Operators,
    functions::{self, RegistrationResult, check_policies, register},
    problem::Problem,
};
use crate::state::Registration;

/// Concurrent registrations of one request: enough to fill every group commit.
const CONCURRENCY: usize = 1024;
/// Longest line: a specification has 64 KiB, and JSON may write a character as six.
const MAX_LINE_BYTES: usize = 512 * 1024;
/// Most lines of one request: the results and the names seen so far are kept until its end.
const MAX_LINES: usize = 250_000;

/// One line of the response, in the order of the request's lines.
#[derive(Serialize)]
struct LineResult {
    line: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    status: u16,
    /// Absent if the line was refused.
    #[serde(flatten)]
    result: Option<RegistrationResult>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The field that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// The byte of the line, from 1, at which the mistake is.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
}

impl LineResult {
    fn done(line: usize, name: String, registration: Registration) -> Self {
        let status = functions::status(registration).as_u16();
        let result = Some(RegistrationResult::of(registration));
        Self { line, name: Some(name), status, result, error: None, field: None, column: None }
    }

    fn refused(line: usize, name: Option<String>, problem: Problem) -> Self {
        let (status, column) = (problem.status(), problem.column());
        let (error, field) = problem.into_detail();
        Self { line, name, status, result: None, error: Some(error), field, column }
    }
}

pub(super) async fn put_many(State(operators): State<Operators>, body: Body) -> Response {
    let mut reader = LineReader::default();
    let results = lines(body.into_data_stream()).map(|(line, number)| {
        let spec = line.and_then(|text| Ok(reader.read(&text, number)?));
        put_line(operators.clone(), spec, number)
    });
    let mut results = std::pin::pin!(results.buffered(CONCURRENCY));
    let mut text = Vec::new();
    while let Some(result) = results.next().await {
        text.extend(serde_json::to_vec(&result).unwrap_or_default());
        text.push(b'\n');
    }
    ([(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response()
}

async fn put_line(operators: Operators, spec: Result<FunctionSpec, Problem>, line: usize) -> LineResult {
    let spec = match spec {
        Ok(spec) => spec,
        Err(problem) => return LineResult::refused(line, None, problem),
    };
    let name = spec.name.to_string();
    let registered = match check_policies(&spec) {
        Ok(()) => register(&operators, spec, None).await,
        Err(problem) => Err(problem),
    };
    match registered {
        Ok(registration) => LineResult::done(line, name, registration),
        Err(problem) => LineResult::refused(line, Some(name), problem),
    }
}

/// A line and its number, from 1. One that cannot be read is a problem, and the last one.
type Line = (Result<Vec<u8>, Problem>, usize);

/// A body being cut into lines.
struct Lines<S> {
    body: S,
    /// Bytes that were read and belong to no complete line yet.
    read: Bytes,
    /// The line as far as it is known.
    line: Vec<u8>,
    number: usize,
    ended: bool,
}

/// The lines of a body that are not blank.
fn lines<E>(body: impl Stream<Item = Result<Bytes, E>> + Unpin) -> impl Stream<Item = Line> {
    let lines = Lines { body, read: Bytes::new(), line: Vec::new(), number: 1, ended: false };
    stream::unfold(lines, |mut lines| async { lines.next().await.map(|line| (line, lines)) })
}

impl<S: Stream<Item = Result<Bytes, E>> + Unpin, E> Lines<S> {
    async fn next(&mut self) -> Option<Line> {
        while !self.ended {
            let number = self.number;
            let end = self.read.iter().position(|byte| *byte == b'\n');
            let part = self.read.split_to(end.unwrap_or(self.read.len()));
            self.line.extend_from_slice(&part);
            if self.line.len() > MAX_LINE_BYTES {
                let detail = format!("it is longer than {MAX_LINE_BYTES} bytes");
                return self.refuse(number, StatusCode::PAYLOAD_TOO_LARGE, detail);
            }
            if end.is_some() {
                self.read = self.read.slice(1..);
                self.number += 1;
            } else {
                match self.body.next().await {
                    Some(Ok(read)) => {
                        self.read = read;
                        continue;
                    }
                    Some(Err(_)) => {
                        return self.refuse(number, StatusCode::BAD_REQUEST, "the body ended within it".to_owned());
                    }
                    None => self.ended = true,
                }
            }
            let line = std::mem::take(&mut self.line);
            if line.trim_ascii().is_empty() {
                continue;
            }
            if number > MAX_LINES {
                let detail = format!("a request has {MAX_LINES} lines at most: send the others in another one");
                return self.refuse(number, StatusCode::PAYLOAD_TOO_LARGE, detail);
            }
            return Some((Ok(line), number));
        }
        None
    }

    /// The end: this line and those after it are not read.
    fn refuse(&mut self, number: usize, status: StatusCode, detail: String) -> Option<Line> {
        self.ended = true;
        let detail = format!("this line and those after it were not taken: {detail}");
        Some((Err(Problem::new(status, detail)), number))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    async fn cut(pieces: Vec<io::Result<Bytes>>) -> Vec<(usize, Result<String, u16>)> {
        let text = |line: Vec<u8>| String::from_utf8(line).unwrap();
        let line = |(line, number): Line| (number, line.map(text).map_err(|problem| problem.status()));
        lines(stream::iter(pieces)).map(line).collect().await
    }

    fn pieces(texts: &[&str]) -> Vec<io::Result<Bytes>> {
        texts.iter().map(|text| Ok(Bytes::copy_from_slice(text.as_bytes()))).collect()
    }

    #[tokio::test]
    async fn lines_are_the_same_wherever_the_body_is_cut() {
        let text = "one\n\n  \ntwo\r\nthree";
        let expected = [(1, Ok("one".to_owned())), (4, Ok("two\r".to_owned())), (5, Ok("three".to_owned()))];
        for at in 0..=text.len() {
            let (first, rest) = text.split_at(at);
            assert_eq!(cut(pieces(&[first, rest])).await, expected, "cut at {at}");
        }
        assert_eq!(cut(pieces(&["one\n"])).await, [(1, Ok("one".to_owned()))]);
        assert_eq!(cut(Vec::new()).await, []);
    }

    #[tokio::test]
    async fn what_cannot_be_taken_ends_the_request_with_a_reason() {
        let piece = "x".repeat(1000);
        let endless = std::iter::once("one\n").chain(std::iter::repeat_n(piece.as_str(), 1000)).collect::<Vec<_>>();
        assert_eq!(cut(pieces(&endless)).await, [(1, Ok("one".to_owned())), (2, Err(413))], "one endless line");
        let mut broken = pieces(&["one\ntw"]);
        broken.push(Err(io::ErrorKind::ConnectionReset.into()));
        assert_eq!(cut(broken).await, [(1, Ok("one".to_owned())), (2, Err(400))]);
        let many = cut(pieces(&["x\n".repeat(MAX_LINES + 5).as_str()])).await;
        assert_eq!((many.len(), many.last()), (MAX_LINES + 1, Some(&(MAX_LINES + 1, Err(413)))));
    }
}
