//! One message to the control plane, filled by domain types: only here reports become wire messages.

use api::wire;
use model::{FunctionId, SandboxId};

use crate::function::{LoadSample, SandboxFailure};

/// A message to the control plane. It is filled in place, so that the conversion allocates nothing of its own.
#[derive(Debug, Default)]
pub(crate) struct ReportMessage(wire::FromDataPlane);

/// The slots of a sandbox that are held now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotsAck {
    pub(crate) slots: u32,
    /// Version of the newest delta about the sandbox on this stream; `None` before the first.
    pub(crate) version: Option<u64>,
    /// Time from reading that delta to this message, microseconds; `None` if that was acknowledged before, and this is
    /// only a return of slots.
    pub(crate) own_us: Option<u64>,
}

impl ReportMessage {
    /// The first message of a stream.
    pub(crate) fn hello(hello: wire::DataPlaneHello) -> Self {
        Self(wire::FromDataPlane { hello: Some(hello), ..Default::default() })
    }

    /// Number of entries other than samples.
    pub(crate) fn len(&self) -> usize {
        self.0.demand.len() + self.0.acks.len() + self.0.failures.len() + self.0.limit_acks.len()
    }

    /// Number of acknowledgements of deltas.
    pub(crate) fn acks(&self) -> usize {
        self.0.acks.len()
    }

    /// Number of acknowledgements of caps.
    pub(crate) fn cap_acks(&self) -> usize {
        self.0.limit_acks.len()
    }

    /// Number of failures.
    pub(crate) fn failures(&self) -> usize {
        self.0.failures.len()
    }

    /// Number of samples.
    pub(crate) fn samples(&self) -> usize {
        self.0.samples.len()
    }

    /// Adds the demand for a function.
    pub(crate) fn push_demand(&mut self, function: FunctionId, waiting: u32, running: u32) {
        self.0.demand.push(wire::Demand { function: function.0, waiting, running });
    }

    /// Adds a sandbox that is not used any more. The cause is shortened to the bound of texts.
    pub(crate) fn push_failure(&mut self, function: FunctionId, sandbox: SandboxId, failure: SandboxFailure) {
        let SandboxFailure { cause, retired, drains } = failure;
        let (sandbox, cause) = (sandbox.to_wire(), api::shorten(cause));
        self.0.failures.push(wire::EndpointFailure { sandbox, function: function.0, cause, retired, drains });
    }

    /// Adds the slots held of a sandbox.
    pub(crate) fn push_ack(&mut self, function: FunctionId, sandbox: SandboxId, ack: SlotsAck) {
        self.0.acks.push(wire::EndpointAck {
            sandbox: sandbox.to_wire(),
            function: function.0,
            slots: ack.slots,
            version: ack.version.unwrap_or(0),
            own_us: ack.own_us.unwrap_or(0),
        });
    }

    /// Adds the acknowledgement of a cap's `version`, after which `slots` of the function are held.
    pub(crate) fn push_cap_ack(&mut self, function: FunctionId, version: u64, slots: u32) {
        self.0.limit_acks.push(wire::LimitAck { function: function.0, version, slots });
    }

    /// Adds a sample.
    pub(crate) fn push_sample(&mut self, function: FunctionId, sample: LoadSample) {
        let LoadSample { span_ms, concurrency_us, requests, waiting, running, peak, cold } = sample;
        let function = function.0;
        self.0.samples.push(wire::Sample { function, span_ms, concurrency_us, requests, waiting, running, peak, cold });
    }

    /// Reports that function changes up to `sequence` are in force.
    pub(crate) fn set_applied(&mut self, sequence: u64) {
        self.0.applied = sequence;
    }

    /// The message to send; `None` if it is empty.
    pub(crate) fn into_wire(self) -> Option<wire::FromDataPlane> {
        (self.0 != wire::FromDataPlane::default()).then_some(self.0)
    }
}
