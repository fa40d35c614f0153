//! Messages of the control plane, carried out: functions, endpoints, limits, problems.

use std::{collections::BTreeSet, sync::Arc};

use api::{WireError, parse_address, state_from_wire, wire};
use model::{Endpoint, EndpointState, FunctionId, SandboxId};

use crate::{
    function::{Delta, FunctionState, GrantCap, Stamp},
    plane::Plane,
};

/// Applies one stream after the other.
pub(super) struct Applier {
    plane: Arc<Plane>,
    /// The cluster it belongs to, empty at first.
    cluster: String,
    /// The newest epoch seen.
    epoch: u32,
    /// Its nonce.
    nonce: u64,
    /// The greatest index of the command log among what it was told.
    known: u64,
    /// Number of the current stream.
    stream: u64,
    /// While its snapshot is being received, the functions it has named.
    snapshot: Option<BTreeSet<FunctionId>>,
}

impl Applier {
    /// Before the first stream.
    pub(super) fn new(plane: Arc<Plane>) -> Self {
        Self { plane, cluster: String::new(), epoch: 0, nonce: 0, known: 0, stream: 0, snapshot: None }
    }

    /// The newest epoch seen, 0 at first.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The nonce of that epoch.
    pub(super) fn nonce(&self) -> u64 {
        self.nonce
    }

    /// The greatest index of the command log among what it was told, 0 at first.
    pub(super) fn known(&self) -> u64 {
        self.known
    }

    /// The cluster it belongs to, empty at first.
    pub(super) fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The cluster is no more, or at least not that of the control planes: nothing of it may be used, since sandboxes of
    /// another one may have the same addresses. What runs may end.
    pub(super) fn leave_cluster(&mut self) {
        self.plane.set_unready();
        (self.cluster, self.epoch, self.snapshot) = (String::new(), 0, None);
        (self.nonce, self.known) = (0, 0);
        for function in self.plane.functions.all() {
            function.change(FunctionState::detach);
        }
        self.plane.functions.clear();
    }

    /// A stream of that control plane begins.
    pub(super) fn begin(&mut self, welcome: wire::Welcome) {
        self.cluster = welcome.cluster;
        (self.epoch, self.nonce) = (welcome.epoch, welcome.epoch_nonce);
        self.stream += 1;
        self.snapshot = Some(BTreeSet::new());
    }

    /// Whether all that a stream begins with was received on the current one.
    pub(super) fn is_complete(&self) -> bool {
        self.snapshot.is_none()
    }

    /// Carries out a message.
    pub(super) fn apply(&mut self, message: wire::ToDataPlane) {
        let functions = &self.plane.functions;
        self.known = self.known.max(message.sequence);
        for config in &message.functions {
            self.known = self.known.max(config.function).max(config.revision);
            if let Some(named) = &mut self.snapshot {
                named.insert(FunctionId(config.function));
            }
            functions.configure(&self.plane, config);
        }
        for id in message.removed {
            if let Some(named) = &mut self.snapshot {
                named.remove(&FunctionId(id));
            }
            functions.remove(FunctionId(id));
        }
        for delta in &message.endpoints {
            if let Err(error) = self.endpoint(delta) {
                tracing::error!(cause = %error, sandbox = %SandboxId::from_wire(delta.sandbox), "unusable endpoint delta");
            }
        }
        for cap in &message.limits {
            self.cap(cap);
        }
        for problem in message.problems {
            if let Some(function) = functions.by_id(FunctionId(problem.function)) {
                function.change(|state, now_us, effects| state.set_creation_problem(problem, now_us, effects));
            }
        }
        if message.snapshot_end
            && let Some(named) = self.snapshot.take()
        {
            functions.keep_only(&named);
            self.plane.set_ready();
        }
        if message.sequence > 0 {
            self.plane.reports.applied(message.sequence);
        }
    }

    fn endpoint(&self, delta: &wire::EndpointDelta) -> Result<(), WireError> {
        let state = state_from_wire(delta.state)?;
        let sandbox = SandboxId::from_wire(delta.sandbox);
        let Some(function) = self.plane.functions.by_id(FunctionId(delta.function)) else {
            // Whatever was granted of it is not held here.
            self.plane.reports.unknown(delta);
            return Ok(());
        };
        let address = match state {
            EndpointState::Active | EndpointState::Suspended => parse_address(&delta.address)?,
            // Its address does not matter any more, and may be absent.
            EndpointState::Draining | EndpointState::Gone => api::ANY_LOOPBACK,
        };
        let stamp = Stamp { stream: self.stream, version: delta.version };
        let delta = Delta {
            endpoint: Endpoint { sandbox, address },
            slots: delta.slots,
            state,
            stamp,
            ready_age_us: delta.ready_age_us,
        };
        function.change(|state, now_us, effects| state.apply(delta, now_us, effects));
        Ok(())
    }

    fn cap(&self, cap: &wire::GrantLimit) {
        let wire::GrantLimit { function, version, slots, min_idle_ms, drain } = *cap;
        match self.plane.functions.by_id(FunctionId(function)) {
            Some(function) => {
                let cap = GrantCap { slots, min_idle_ms, drain, version };
                function.change(|state, now_us, effects| state.apply_cap(cap, now_us, effects));
            }
            None => self.plane.reports.unknown_cap(cap),
        }
    }
}
