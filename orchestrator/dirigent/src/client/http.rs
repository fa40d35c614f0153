//! Blocking HTTP to one part: JSON in, JSON or a problem out.

use std::{io, time::Duration};

use anyhow::{Context, anyhow, bail};
use serde_json::Value;
use ureq::{
    Agent, AsSendBody, Body,
    http::{Method, Request, Response, StatusCode},
};

use super::token::Source;
use crate::output::visible;

/// Longest wait for a control plane. A registration waits for its disk and up to 1 s for data planes.
pub(crate) const CONTROL_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for a connection; the parts are near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest answer read: a page of functions is far below it.
const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;

/// One part that answers HTTP.
pub(crate) struct Server {
    role: &'static str,
    base: String,
    agent: Agent,
    /// Shown with calls that change something.
    token: Option<Source>,
}

/// What a part answered.
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: StatusCode,
    /// Body, whole.
    pub(crate) body: String,
}

impl Server {
    /// The part playing `role` at `base`; a missing `http://` is added.
    pub(crate) fn new(role: &'static str, base: &str, timeout: Duration) -> Self {
        let scheme = if base.contains("://") { "" } else { "http://" };
        Self { role, base: format!("{scheme}{}", base.trim_end_matches('/')), agent: agent(timeout), token: None }
    }

    /// The same, with the token that it asks for before it changes something.
    pub(crate) fn with_token(self, token: Source) -> Self {
        Self { token: Some(token), ..self }
    }

    /// The JSON at `path`.
    ///
    /// # Errors
    /// When the part cannot be reached, or answers with a problem.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.json(Method::GET, path, None)
    }

    /// Asks with `method` at `path`, sending `body` as JSON; an empty answer is `null`.
    ///
    /// # Errors
    /// As [`Server::get`].
    pub(crate) fn json(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let body = body.map(|value| (value.to_string(), "application/json"));
        let answer = self.ask(method, path, body)?;
        answer.check().with_context(|| self.describe())?;
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&answer.body).with_context(|| format!("{}: the answer is no JSON", self.describe()))
    }

    /// Asks, and gives back whatever was answered.
    ///
    /// # Errors
    /// When the part cannot be reached, or the file with the token that was named not be read.
    pub(crate) fn ask(&self, method: Method, path: &str, body: Option<(String, &str)>) -> anyhow::Result<Answer> {
        let url = self.url(path);
        let writes = ![Method::GET, Method::HEAD].contains(&method);
        let mut request = Request::builder().method(method).uri(&url);
        if let Some(source) = self.token.as_ref().filter(|_| writes)
            && let Some(token) = source.token()?
        {
            request = request.header("authorization", token.header());
        }
        if let Some((_, content_type)) = &body {
            request = request.header("content-type", *content_type);
        }
        let text = body.map(|(text, _)| text).unwrap_or_default();
        let request = request.body(text).with_context(|| format!("{url} is no HTTP address"))?;
        let mut response = self.run(request)?;
        let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string();
        let body = body.map_err(|error| anyhow!("{}: reading its answer: {error}", self.describe()))?;
        Ok(Answer { status: response.status(), body })
    }

    /// Sends a request as it is.
    ///
    /// # Errors
    /// When the part cannot be reached.
    pub(crate) fn run(&self, request: Request<impl AsSendBody>) -> anyhow::Result<Response<Body>> {
        self.agent.run(request).map_err(|error| match error {
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                anyhow!("{}: connection refused, nothing listens there{}", self.describe(), self.remedy())
            }
            error => anyhow!("{}: {error}", self.describe()),
        })
    }

    /// The full address of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The option that names another address, where there is one.
    fn remedy(&self) -> &'static str {
        match self.role {
            "control plane" => "; --control-plane names another address",
            "data plane" => "; --data-plane names another address",
            _ => "",
        }
    }

    /// The part as an error message names it.
    pub(crate) fn describe(&self) -> String {
        format!("{} at {}", self.role, self.base)
    }
}

impl Answer {
    /// Succeeds for 2xx.
    ///
    /// # Errors
    /// The problem that was answered, on one line.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.status.is_success() {
            return Ok(());
        }
        let problem = serde_json::from_str(&self.body).map_or_else(|_| visible(self.body.trim()), |p| describe(&p));
        if problem.is_empty() {
            bail!("{}", self.status);
        }
        bail!("{}: {problem}", self.status.as_u16())
    }
}

/// A client that uses no proxy and gives every status back instead of failing on 4xx and 5xx.
fn agent(timeout: Duration) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_global(Some(timeout))
        .build()
        .into()
}

/// What a problem (RFC 9457), or a line of a bulk registration's answer, says went wrong.
pub(crate) fn describe(problem: &Value) -> String {
    let part = |name: &str| problem.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let said = part("detail").or_else(|| part("error")).or_else(|| part("title"));
    said.map_or_else(|| problem.to_string(), visible)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_problem_becomes_one_line() {
        let answer = Answer {
            status: StatusCode::BAD_REQUEST,
            body:
                json!({"title": "Bad Request", "status": 400, "detail": "timeout must be above 0", "field": "timeout"})
                    .to_string(),
        };
        assert_eq!(answer.check().unwrap_err().to_string(), "400: timeout must be above 0");
        let bare = Answer { status: StatusCode::NOT_FOUND, body: String::new() };
        assert_eq!(bare.check().unwrap_err().to_string(), "404 Not Found");
    }

    #[test]
    fn an_address_without_scheme_is_http() {
        assert_eq!(Server::new("x", "127.0.0.1:1/", CONTROL_TIMEOUT).describe(), "x at http://127.0.0.1:1");
        assert_eq!(Server::new("x", "http://h:2", CONTROL_TIMEOUT).describe(), "x at http://h:2");
    }
}
