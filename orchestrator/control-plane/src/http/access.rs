//! Permission to change something through the operators' port.
//!
//! A page in a browser can send a form, or text, to any address without asking; it cannot send JSON or a header of its
//! own unasked. A program in a sandbox can send anything, but cannot read the token unless it runs as the user of the
//! control plane.

use std::sync::Arc;

use api::{Token, TokenError};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::problem::Problem;
use crate::Config;

/// Name of the token's file within the data directory.
const TOKEN_FILE: &str = "token";
/// Content types of bodies: of one document, and of one document a line.
const JSON: [&str; 1] = ["application/json"];
const JSON_LINES: [&str; 2] = ["application/x-ndjson", "application/json"];
const FORM: [&str; 1] = ["application/x-www-form-urlencoded"];
/// Paths of the form interface.
const FORM_PATHS: [&str; 2] = ["/", "/registerService"];
const BULK_PATH: &str = "/v1/functions";

/// Conditions that requests must meet.
pub(crate) struct Access {
    /// `None`: everybody who reaches the port may write.
    token: Option<Token>,
    /// The form interface is served.
    form: bool,
    /// Host names with a dot by which the port may be called.
    pub(super) hosts: Vec<String>,
}

impl Access {
    /// As configured. Creates the token if there is none yet.
    pub(crate) fn new(config: &Config) -> Result<Self, TokenError> {
        let token = config.auth.then(|| Token::read_or_create(&config.data_dir.join(TOKEN_FILE))).transpose()?;
        Ok(Self { token, form: config.form, hosts: config.hosts.clone() })
    }

    fn allows(&self, request: &Request) -> Result<(), Problem> {
        let (method, path, headers) = (request.method(), request.uri().path(), request.headers());
        if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) {
            return Ok(());
        }
        if FORM_PATHS.contains(&path) {
            if !self.form {
                let detail = "the form interface is off: --form, or `form = true` in the control plane's configuration, turns it on";
                return Err(Problem::new(StatusCode::FORBIDDEN, detail));
            }
            return check_type(headers, &FORM);
        }
        let shown = headers.get(header::AUTHORIZATION);
        let is_shown = |token: &Token| shown.is_some_and(|value| token.matches_header(value.as_bytes()));
        if !self.token.as_ref().is_none_or(is_shown) {
            let what = if shown.is_some() { "another token than" } else { "no token: it needs" };
            let detail = format!(
                "the call shows {what} the one in the file `{TOKEN_FILE}` of the control plane's data directory (--token-file)"
            );
            return Err(Problem::new(StatusCode::UNAUTHORIZED, detail));
        }
        let is_bulk = method == Method::POST && path == BULK_PATH;
        check_type(headers, if is_bulk { &JSON_LINES } else { &JSON })
    }
}

/// Passes on what may be done.
pub(super) async fn check(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    match access.allows(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Refuses a body whose declared type is not in `expected`. A request without a body needs no type.
fn check_type(headers: &HeaderMap, expected: &[&str]) -> Result<(), Problem> {
    let has_length = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
    if !has_length && !headers.contains_key(header::TRANSFER_ENCODING) {
        return Ok(());
    }
    let given = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    let essence = given.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if expected.iter().any(|expected| expected.eq_ignore_ascii_case(essence)) {
        return Ok(());
    }
    let found = given.map_or_else(|| "there is none".to_owned(), |given| format!("it is {given:?}"));
    let detail = format!("Content-Type: expected {}, {found}", expected.join(" or "));
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
}
