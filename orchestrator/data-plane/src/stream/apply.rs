//! Applies messages of the control plane: functions, endpoints, caps, creation problems.

use std::{collections::BTreeSet, sync::Arc};

use api::{WireError, wire};
use model::{FunctionId, SandboxId};

use super::convert;
use crate::{function::FunctionState, plane::Plane};

/// The cluster that this data plane belongs to, as of the newest epoch seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) cluster: String,
    pub(super) epoch: u32,
    /// Distinguishes the epoch from one of its number in another copy of the command log.
    pub(super) epoch_nonce: u64,
}

/// Applies the messages of successive streams.
pub(super) struct Applier {
    plane: Arc<Plane>,
    /// `None` before the first stream.
    membership: Option<Membership>,
    /// Greatest command log index received.
    known: u64,
    /// Number of the current stream, from 1.
    stream: u64,
    /// Functions named by the snapshot while it is being received.
    snapshot: Option<BTreeSet<FunctionId>>,
}

impl Applier {
    pub(super) fn new(plane: Arc<Plane>) -> Self {
        Self { plane, membership: None, known: 0, stream: 0, snapshot: None }
    }

    /// The cluster that this data plane belongs to; `None` before the first stream.
    pub(super) fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    /// Greatest command log index received, 0 before the first stream.
    pub(super) fn known(&self) -> u64 {
        self.known
    }

    /// Leaves the cluster because the control planes belong to another one, whose sandboxes may have the same
    /// addresses. Running invocations may finish.
    pub(super) fn leave_cluster(&mut self) {
        self.plane.set_unready();
        (self.membership, self.known, self.snapshot) = (None, 0, None);
        for function in self.plane.functions.all() {
            function.change(FunctionState::detach);
        }
        self.plane.functions.clear();
    }

    /// Starts a stream after its welcome.
    pub(super) fn begin(&mut self, welcome: wire::Welcome) {
        let wire::Welcome { cluster, epoch, epoch_nonce, .. } = welcome;
        self.membership = Some(Membership { cluster, epoch, epoch_nonce });
        self.stream += 1;
        self.snapshot = Some(BTreeSet::new());
    }

    /// Returns true if the snapshot of the current stream is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.snapshot.is_none()
    }

    /// Applies a message.
    pub(super) fn apply(&mut self, message: wire::ToDataPlane) {
        let functions = &self.plane.functions;
        self.known = self.known.max(message.sequence);
        for config in &message.functions {
            self.known = self.known.max(config.function).max(config.revision);
            if let Some(named) = &mut self.snapshot {
                named.insert(FunctionId(config.function));
            }
            match convert::registration(config, self.plane.policy) {
                Ok(registration) => functions.configure(&self.plane, registration),
                Err(error) => {
                    let name = &config.name;
                    tracing::error!(name, cause = %error, "the control plane sent a function with an invalid name");
                }
            }
        }
        for id in message.removed {
            if let Some(named) = &mut self.snapshot {
                // Deregistered between two messages of the snapshot.
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
        for problem in &message.problems {
            if let Some(function) = functions.by_id(FunctionId(problem.function)) {
                let problem = convert::creation_problem(problem);
                function.change(|state, now_us, effects| state.set_creation_problem(problem, now_us, effects));
            }
        }
        if message.snapshot_end
            && let Some(named) = self.snapshot.take()
        {
            // Functions that the snapshot does not name were deregistered while there was no stream.
            functions.keep_only(&named);
            self.plane.set_ready();
        }
        if message.sequence > 0 {
            self.plane.reports.applied(message.sequence);
        }
    }

    fn endpoint(&self, delta: &wire::EndpointDelta) -> Result<(), WireError> {
        let id = FunctionId(delta.function);
        let Some(function) = self.plane.functions.by_id(id) else {
            // No grant of an unknown function is held.
            self.plane.reports.unknown(id, SandboxId::from_wire(delta.sandbox), delta.version);
            return Ok(());
        };
        let delta = convert::delta(delta, self.stream)?;
        function.change(|state, now_us, effects| state.apply(delta, now_us, effects));
        Ok(())
    }

    fn cap(&self, limit: &wire::GrantLimit) {
        let (id, cap) = convert::cap(limit);
        match self.plane.functions.by_id(id) {
            Some(function) => function.change(|state, now_us, effects| state.apply_cap(cap, now_us, effects)),
            None => self.plane.reports.unknown_cap(id, cap.version),
        }
    }
}
