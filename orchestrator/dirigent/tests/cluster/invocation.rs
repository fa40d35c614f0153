//! Invocations as clients send them.

use crate::{
    http::{self, HttpResponse, Ongoing},
    probe,
};

/// One invocation of the trace function.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    function: String,
    method: &'static str,
    run_ms: u32,
    workload: &'static str,
}

impl Invocation {
    /// A GET that does nothing.
    pub(crate) fn of(function: &str) -> Self {
        Self { function: function.to_owned(), method: "GET", run_ms: 0, workload: "trace" }
    }

    /// That runs for this long.
    pub(crate) fn run_ms(self, run_ms: u32) -> Self {
        Self { run_ms, ..self }
    }

    /// As a POST: not idempotent.
    pub(crate) fn post(self) -> Self {
        Self { method: "POST", ..self }
    }

    /// That ends a probe's sandbox as soon as it has read it.
    pub(crate) fn deadly(self) -> Self {
        Self { workload: probe::DEADLY, ..self }
    }

    /// Sends it to a data plane.
    pub(crate) fn begin(&self, address: &str) -> Result<Ongoing, String> {
        let headers = [
            format!("Host: {}", self.function),
            format!("workload: {}", self.workload),
            format!("requested_cpu: {}", self.run_ms),
            "requested_memory: 0".to_owned(),
        ];
        // A function's response to POST must have come from a request whose body was sent whole.
        let body = if self.method == "POST" { "body" } else { "" };
        http::send(address, &format!("{} /", self.method), &headers, body)
    }

    /// Sends it and waits for the response: a status, whatever it is. Anything else breaks the promise that every
    /// invocation ends in one response.
    pub(crate) fn at(&self, address: &str) -> HttpResponse {
        let response = self.begin(address).and_then(Ongoing::response);
        response.unwrap_or_else(|error| panic!("expected exactly one answer to {self:?}: {error}"))
    }
}
