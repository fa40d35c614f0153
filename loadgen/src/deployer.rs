//! Registers functions at a Dirigent control plane and removes what it created; several at a time, over its HTTP
//! interface or the published system's form.

mod acknowledgement;

use std::{
    fs::File,
    io::{IsTerminal, Read, stderr},
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use indicatif::ProgressBar;
use serde::Deserialize;
use terminal::UsageError;
use thiserror::Error;
use ureq::{
    Agent, Body, RequestBuilder,
    http::{Response, Uri},
};

use crate::{
    functions::{FunctionLine, Memory},
    http::port::Port,
    replay::stop::Stop,
};

/// Requests under way at once: enough to keep a control plane's log busy, few enough not to be a load test of it.
const PARALLEL: usize = 16;

/// A control plane responds to a registration within a second or two, or something is wrong.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Most bytes of a file with a token: above any token, and a file without an end must not take all memory.
const MAX_TOKEN_BYTES: u64 = 4096;

/// Most bytes of a response's body that are read: far above a problem document, since any server may respond there.
const MAX_BODY_BYTES: u64 = 1 << 16;

/// Characters shown of an error's body that is no problem document.
const SHOWN_BYTES: usize = 300;

/// The action on functions before load is sent, as messages name it.
const REGISTERED: &str = "registered";

/// Failures that are listed one by one: of one file a user corrects these first, and a control plane that is not there
/// fails them all.
const MAX_SHOWN_FAILURES: usize = 20;

/// Interval between lines if there is no terminal.
const PLAIN_LINE: Duration = Duration::from_secs(10);

/// Some functions could not be registered or removed.
#[derive(Debug, Error)]
#[error("{failed} of {of} functions could not be {act}{why}")]
pub(crate) struct DeployError {
    act: &'static str,
    failed: usize,
    of: usize,
    /// The address and the first failure, or another explanation of all of them.
    why: String,
    /// The message of each, in their order.
    failures: Vec<String>,
    /// Those that were created nevertheless.
    pub(crate) created: Vec<String>,
}

impl DeployError {
    /// The same for a command that removes nothing of what it registered, and says of each of those that failed why.
    pub(crate) fn keeping(self) -> anyhow::Error {
        if let [_, _, ..] = &self.failures[..] {
            self.failures.iter().take(MAX_SHOWN_FAILURES).for_each(|failure| terminal::note!("{failure}"));
        }
        if let more @ 1.. = self.failures.len().saturating_sub(MAX_SHOWN_FAILURES) {
            terminal::note!("and {more} more");
        }
        let rest = match self.of - self.failed {
            _ if self.act != REGISTERED => "; all are registered".to_owned(),
            0 => String::new(),
            kept => format!("; the rest ({kept}) is registered"),
        };
        anyhow!("{self}{rest}")
    }
}

/// The reason of a control plane for refusing a request.
struct Refusal {
    problem: String,
    /// Column of the problem in the body that was sent, from 1.
    column: Option<usize>,
}

impl Refusal {
    /// With the function's name and position.
    fn of(self, function: &FunctionLine) -> String {
        format!("{}: {}", function.position(self.column), self.problem)
    }
}

impl From<String> for Refusal {
    fn from(problem: String) -> Self {
        Self { problem, column: None }
    }
}

/// A function that was registered, as the control plane's response describes it. The form interface has no such response.
#[derive(Deserialize)]
struct Registration {
    /// `false` while a data plane has not acknowledged it, or none is connected; absent otherwise.
    known: Option<bool>,
}

/// The result of registering one function.
struct Put {
    is_new: bool,
    /// Every data plane has acknowledged it, as far as the control plane says.
    is_acknowledged: bool,
}

/// The fields read of an error as `application/problem+json` (RFC 9457).
#[derive(Deserialize)]
struct Problem {
    detail: String,
    column: Option<usize>,
}

/// A control plane to register functions at.
pub(crate) struct Deployer {
    /// The option that named it.
    option: &'static str,
    http: Agent,
    base: String,
    form: bool,
    /// Shown with every call, where the control plane asks for one.
    token: Option<String>,
}

impl Deployer {
    /// A deployer for `http://HOST:PORT`, as `option` names it; `form` speaks the published system's interface.
    ///
    /// # Errors
    /// [`UsageError`] when it is not the address of one.
    pub(crate) fn new(option: &'static str, control_plane: &str, form: bool) -> anyhow::Result<Self> {
        let address = control_plane.strip_prefix("http://").unwrap_or(control_plane).trim_end_matches('/');
        let base = format!("http://{address}");
        let authority = base.parse::<Uri>().ok().and_then(|uri| uri.into_parts().authority);
        if authority.is_none_or(|authority| authority.as_str() != address || authority.port().is_none()) {
            return Err(UsageError::of(anyhow!("{option}: expected http://HOST:PORT, found {control_plane:?}")));
        }
        // No proxy of the user's leads to a control plane, and none should see its token.
        let http = Agent::config_builder().proxy(None).max_redirects(0);
        let http = http.timeout_global(Some(TIMEOUT)).http_status_as_error(false).build().into();
        Ok(Self { option, http, base, form, token: None })
    }

    /// The same, with the token in `file`, which the control plane left in its data directory.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn with_token_file(self, file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(file) = file else { return Ok(self) };
        let mut token = String::new();
        let read = File::open(file).and_then(|file| file.take(MAX_TOKEN_BYTES + 1).read_to_string(&mut token));
        if read.with_context(|| format!("--token-file {}", file.display()))? as u64 > MAX_TOKEN_BYTES {
            bail!("--token-file {}: expected a token of at most {MAX_TOKEN_BYTES} bytes, found more", file.display());
        }
        Ok(Self { token: Some(format!("Bearer {}", token.trim())), ..self })
    }

    /// Adds the token to a request.
    fn sign<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("authorization", token),
            None => request,
        }
    }

    /// Registers functions, waits until every data plane has acknowledged them, and returns the names of those that did
    /// not exist before.
    ///
    /// # Errors
    /// If one could not be registered or was not acknowledged, or on a request to stop; the error names those created so
    /// far.
    pub(crate) fn register(&self, functions: &[FunctionLine], stop: &Stop) -> Result<Vec<String>, DeployError> {
        let (created, unacknowledged) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let failures = in_parallel(REGISTERED, functions, Some(stop), |function| {
            let put = self.put(function).map_err(|refusal| refusal.of(function))?;
            if put.is_new {
                created.lock().unwrap_or_else(PoisonError::into_inner).push(function.name.clone());
            }
            if !put.is_acknowledged {
                unacknowledged.lock().unwrap_or_else(PoisonError::into_inner).push(function);
            }
            Ok(())
        });
        let created = created.into_inner().unwrap_or_else(PoisonError::into_inner);
        let nothing_succeeded = failures.len() == functions.len() && !stop.is_requested();
        if let Some(port_mismatch) = nothing_succeeded.then(|| self.port_mismatch()).flatten() {
            let (failed, why) = (failures.len(), format!(": {port_mismatch}"));
            return Err(DeployError { act: REGISTERED, failed, of: failed, why, failures: Vec::new(), created });
        }
        let created = self.failed(REGISTERED, functions.len(), failures, created)?;
        let unacknowledged = unacknowledged.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.wait_for_data_planes(unacknowledged, created, stop)
    }

    /// Explains a wrong address, if another port of a cluster responds there than the one for operators.
    fn port_mismatch(&self) -> Option<String> {
        Port::Operators.port_mismatch(self.base.trim_start_matches("http://"), self.option)
    }

    /// Removes functions by name.
    ///
    /// # Errors
    /// If one could not be removed; one that is gone already is no error.
    pub(crate) fn remove(&self, names: &[String]) -> Result<(), DeployError> {
        let failures = in_parallel("removed", names, None, |name| {
            let response = self.sign(self.http.delete(format!("{}/v1/functions/{name}", self.base))).call();
            let removed = self.expect(response, &[200, 202, 204, 404]);
            removed.map(|_| ()).map_err(|refusal| format!("{name}: {}", refusal.problem))
        });
        self.failed("removed", names.len(), failures, Vec::new()).map(|_| ())
    }

    /// Registers one. The form says neither whether it is new nor whether it is acknowledged, so there nothing counts as
    /// created, and all as acknowledged.
    fn put(&self, function: &FunctionLine) -> Result<Put, Refusal> {
        if self.form {
            let memory = match &function.memory {
                None => "1".to_owned(),
                Some(Memory::Mib(mib)) => mib.to_string(),
                Some(Memory::Size(size)) => {
                    return Err(format!("field memory: the form takes MiB as a whole number, found {size:?}").into());
                }
            };
            let number = |key: &str| function.rest.get(key).map(ToString::to_string);
            let mut fields = vec![
                ("name", function.name.clone()),
                ("image", function.image.clone()),
                ("port_forwarding", number("port").unwrap_or_else(|| "80".to_owned())),
                ("port_forwarding", "tcp".to_owned()),
                ("requested_memory", memory),
            ];
            fields.extend(number("cpu").map(|cpu| ("requested_cpu", cpu)));
            let response = self.http.post(format!("{}/registerService", self.base)).send_form(fields);
            return self.expect(response, &[200]).map(|_| Put { is_new: false, is_acknowledged: true });
        }
        let url = format!("{}/v1/functions/{}", self.base, function.name);
        let body = function.body().map_err(|error| error.to_string())?;
        let request = self.sign(self.http.put(url)).header("content-type", "application/json");
        let (status, body) = self.expect(request.send(body), &[200, 201])?;
        let registration: Registration = serde_json::from_str(&body)
            .map_err(|error| format!("status {status}, but its body is no registration: {error}"))?;
        Ok(Put { is_new: status == 201, is_acknowledged: registration.known != Some(false) })
    }

    /// The status and body of a response that has one of the statuses expected.
    fn expect(
        &self,
        response: Result<Response<Body>, ureq::Error>,
        expected: &[u16],
    ) -> Result<(u16, String), Refusal> {
        let mut response = response.map_err(|error| Refusal::from(error.to_string()))?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(MAX_BODY_BYTES).read_to_string();
        if expected.contains(&status) {
            return body.map(|body| (status, body)).map_err(|error| format!("status {status}, then {error}").into());
        }
        let body = body.unwrap_or_default();
        let hint = match (status, &self.token) {
            (401, None) => " (--token-file names the file with its token)",
            (401, Some(_)) => " (the token in --token-file is not its own)",
            _ => "",
        };
        Err(match serde_json::from_str::<Problem>(&body) {
            Ok(Problem { detail, column }) => {
                Refusal { problem: format!("{detail}{hint}"), column: column.filter(|&column| column > 0) }
            }
            Err(_) => {
                let shown: String = body.trim().chars().take(SHOWN_BYTES).collect();
                format!("status {status}{hint}: {shown}").into()
            }
        })
    }

    fn failed(
        &self,
        act: &'static str,
        of: usize,
        failures: Vec<String>,
        created: Vec<String>,
    ) -> Result<Vec<String>, DeployError> {
        match failures.first() {
            None => Ok(created),
            Some(first) => {
                let why = format!(" at {}, the first of them, {first}", self.base);
                Err(DeployError { act, failed: failures.len(), of, why, failures, created })
            }
        }
    }
}

/// Does something to each item, several at a time, and returns what failed; items not reached because of `stop` fail.
fn in_parallel<'a, T: Sync>(
    act: &'static str,
    items: &'a [T],
    stop: Option<&Stop>,
    each: impl Fn(&'a T) -> Result<(), String> + Sync,
) -> Vec<String> {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let show = ProgressReporter::new(act, items.len());
    thread::scope(|scope| {
        for _ in 0..PARALLEL.min(items.len()) {
            scope.spawn(|| {
                loop {
                    let position = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(position) else { return };
                    let is_requested = stop.is_some_and(Stop::is_requested);
                    let done = if is_requested { Err("interrupted by the user".to_owned()) } else { each(item) };
                    show.increment(done.is_ok());
                    if let Err(failure) = done {
                        failures.lock().unwrap_or_else(PoisonError::into_inner).push((position, failure));
                    }
                }
            });
        }
    });
    show.bar.finish_and_clear();
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    // The first failure reported is that of the first item, whichever thread was done first.
    failures.sort_unstable();
    failures.into_iter().map(|(_, failure)| failure).collect()
}

/// Progress on standard error: a bar on a terminal, a line now and then elsewhere.
struct ProgressReporter {
    act: &'static str,
    of: usize,
    bar: ProgressBar,
    done: AtomicUsize,
    failed: AtomicUsize,
    line_due: Mutex<Instant>,
}

impl ProgressReporter {
    fn new(act: &'static str, of: usize) -> Self {
        let bar = if stderr().is_terminal() { ProgressBar::new(of as u64) } else { ProgressBar::hidden() };
        let line_due = Mutex::new(Instant::now() + PLAIN_LINE);
        Self { act, of, bar, done: AtomicUsize::new(0), failed: AtomicUsize::new(0), line_due }
    }

    fn increment(&self, succeeded: bool) {
        self.failed.fetch_add(usize::from(!succeeded), Ordering::Relaxed);
        // Whoever counts the last one sees every failure.
        let done = self.done.fetch_add(1, Ordering::AcqRel) + 1;
        let failed = self.failed.load(Ordering::Relaxed);
        self.bar.inc(1);
        let mut due = self.line_due.lock().unwrap_or_else(PoisonError::into_inner);
        if !stderr().is_terminal() && (Instant::now() >= *due || done == self.of) {
            *due = Instant::now() + PLAIN_LINE;
            let good = done.saturating_sub(failed);
            let failures = if failed == 0 { String::new() } else { format!(", {failed} failed") };
            terminal::note!("{good} of {} functions {}{failures}", self.of, self.act);
        }
    }
}
