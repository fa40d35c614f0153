//! Errors as `application/problem+json` (RFC 9457).

use axum::{
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use model::ReadError;
use serde::Serialize;

use crate::owner::Stopped;

/// An error response to a request.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    /// One URN for each kind of problem, so that programs can tell them apart.
    #[serde(rename = "type")]
    kind: &'static str,
    status: u16,
    title: &'static str,
    detail: String,
    /// The field of the request that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// Position of the mistake in the request's body, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("error");
        let (detail, kind) = (detail.into(), kind(status));
        Self { kind, status: status.as_u16(), title, detail, field: None, line: None, column: None }
    }

    pub(super) fn bad_field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail).about(field)
    }

    /// The same, about one field of the request.
    pub(super) fn about(self, field: impl Into<String>) -> Self {
        let kind = if self.status == StatusCode::BAD_REQUEST.as_u16() { INVALID_FIELD } else { self.kind };
        Self { kind, field: Some(field.into()), ..self }
    }

    pub(super) fn no_function(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("no function is named {name:?}"))
    }

    /// A function is registered, and may not be found where it is invoked.
    pub(super) fn unknown_to_data_planes(name: &str) -> Self {
        let detail =
            format!("{name:?} is registered, but not every data plane has acknowledged it, or none is connected");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    pub(super) fn no_node(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("no node is named {name:?}"))
    }

    /// The explanation, and the field that it concerns.
    pub(super) fn into_detail(self) -> (String, Option<String>) {
        (self.detail, self.field)
    }

    pub(super) fn column(&self) -> Option<usize> {
        self.column
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }
}

/// A field of the request that is wrong.
const INVALID_FIELD: &str = "urn:dirigent:problem:invalid-field";

/// The kind of problem that a status means when nothing more is known.
fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "urn:dirigent:problem:invalid-request",
        StatusCode::NOT_FOUND => "urn:dirigent:problem:not-found",
        StatusCode::CONFLICT => "urn:dirigent:problem:conflict",
        StatusCode::SERVICE_UNAVAILABLE => "urn:dirigent:problem:unavailable",
        // RFC 9457, 4.2.1: `about:blank` where the status alone describes the problem.
        _ => "about:blank",
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        let problem = Self::new(StatusCode::BAD_REQUEST, error.problem);
        let problem = Self { line: Some(error.line), column: Some(error.column), ..problem };
        match error.field {
            Some(field) => problem.about(field),
            None => problem,
        }
    }
}

impl From<Stopped> for Problem {
    fn from(_: Stopped) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the control plane is shutting down")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = [(header::CONTENT_TYPE, "application/problem+json")];
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, headers, body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

pub(super) async fn no_such_page(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_comes_too_early_is_told_when_to_retry() {
        let response = Problem::unknown_to_data_planes("f").into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers().get(header::RETRY_AFTER).map(header::HeaderValue::as_bytes), Some(&b"1"[..]));
        let response = Problem::no_function("f").into_response();
        assert_eq!(response.headers().get(header::RETRY_AFTER), None, "asking again changes nothing");
    }
}
