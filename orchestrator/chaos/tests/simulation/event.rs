//! What happens in a run, as the harness sees it from outside: the trace, and what invariants are checked on.

use std::fmt;

use super::{fault::Fault, host::Host};

/// The number of an invocation; unique in a run.
pub(crate) type CallId = u64;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A function was registered, and the registration acknowledged.
    Registered { function: String },
    /// A function was deregistered, and that acknowledged.
    Deregistered { function: String },
    /// A client sent an invocation.
    Sent { call: CallId, function: String, to: Host },
    /// Its answer arrived in full.
    Answered { call: CallId, answer: Answer },
    /// Its connection ended without a whole answer.
    Broken { call: CallId, cause: String },
    /// The client went away before the answer, as planned.
    Abandoned { call: CallId },
    /// The client waited longer than any answer may take.
    Unanswered { call: CallId },
    /// A data plane began to connect to a sandbox of a worker.
    Dialed { from: Host, worker: Host },
    /// A data plane wrote to a sandbox of a worker.
    Carried { from: Host, worker: Host },
    /// A sandbox, known by its worker and port, had read the head of an invocation.
    Began { worker: Host, port: u16, call: CallId },
    /// It began to answer, or its connection ended before that.
    Ended { worker: Host, port: u16, call: CallId, answered: bool },
    /// A fault set in.
    Struck { fault: Fault },
    /// A fault was over.
    Healed { fault: Fault },
    /// At rest: the sandboxes that the control plane believes in and those that the workers have, one a line, sorted.
    Rest { believed: Vec<String>, existing: Vec<String> },
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// `X-Dirigent-Error`, when the data plane itself answered.
    pub(crate) error: Option<String>,
    /// `X-Dirigent-Sandbox`.
    pub(crate) sandbox: Option<String>,
    /// `X-Dirigent-Attempts`.
    pub(crate) attempts: Option<u32>,
    /// Whether `X-Dirigent-Cold` says so.
    pub(crate) cold: bool,
    /// The body's `Function`: the label of the invocation that the function believes to have run.
    pub(crate) ran: Option<String>,
    /// The body's `ExecutionTime`, in milliseconds rounded down.
    pub(crate) ran_ms: Option<u64>,
}

impl Event {
    /// How an invocation ended, in a word or two; `None` when this is not an end of one.
    pub(crate) fn end(&self) -> Option<String> {
        match self {
            Self::Answered { answer, .. } => {
                Some(format!("{} {}", answer.status, answer.error.as_deref().unwrap_or_default()).trim_end().to_owned())
            }
            Self::Broken { .. } => Some("broken".to_owned()),
            Self::Abandoned { .. } => Some("abandoned".to_owned()),
            Self::Unanswered { .. } => Some("unanswered".to_owned()),
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
            Self::Answered { call, answer } => write!(f, "#{call} answered {answer}"),
            Self::Broken { call, cause } => write!(f, "#{call} broken: {cause}"),
            Self::Abandoned { call } => write!(f, "#{call} abandoned"),
            Self::Unanswered { call } => write!(f, "#{call} unanswered"),
            Self::Dialed { from, worker } => write!(f, "{from} dials {worker}"),
            Self::Carried { from, worker } => write!(f, "{from} writes to {worker}"),
            Self::Began { worker, port, call } => write!(f, "#{call} began in {worker}:{port}"),
            Self::Ended { worker, port, call, answered } => {
                let how = if *answered { "ended" } else { "broke off" };
                write!(f, "#{call} {how} in {worker}:{port}")
            }
            Self::Struck { fault } => write!(f, "FAULT {fault}"),
            Self::Healed { fault } => write!(f, "HEALED {fault}"),
            Self::Rest { believed, existing } => {
                write!(f, "at rest: believed [{}], existing [{}]", believed.join(", "), existing.join(", "))
            }
        }
    }
}

impl fmt::Display for Answer {
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
