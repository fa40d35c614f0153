//! The events of a run, as the harness observes them from outside. Invariants are checked on them.

use std::fmt;

use super::{fault::Fault, host::Host};

/// The number of an invocation; unique in a run.
pub(crate) type CallId = u64;

/// An observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The registration of a function was acknowledged.
    Registered { function: String },
    /// The deregistration of a function was acknowledged.
    Deregistered { function: String },
    /// A client sent an invocation.
    Sent { call: CallId, function: String, to: Host },
    /// The client received the complete response.
    Responded { call: CallId, response: ClientResponse },
    /// The connection ended before the response was complete.
    Broken { call: CallId, cause: String },
    /// The client closed the connection before the response, as planned.
    Abandoned { call: CallId },
    /// There was no response within [`RESPONSE_TIMEOUT_MS`](super::client::RESPONSE_TIMEOUT_MS).
    TimedOut { call: CallId },
    /// A data plane began to connect to a sandbox of a worker.
    Dialed { from: Host, worker: Host },
    /// A data plane wrote to a sandbox of a worker.
    Wrote { from: Host, worker: Host },
    /// A sandbox, known by its worker and port, had read the head of an invocation.
    Began { worker: Host, port: u16, call: CallId },
    /// It began to respond, or its connection ended before that.
    Ended { worker: Host, port: u16, call: CallId, responded: bool },
    /// A fault began.
    FaultBegan { fault: Fault },
    /// A fault ended.
    FaultEnded { fault: Fault },
    /// Without load: the sandboxes that the control plane knows and those that the workers have, one per line, sorted.
    Snapshot { expected: Vec<String>, actual: Vec<String> },
}

/// The response that a client received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientResponse {
    /// HTTP status.
    pub(crate) status: u16,
    /// `X-Dirigent-Error`, if the data plane itself responded.
    pub(crate) error: Option<String>,
    /// `X-Dirigent-Sandbox`.
    pub(crate) sandbox: Option<String>,
    /// `X-Dirigent-Attempts`.
    pub(crate) attempts: Option<u32>,
    /// `X-Dirigent-Cold` is 1.
    pub(crate) cold: bool,
    /// The body's `Function`: the label of the invocation that the function has run.
    pub(crate) ran: Option<String>,
    /// The body's `ExecutionTime`, in milliseconds rounded down.
    pub(crate) ran_ms: Option<u64>,
}

impl Event {
    /// A short name of the end of an invocation; `None` for other events.
    pub(crate) fn end(&self) -> Option<String> {
        match self {
            Self::Responded { response, .. } => Some(
                format!("{} {}", response.status, response.error.as_deref().unwrap_or_default()).trim_end().to_owned(),
            ),
            Self::Broken { .. } => Some("broken".to_owned()),
            Self::Abandoned { .. } => Some("abandoned".to_owned()),
            Self::TimedOut { .. } => Some("timed out".to_owned()),
            _ => None,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered { function } => write!(f, "registered {function}"),
            Self::Deregistered { function } => write!(f, "deregistered {function}"),
            Self::Sent { call, function, to } => write!(f, "#{call} sent to {to} for {function}"),
            Self::Responded { call, response } => write!(f, "#{call} got {response}"),
            Self::Broken { call, cause } => write!(f, "#{call} broken: {cause}"),
            Self::Abandoned { call } => write!(f, "#{call} abandoned"),
            Self::TimedOut { call } => write!(f, "#{call} timed out"),
            Self::Dialed { from, worker } => write!(f, "{from} dials {worker}"),
            Self::Wrote { from, worker } => write!(f, "{from} writes to {worker}"),
            Self::Began { worker, port, call } => write!(f, "#{call} began in {worker}:{port}"),
            Self::Ended { worker, port, call, responded } => {
                let end = if *responded { "ended" } else { "broke off" };
                write!(f, "#{call} {end} in {worker}:{port}")
            }
            Self::FaultBegan { fault } => write!(f, "FAULT {fault}"),
            Self::FaultEnded { fault } => write!(f, "HEALED {fault}"),
            Self::Snapshot { expected, actual } => {
                write!(f, "without load: expected [{}], actual [{}]", expected.join(", "), actual.join(", "))
            }
        }
    }
}

impl fmt::Display for ClientResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if let Some(error) = &self.error {
            write!(f, " {error}")?;
        }
        if let Some(sandbox) = &self.sandbox {
            let heat = if self.cold { "cold" } else { "warm" };
            write!(f, " {heat} by {sandbox}, attempt {}", self.attempts.unwrap_or_default())?;
        }
        if let (Some(ran), Some(ran_ms)) = (&self.ran, self.ran_ms) {
            write!(f, ", ran {ran} for {ran_ms} ms")?;
        }
        Ok(())
    }
}
