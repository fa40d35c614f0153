//! Refusals: responses that this data plane gives in place of a function, and their format.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use crate::{download::Download, headers};

/// The reason why an invocation gets no response of its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The request is malformed or cannot be forwarded, or names no host or several (RFC 9112, section 3.2).
    BadRequest,
    /// No function of that name is registered.
    UnknownFunction,
    /// The body is larger than allowed.
    BodyTooLarge,
    /// The target is longer than the HTTP library accepts.
    TargetTooLong,
    /// The header section is larger than allowed.
    HeadersTooLarge,
    /// The method is CONNECT, or a transfer coding cannot be decoded.
    Unsupported,
    /// The sandbox failed.
    Upstream,
    /// No snapshot of the functions was received yet.
    NotReady,
    /// The function's queue is full.
    QueueFull,
    /// A bound on invocations or clients is reached, or the scheduling delay is too long.
    Overloaded,
    /// The data plane is draining.
    ShuttingDown,
    /// No sandbox of the function can be created.
    CreationFailed,
    /// No slot was free within the queue deadline.
    QueueDeadline,
    /// The function exceeded its time-out.
    Timeout,
}

/// Seconds after which a refused client may retry: long enough for a sandbox to start.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// Media type of the body (RFC 9457).
const PROBLEM: &str = "application/problem+json";
/// Prefix of the problem type; the cause's name follows.
const PROBLEM_TYPE: &str = "urn:dirigent:problem:";

impl Cause {
    /// All causes, in the order of their counters.
    pub(crate) const ALL: [Self; 14] = [
        Self::BadRequest,
        Self::UnknownFunction,
        Self::BodyTooLarge,
        Self::TargetTooLong,
        Self::HeadersTooLarge,
        Self::Unsupported,
        Self::Upstream,
        Self::NotReady,
        Self::QueueFull,
        Self::Overloaded,
        Self::ShuttingDown,
        Self::CreationFailed,
        Self::QueueDeadline,
        Self::Timeout,
    ];

    /// The value of `X-Dirigent-Error`.
    pub(crate) const fn name(self) -> &'static str {
        self.parts().1
    }

    /// A refusal without detail.
    pub(crate) fn plain(self) -> Refusal {
        Refusal { cause: self, field: None, detail: None }
    }

    /// A refusal with a detail.
    pub(crate) fn because(self, detail: impl Into<Arc<str>>) -> Refusal {
        Refusal { cause: self, field: None, detail: Some(detail.into()) }
    }

    /// A refusal because of one part of the request.
    pub(crate) fn about(self, field: &'static str, detail: impl Into<Arc<str>>) -> Refusal {
        Refusal { field: Some(field), ..self.because(detail) }
    }

    /// Status, name, and title for a human reader.
    const fn parts(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::BadRequest => (S::BAD_REQUEST, "bad-request", "the request cannot be forwarded"),
            Self::UnknownFunction => (S::NOT_FOUND, "unknown-function", "no function of that name is registered"),
            Self::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "body-too-large", "the body is larger than allowed"),
            Self::HeadersTooLarge => {
                (S::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers-too-large", "the header section is larger than allowed")
            }
            Self::TargetTooLong => (S::URI_TOO_LONG, "target-too-long", "the target is longer than 65,534 bytes"),
            Self::Unsupported => (S::NOT_IMPLEMENTED, "unsupported", "the request needs an unsupported feature"),
            Self::Upstream => (S::BAD_GATEWAY, "upstream", "the sandbox failed"),
            Self::NotReady => {
                (S::SERVICE_UNAVAILABLE, "not-ready", "no list of functions was received from a control plane yet")
            }
            Self::QueueFull => (S::SERVICE_UNAVAILABLE, "queue-full", "too many invocations wait for this function"),
            Self::Overloaded => (S::SERVICE_UNAVAILABLE, "overloaded", "this data plane is at its limit"),
            Self::ShuttingDown => (S::SERVICE_UNAVAILABLE, "shutting-down", "this data plane is shutting down"),
            Self::CreationFailed => {
                (S::SERVICE_UNAVAILABLE, "creation-failed", "no sandbox of this function can be created")
            }
            Self::QueueDeadline => (S::GATEWAY_TIMEOUT, "queue-deadline", "no sandbox was free in time"),
            Self::Timeout => (S::GATEWAY_TIMEOUT, "timeout", "the function took longer than its time-out"),
        }
    }
}

/// A response in place of the function's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) cause: Cause,
    /// The wrong part of the request: `host`, `target`, `head` or `body`.
    pub(crate) field: Option<&'static str>,
    /// Detail for a human reader.
    pub(crate) detail: Option<Arc<str>>,
}

impl Refusal {
    /// The body: a problem document (RFC 9457).
    fn body(&self) -> String {
        let (status, name, title) = self.cause.parts();
        let detail = self.detail.as_deref().unwrap_or(title);
        let mut problem = serde_json::json!({
            "type": format!("{PROBLEM_TYPE}{name}"),
            "title": title,
            "status": status.as_u16(),
            "detail": detail,
            "error": name,
        });
        if let Some(field) = self.field {
            problem["field"] = field.into();
        }
        problem.to_string()
    }

    /// The response after its status line, as HTTP/1.1 writes it.
    pub(crate) fn write(&self) -> Vec<u8> {
        let (name, body) = (self.cause.name(), self.body());
        let length = body.len();
        format!("content-type: {PROBLEM}\r\n{}: {name}\r\ncontent-length: {length}\r\n\r\n{body}", headers::ERROR)
            .into()
    }

    /// The response without its body, for a client that reads none.
    pub(crate) fn head(&self) -> Response<Download> {
        self.response().map(|_body| Download::whole(Bytes::new()))
    }

    pub(crate) fn response(&self) -> Response<Download> {
        let (status, name, _) = self.cause.parts();
        let mut response = Response::new(Download::whole(self.body().into()));
        *response.status_mut() = status;
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        fields.insert(headers::ERROR, HeaderValue::from_static(name));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            fields.insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        // A client that connects again may reach another data plane.
        if self.cause == Cause::ShuttingDown {
            fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_a_failure_and_says_why() {
        for cause in Cause::ALL {
            let response = cause.because("as it is").response();
            assert!(response.status().is_client_error() || response.status().is_server_error(), "{cause:?}");
            assert_eq!(response.headers()[headers::ERROR], cause.name());
            let retry = response.headers().contains_key(header::RETRY_AFTER);
            assert_eq!(retry, response.status() == StatusCode::SERVICE_UNAVAILABLE, "{cause:?}");
        }
    }

    #[test]
    fn every_refusal_is_in_the_table_of_the_documentation() {
        let page = include_str!("../../../docs/watching.md");
        let documented: Vec<&str> =
            page.lines().filter(|line| line.starts_with("| 4") || line.starts_with("| 5")).collect();
        assert_eq!(documented.len(), Cause::ALL.len(), "{documented:?}");
        for (cause, line) in Cause::ALL.iter().zip(documented) {
            let (status, name, _) = cause.parts();
            assert!(line.starts_with(&format!("| {} | `{name}` | ", status.as_u16())), "{line}");
        }
    }

    #[test]
    fn causes_are_numbered_as_they_are_listed() {
        let order: Vec<_> = Cause::ALL.iter().map(|&cause| cause as usize).collect();
        assert_eq!(order, (0..Cause::ALL.len()).collect::<Vec<_>>(), "a cause's number is its counter");
    }
}
