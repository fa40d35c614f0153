//! The life of one invocation, top to bottom: admission, wait for a slot, attempt in a sandbox, response; and again if
//! the sandbox failed and a retry is allowed.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll};

use http::{HeaderValue, Request, Response, StatusCode, Version, header, request, response};
use hyper::body::Incoming;
use tokio::time::{sleep_until, timeout_at};

use crate::{
    clients::{Client, Stream},
    download::{Download, DownloadError, Prefetched},
    function::{Admission, AdmittedInvocation, ArrivalNumber, Function, FunctionConfig, Slot, WaitOutcome},
    headers, host,
    outgoing::Outgoing,
    plane::Plane,
    refusal::{Cause, Refusal},
    running::Running,
    target,
    timeline::Timeline,
    upload::{UploadError, UploadSource},
    upstream::{NoResponse, OpenError, UpstreamConnection, poll_response},
};

/// Attempts of one invocation. A request that crashes its sandbox must not crash many.
const MAX_ATTEMPTS: u32 = 3;
/// Refused connections before the invocation fails. Higher than [`MAX_ATTEMPTS`], because nothing was sent and each
/// such sandbox is dropped at once.
const MAX_REFUSED: u32 = 16;

/// A response to a request with an unread body announces the end of the connection, except if the body is no longer
/// than this and was received: then the HTTP library skips it.
const SKIPPED_BYTES: u64 = 1024;

/// An admitted request.
struct Invocation {
    plane: Arc<Plane>,
    function: Arc<Function>,
    arrival: ArrivalNumber,
    config: FunctionConfig,
    arrived_us: u64,
    outgoing: Outgoing,
    /// May be retried even if a sandbox may have acted on it.
    repeatable: bool,
    /// Attempts so far.
    attempts: u32,
    /// Attempts in which the sandbox did not accept the connection.
    refused: u32,
}

/// The reason why an attempt has no response.
enum Fault {
    /// No connection could be opened; nothing was sent.
    Unreachable(OpenError),
    /// No usable response came. Retries depend on how far both sides got.
    NoUsableResponse { cause: String, response_started: bool, sent: bool },
    /// The request body ended early.
    Body(UploadError),
    /// The function's time-out passed.
    Timeout,
}

/// Serves one request, on `stream` if it is HTTP/2.
pub(crate) async fn serve(
    client: Arc<Client>,
    stream: Option<Arc<Stream>>,
    request: Request<Incoming>,
) -> Response<Download> {
    let plane = client.plane.clone();
    let arrived_us = plane.clock.now_us();
    let is_http10 = request.version() == Version::HTTP_10;
    let is_skipped = http_body::Body::size_hint(request.body()).upper().is_some_and(|upper| upper <= SKIPPED_BYTES);
    let mut open = client.request(request.version(), stream);
    // RFC 9112, section 6.1: another proxy may see the end of such a body elsewhere, and a second request behind it.
    // This version of the HTTP library closes such a connection by itself, but does not read what follows.
    // Asked for refused requests as well, or their marks would accumulate.
    let (is_ambiguous, had_fragment) = (client.had_two_framings(), client.had_fragment());
    if !http_body::Body::is_end_stream(request.body()) {
        client.upload_begins();
    }
    let outcome = if client.is_surplus {
        // A surplus connection gets one refusal and is closed.
        client.end_when_idle();
        Err(Cause::Overloaded.because("too many clients are connected"))
    } else if plane.is_full() || !plane.overload.admits(arrived_us) {
        Err(Cause::Overloaded.plain())
    } else if had_fragment {
        Err(Cause::BadRequest.about("target", "the target must have no fragment"))
    } else {
        Ok(())
    };
    let outcome = match outcome.and_then(|()| admit(&client, request, arrived_us)) {
        Ok((invocation, admission)) => invocation.run(admission).await,
        Err(refusal) => Err(refusal),
    };
    let mut response = outcome.unwrap_or_else(|refusal| {
        plane.metrics.refused(refusal.cause);
        if open.refuse() { refusal.response() } else { refusal.head() }
    });
    if is_http10 {
        // An HTTP/1.0 body without a length ends with the connection. For a response of the same version the library
        // knows that it need not announce that.
        *response.version_mut() = Version::HTTP_10;
    }
    // Nobody reads the rest of the upload, unless the function still does while it responds.
    let is_unread = client.has_unread_upload() && !(is_skipped && client.has_come_whole());
    if is_http10 || is_ambiguous || is_unread {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    open.responded(response.headers());
    response.map(|body| body.counting(open))
}

/// Finds the function, then takes a slot or a queue entry.
fn admit(
    client: &Arc<Client>,
    request: Request<Incoming>,
    arrived_us: u64,
) -> Result<(Invocation, Admission), Refusal> {
    let plane = &client.plane;
    let (head, body) = request.into_parts();
    let function = find(plane, &head)?;
    let limits = &plane.config.limits;
    if !headers::fits(&head.headers, limits) {
        return Err(Cause::HeadersTooLarge.plain());
    }
    if http_body::Body::size_hint(&body).lower() > limits.body.as_u64() {
        return Err(Cause::BodyTooLarge.plain());
    }
    let AdmittedInvocation { arrival, config, admission } = function.arrive(arrived_us)?;
    // Idempotent methods may be retried (RFC 9110, section 9.2.2).
    let repeatable = head.method.is_idempotent() || config.retry_any;
    let upload = UploadSource::new(body, client, repeatable);
    let mut outgoing = Outgoing::new(head, upload, &client.fields, config.protocol)?;
    outgoing.ensure_id(|| plane.request_ids.next());
    let plane = plane.clone();
    let invocation =
        Invocation { plane, function, arrival, config, arrived_us, outgoing, repeatable, attempts: 0, refused: 0 };
    Ok((invocation, admission))
}

fn find(plane: &Plane, head: &request::Parts) -> Result<Arc<Function>, Refusal> {
    if !host::is_supported(&head.method) {
        return Err(Cause::Unsupported.plain());
    }
    if !target::is_valid(&head.method, &head.uri) {
        return Err(
            Cause::BadRequest.about("target", "the target must be a path that begins with a slash, or a whole URL")
        );
    }
    let host = host::of(&head.uri, &head.headers);
    let host = host.ok_or_else(|| Cause::BadRequest.about("host", "the request must name exactly one host"))?;
    if plane.is_stopping() {
        return Err(Cause::ShuttingDown.plain());
    }
    let found = host::resolve(host, &plane.config.host_suffix, |name| plane.functions.by_name(name));
    found.ok_or_else(|| match plane.is_ready() {
        true => Cause::UnknownFunction.plain(),
        false => Cause::NotReady.plain(),
    })
}

impl Invocation {
    async fn run(mut self, admission: Admission) -> Result<Response<Download>, Refusal> {
        let outcome = self.run_attempts(admission).await;
        if let Err(Refusal { cause, detail, .. }) = &outcome {
            // Metrics count the causes. Single lines are for debugging only: clients decide how many there are.
            let (function, cause, detail) = (self.function.name(), cause.name(), detail.as_deref());
            tracing::debug!(%function, cause, detail, attempts = self.attempts, "an invocation failed");
        }
        outcome
    }

    /// Tries one slot after the other until a sandbox responds.
    async fn run_attempts(&mut self, mut admission: Admission) -> Result<Response<Download>, Refusal> {
        loop {
            let slot = self.wait(admission).await?;
            self.attempts += 1;
            match self.attempt(slot).await {
                Ok(response) => return Ok(response),
                Err(fault) => admission = self.recover(fault)?,
            }
        }
    }

    /// Waits for a slot until the queue deadline.
    async fn wait(&self, admission: Admission) -> Result<Slot, Refusal> {
        let mut queue_entry = match admission {
            Admission::Immediate(slot) => return Ok(slot),
            Admission::Queued(queue_entry) => queue_entry,
        };
        match timeout_at(self.plane.clock.at(self.wait_deadline_us()), queue_entry.wait_outcome()).await {
            Ok(Some(WaitOutcome::Served(slot))) => Ok(slot),
            Ok(Some(WaitOutcome::Refused(refusal))) => Err(refusal),
            Ok(None) => Err(Cause::ShuttingDown.plain()),
            Err(_elapsed) => Err(queue_entry.queue_deadline_refusal()),
        }
    }

    /// Runs the invocation in the sandbox of `slot`. The response body continues after this returns.
    async fn attempt(&mut self, mut slot: Slot) -> Result<Response<Download>, Fault> {
        let deadline = self.plane.clock.at(slot.taken_us().saturating_add(self.config.timeout_us));
        let mut sleep = pin!(sleep_until(deadline));
        loop {
            let connection = self.connection(&slot).await?;
            let Some(request) = self.outgoing.request(slot.sandbox().protocol()) else {
                let cause = "the request cannot be sent again".to_owned();
                return Err(Fault::NoUsableResponse { cause, response_started: false, sent: true });
            };
            let mut running = Running::new(slot, connection, deadline);
            let mut response = pin!(running.connection().send(request));
            let outcome = poll_fn(|cx| {
                if let Poll::Ready(outcome) = poll_response(running.connection(), response.as_mut(), cx) {
                    return Poll::Ready(Some(outcome));
                }
                sleep.as_mut().poll(cx).map(|()| None)
            });
            match outcome.await {
                Some(Ok(response)) => return self.handle_response(running, response).await,
                None => return Err(Fault::Timeout),
                Some(Err(mut error)) => match (error.take_message(), running) {
                    // The connection closed while it was idle and nothing was sent: take another one.
                    (Some(request), mut running) => {
                        self.outgoing.unsent(request);
                        if !running.connection().is_reused() {
                            // A new connection was not idle, so retrying here could loop forever.
                            return Err(self.broke(running, &error.into_error()));
                        }
                        slot = running.unsent().map(|(slot, _)| slot).ok_or(Fault::Timeout)?;
                    }
                    (None, running) => return Err(self.broke(running, &error.into_error())),
                },
            }
        }
    }

    /// A connection to the sandbox of `slot`: the most recently used idle one, or a new one.
    async fn connection(&self, slot: &Slot) -> Result<UpstreamConnection, Fault> {
        match slot.sandbox().take_idle(&self.plane, slot.taken_us(), self.repeatable).await {
            Some(connection) => Ok(connection),
            None => slot.sandbox().open(&self.plane).await.map_err(|error| {
                match &error {
                    // Idle connections hold descriptors that are needed now.
                    OpenError::Local(_) => self.plane.idle.shed_many(&self.plane),
                    OpenError::NotTrusted | OpenError::TrustExpired => slot.return_grant(),
                    sandboxes => slot.fail(&sandboxes.to_string()),
                }
                Fault::Unreachable(error)
            }),
        }
    }

    /// Handles a connection that ended before the response head was complete. Dropping `running` frees the slot once
    /// the sandbox has closed its side, which it usually has.
    fn broke(&self, mut running: Running, error: &hyper::Error) -> Fault {
        if let Some(error) = self.outgoing.upload_error() {
            return Fault::Body(error);
        }
        let connection = running.connection();
        let kind = NoResponse::of(error);
        let response_started = connection.response_started() || kind == NoResponse::Unreadable;
        let sent = connection.request_started() && kind != NoResponse::Unprocessed;
        let reused = connection.is_reused();
        let stopped_reading = connection.stopped_reading();
        let cause = service::with_causes(error);
        let slot = running.slot();
        tracing::debug!(sandbox = %slot.sandbox().id(), cause, reused, ?kind, "no response");
        match kind {
            NoResponse::Unreadable | NoResponse::StreamReset | NoResponse::Unprocessed => {
                slot.sandbox().responded();
                running.discard();
            }
            // The sandbox may have closed it after its own idle timeout, and with it the others.
            NoResponse::ConnectionEnded if reused && !response_started => slot.sandbox().shed_idle(&self.plane),
            // A sandbox that reads less than is written to it is not broken.
            NoResponse::ConnectionEnded if !stopped_reading && slot.sandbox().broke() => slot.fail_repeatedly(&cause),
            NoResponse::ConnectionEnded => {}
        }
        Fault::NoUsableResponse { cause, response_started, sent }
    }

    async fn handle_response(
        &self,
        mut running: Running,
        response: Response<Incoming>,
    ) -> Result<Response<Download>, Fault> {
        let (mut head, mut body) = response.into_parts();
        if let Err(fault) = self.check(&mut head) {
            running.discard();
            return Err(fault);
        }
        let prefetched = match poll_fn(|cx| Poll::Ready(Prefetched::read(&mut running, &mut body, cx))).await {
            Ok(prefetched) => prefetched,
            Err(error) => {
                match error {
                    // Trailers are the end of the response, so the connection is reusable.
                    DownloadError::TrailersTooLarge => running.completed().await,
                    _ => running.discard(),
                }
                return Err(Fault::NoUsableResponse {
                    cause: service::with_causes(&error),
                    response_started: true,
                    sent: true,
                });
            }
        };
        let slot = running.slot();
        let timeline = Timeline {
            arrived_us: self.arrived_us,
            taken_us: slot.taken_us(),
            ready_us: slot.sandbox().ready_us(),
            responded_us: self.plane.clock.now_us(),
        };
        // The response head is read as soon as it arrives, so it proves that the sandbox exists now. How much later the
        // body is read is up to the client.
        slot.sandbox().observed_alive(timeline.responded_us);
        self.plane.metrics.responded(&timeline);
        if timeline.is_cold() {
            self.function.count_cold_start();
        }
        // The function's own Server-Timing, if any, follows ours.
        headers::insert_first(&mut head.headers, &headers::SERVER_TIMING, timeline.server_timing());
        let cold = if timeline.is_cold() { "1" } else { "0" };
        head.headers.insert(headers::COLD, HeaderValue::from_static(cold));
        head.headers.insert(headers::SANDBOX, slot.sandbox().header().clone());
        head.headers.insert(headers::ATTEMPTS, attempts_value(self.attempts));
        // The sandbox's version belongs to its own hop.
        head.version = http::Version::HTTP_11;
        let mut parts = Some((running, prefetched, body));
        let body = poll_fn(|cx| match parts.take() {
            Some((running, prefetched, body)) => Poll::Ready(Download::begin(running, prefetched, body, cx)),
            None => Poll::Pending,
        });
        Ok(Response::from_parts(head, body.await))
    }

    /// Validates a response head and strips its hop-by-hop fields.
    fn check(&self, head: &mut response::Parts) -> Result<(), Fault> {
        let broke =
            |cause: &str| Fault::NoUsableResponse { cause: cause.to_owned(), response_started: true, sent: true };
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(broke("it switched protocols although no upgrade was requested"));
        }
        if !headers::fits(&head.headers, &self.plane.config.limits) {
            return Err(broke("its header section is larger than allowed"));
        }
        headers::towards_client(&mut head.headers).map_err(|error| broke(&error.to_string()))
    }

    /// Requests another slot after `fault`, if a retry is allowed.
    fn recover(&mut self, fault: Fault) -> Result<Admission, Refusal> {
        let (again, refusal) = match fault {
            Fault::Timeout => return Err(Cause::Timeout.plain()),
            Fault::Body(UploadError::TooLarge) => return Err(Cause::BodyTooLarge.plain()),
            Fault::Body(error @ UploadError::TrailersTooLarge) => {
                return Err(Cause::HeadersTooLarge.because(error.to_string()));
            }
            Fault::Body(UploadError::Client) => {
                return Err(Cause::BadRequest.about(
                    "body",
                    "client closed the connection before the body was complete, or the body is malformed",
                ));
            }
            Fault::Unreachable(OpenError::NotTrusted) => {
                // The connection was not attempted, so this counts as no attempt. The search costs no waiting and is
                // bounded by the number of sandboxes.
                self.attempts -= 1;
                (true, Cause::Upstream.because(OpenError::NotTrusted.to_string()))
            }
            Fault::Unreachable(error) => {
                self.refused += 1;
                // A lack of descriptors here is not the sandbox's fault.
                let cause = if error.is_local() { Cause::Overloaded } else { Cause::Upstream };
                (self.refused < MAX_REFUSED, cause.because(error.to_string()))
            }
            Fault::NoUsableResponse { cause, response_started, sent } => {
                let is_allowed = !response_started && (self.repeatable || !sent);
                let again = is_allowed && self.attempts - self.refused < MAX_ATTEMPTS && self.outgoing.can_repeat();
                (again, Cause::Upstream.because(cause))
            }
        };
        if !again || self.plane.clock.now_us() >= self.wait_deadline_us() {
            return Err(refusal);
        }
        self.plane.metrics.retried();
        self.function.retry(self.arrival)
    }

    /// Deadline of all waits for a slot, first and retries, in microseconds.
    fn wait_deadline_us(&self) -> u64 {
        self.arrived_us.saturating_add(self.config.queue_deadline_us)
    }
}

fn attempts_value(attempts: u32) -> HeaderValue {
    match attempts {
        1 => HeaderValue::from_static("1"),
        more => HeaderValue::from(more),
    }
}
