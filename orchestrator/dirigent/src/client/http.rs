//! Blocking HTTP to one part: JSON in, JSON or a problem out.

use std::{io, time::Duration};

use anyhow::{Context, anyhow, bail};
use api::Token;
use serde_json::Value;
use terminal::visible;
use tokio::time::Instant;
use ureq::{
    Agent, AsSendBody, Body,
    http::{Method, Request, Response, StatusCode},
};

use super::{
    address::Address,
    connect_retry::{ConnectRetry, START_TIMEOUT},
    port_mismatch::Port,
    token::Source,
};

/// Longest wait for a control plane. A registration waits for its disk and up to 1 s for data planes.
pub(crate) const CONTROL_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for a connection; the parts are near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest head of a response read: twice the field bytes that a data plane passes on unless it is configured for more, and
/// its own fields are added to those.
const MAX_HEAD_BYTES: usize = 128 * 1024;
/// Largest response read: a page of functions is far below it.
const MAX_RESPONSE_BYTES: u64 = 64 * 1024 * 1024;

/// Header field in which a data plane says why it refused.
const REFUSAL: &str = "x-dirigent-error";
/// Its reason until it has received state from a control plane.
const NOT_READY: &str = "not-ready";

/// The role of a component in the cluster.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    ControlPlane,
    DataPlane,
    Worker,
}

/// One component that serves HTTP.
pub(crate) struct Server {
    role: Role,
    base: String,
    agent: Agent,
    timeout: Duration,
    /// Longest wait until it listens.
    connect_retry: Duration,
    /// Shown with calls that change something; where it was named, with every call.
    token: Option<Source>,
}

/// A component's response.
pub(crate) struct ServerResponse {
    /// Status code.
    pub(crate) status: StatusCode,
    /// Body, whole.
    pub(crate) body: String,
}

impl Server {
    /// The part playing `role` at `base`.
    pub(crate) fn new(role: Role, base: &Address, timeout: Duration) -> Self {
        // What an option names may just be starting; a worker was named by the control plane.
        let connect_retry = if role == Role::Worker { Duration::ZERO } else { START_TIMEOUT.min(timeout) };
        Self { role, base: base.to_string(), agent: agent(timeout), timeout, connect_retry, token: None }
    }

    /// The same, for who asks again and again anyway.
    pub(crate) fn without_connect_retry(self) -> Self {
        Self { connect_retry: Duration::ZERO, ..self }
    }

    /// The same, with the token that it asks for before it changes something.
    pub(crate) fn with_token(self, token: Source) -> Self {
        Self { token: Some(token), ..self }
    }

    /// The JSON at `path`.
    ///
    /// # Errors
    /// If the component cannot be reached, or responds with a problem.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.json(Method::GET, path, None)
    }

    /// Sends a request with `body` as JSON; an empty response is `null`.
    ///
    /// # Errors
    /// As [`Server::get`].
    pub(crate) fn json(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let body = body.map(|value| (value.to_string(), "application/json"));
        let response = self.request(method, path, body)?;
        if response.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&response.body).with_context(|| format!("{}: the response is no JSON", self.describe()))
    }

    /// Sends a request, and returns the response if it is a success.
    ///
    /// # Errors
    /// As [`Server::get`].
    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<(String, &str)>,
    ) -> anyhow::Result<ServerResponse> {
        let response = self.call(method, path, body)?;
        // Only what is wrong there too is looked into.
        let may_be_another = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED].contains(&response.status);
        if let Some(error) = may_be_another.then(|| self.port_mismatch()).flatten() {
            return Err(error);
        }
        response.check().with_context(|| self.describe())?;
        Ok(response)
    }

    /// Sends a request, and returns the response whatever its status.
    ///
    /// # Errors
    /// If the part cannot be reached, or the file with the token that was named not be read.
    pub(crate) fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<(String, &str)>,
    ) -> anyhow::Result<ServerResponse> {
        let writes = ![Method::GET, Method::HEAD].contains(&method);
        let source = self.token.as_ref().filter(|source| writes || source.is_named());
        let token = source.map(Source::token).transpose()?.flatten();
        let had_token = token.is_some();
        let response = self.call_with_token(&method, path, body.as_ref(), token)?;
        if response.status != StatusCode::UNAUTHORIZED || had_token {
            return Ok(response);
        }
        // A control plane that has just been started wrote its token after it was looked for.
        match source.map(Source::token).transpose()?.flatten() {
            None => Ok(response),
            token => self.call_with_token(&method, path, body.as_ref(), token),
        }
    }

    fn call_with_token(
        &self,
        method: &Method,
        path: &str,
        body: Option<&(String, &str)>,
        token: Option<Token>,
    ) -> anyhow::Result<ServerResponse> {
        let url = self.url(path);
        let mut request = Request::builder().method(method).uri(&url);
        if let Some(token) = token {
            request = request.header("authorization", token.header());
        }
        if let Some((_, content_type)) = body {
            request = request.header("content-type", *content_type);
        }
        let text = body.map(|(text, _)| text.as_str()).unwrap_or_default();
        let request = request.body(text).with_context(|| format!("{url} is no HTTP address"))?;
        let (mut response, _sent) = self.run(&request)?;
        let body = response.body_mut().with_config().limit(MAX_RESPONSE_BYTES).read_to_string();
        let body = body.map_err(|error| self.failed("reading its response: ", &error))?;
        Ok(ServerResponse { status: response.status(), body })
    }

    /// Sends a request as it is, and gives the response and when it was sent; again as long as nothing listens yet, or a
    /// data plane knows of no control plane yet: in both cases nobody has got it.
    ///
    /// # Errors
    /// If the part cannot be reached.
    pub(crate) fn run(&self, request: &Request<impl AsSendBody + Clone>) -> anyhow::Result<(Response<Body>, Instant)> {
        let mut connect_retry = ConnectRetry::new(self.connect_retry);
        loop {
            let sent = Instant::now();
            match self.agent.run(request.clone()) {
                Err(ureq::Error::Io(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    let what = format!("{}: connection refused, nothing listens there", self.describe());
                    if !connect_retry.wait(&what) {
                        return Err(anyhow!("{what}{}", self.remedy()));
                    }
                }
                Ok(response) if self.is_starting(&response) => {
                    if !connect_retry.wait(&format!("{}: no control plane has been heard of yet", self.describe())) {
                        return Ok((response, sent));
                    }
                }
                outcome => return outcome.map(|response| (response, sent)).map_err(|error| self.failed("", &error)),
            }
        }
    }

    fn is_starting(&self, response: &Response<Body>) -> bool {
        let said = response.headers().get(REFUSAL);
        self.role == Role::DataPlane && said.is_some_and(|said| said == NOT_READY)
    }

    /// An error of `doing` something, in the caller's terms.
    pub(crate) fn failed(&self, doing: &str, error: &ureq::Error) -> anyhow::Error {
        if let Some(error) = Port::of_error(error).and_then(|port| self.other_than(port)) {
            return error;
        }
        let (part, waited) = (self.describe(), humantime::format_duration(self.timeout));
        match error {
            ureq::Error::Timeout(ureq::Timeout::Global) if self.role == Role::DataPlane => {
                anyhow!("{part}: {doing}no complete response within {waited}; --timeout allows more")
            }
            ureq::Error::Timeout(ureq::Timeout::Global) => {
                anyhow!("{part}: {doing}no complete response within {waited}")
            }
            ureq::Error::Timeout(ureq::Timeout::Connect) => {
                anyhow!("{part}: no connection within {CONNECT_TIMEOUT:?}{}", self.other_address())
            }
            ureq::Error::Io(error) if is_cut_off(error) => {
                // A port of streams closes the connection as well where more than a head is sent.
                if let Some(error) = self.port_mismatch() {
                    return error;
                }
                let what = if self.role == Role::DataPlane { "the invocation" } else { "what was asked for" };
                anyhow!(
                    "{part} closed the connection before its response was complete; {what} may have been carried out"
                )
            }
            ureq::Error::Io(_) | ureq::Error::HostNotFound => anyhow!("{part}: {doing}{error}{}", self.other_address()),
            error => anyhow!("{part}: {doing}{error}"),
        }
    }

    /// The rows that `response` holds by this name. Another port may have something else at the same path.
    ///
    /// # Errors
    /// If it holds none, which is more than that there are none.
    pub(crate) fn rows<'a>(&self, response: &'a Value, name: &str) -> anyhow::Result<&'a [Value]> {
        let rows = response.get(name).and_then(Value::as_array).map(Vec::as_slice);
        let missing = || anyhow!("{}: the response has no {name}", self.describe());
        rows.ok_or_else(|| self.port_mismatch().unwrap_or_else(missing))
    }

    /// Returns an explanation if another port of a cluster responds there than this one's role has.
    pub(crate) fn port_mismatch(&self) -> Option<anyhow::Error> {
        Port::find(&agent(CONNECT_TIMEOUT), &self.base).and_then(|port| self.other_than(port))
    }

    fn other_than(&self, port: Port) -> Option<anyhow::Error> {
        let (own, wanted) = match self.role {
            Role::ControlPlane => (Port::Operators, "--control-plane wants a control plane's port for operators"),
            Role::DataPlane => (Port::Invocations, "--data-plane wants a data plane's port for invocations"),
            // The control plane named it.
            Role::Worker => return None,
        };
        (port != own).then(|| anyhow!("{}: {}; {wanted}", self.describe(), port.responses()))
    }

    /// The full address of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// A hint for when nothing listens.
    fn remedy(&self) -> String {
        let starts = match self.role {
            Role::ControlPlane => ": `dirigent up` or `dirigent control-plane` starts one",
            Role::DataPlane => ": `dirigent up` or `dirigent data-plane` starts one",
            Role::Worker => "",
        };
        format!("{starts}{}", self.other_address())
    }

    /// The option that names another address, where there is one.
    fn other_address(&self) -> &'static str {
        match self.role {
            Role::ControlPlane => "; --control-plane names another address",
            Role::DataPlane => "; --data-plane names another address",
            Role::Worker => "",
        }
    }

    /// The part as an error message names it.
    pub(crate) fn describe(&self) -> String {
        let role = match self.role {
            Role::ControlPlane => "control plane",
            Role::DataPlane => "data plane",
            Role::Worker => "worker",
        };
        format!("{role} at {}", self.base)
    }
}

impl ServerResponse {
    /// Succeeds for 2xx.
    ///
    /// # Errors
    /// The problem in the response, on one line.
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

/// Returns true if an established connection has ended: the address is right, and the request may have arrived.
fn is_cut_off(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    [BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof].contains(&error.kind())
}

/// A client that uses no proxy and gives every status back instead of failing on 4xx and 5xx.
fn agent(timeout: Duration) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .max_response_header_size(MAX_HEAD_BYTES)
        // A head is read whole, and the blank line after the largest one must fit too.
        .input_buffer_size(2 * MAX_HEAD_BYTES)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_global(Some(timeout))
        .build()
        .into()
}

/// The message of a problem (RFC 9457), or of a line of a bulk registration's response.
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
        let response = ServerResponse {
            status: StatusCode::BAD_REQUEST,
            body:
                json!({"title": "Bad Request", "status": 400, "detail": "timeout must be above 0", "field": "timeout"})
                    .to_string(),
        };
        assert_eq!(response.check().unwrap_err().to_string(), "400: timeout must be above 0");
        let bare = ServerResponse { status: StatusCode::NOT_FOUND, body: String::new() };
        assert_eq!(bare.check().unwrap_err().to_string(), "404 Not Found");
    }
}
