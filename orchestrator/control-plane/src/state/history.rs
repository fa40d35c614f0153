//! The epochs that this command log has begun: a peer is believed only if all that it knows is of this very log.
//!
//! A log may be set back to an older copy, or lose its end, and go on from there: then it gives out the same indexes, and
//! so the same ids and revisions, for other things. But within one epoch, told by its nonce from each of the same number
//! in another copy, one control plane wrote one sequence of commands. So epoch, nonce and the greatest index that a peer
//! knows of name one prefix of one log, and this log either has it or not ("log matching": Ongaro and Ousterhout, In
//! Search of an Understandable Consensus Algorithm, USENIX ATC 2014, section 5.3).

use std::collections::VecDeque;

use api::wire;
use model::{Epoch, SandboxId};
use policy::placement::NodeKey;
use thiserror::Error;

use super::{Effect, SessionId, State, WorkerChange};
use crate::store::MAX_EPOCHS;

/// How much of a log a peer knows.
#[derive(Clone, Copy)]
pub(super) struct Knowledge {
    /// The newest epoch it was in; 0 for none.
    pub(super) epoch: Epoch,
    nonce: u64,
    /// The greatest index among what it was told.
    index: u64,
}

/// The newest epochs of the log, at most [`MAX_EPOCHS`], oldest first.
#[derive(Default)]
pub(super) struct History(VecDeque<Begun>);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Begun {
    index: u64,
    epoch: Epoch,
    nonce: u64,
}

/// Something that a peer knows is not of this log.
#[derive(Debug, Error)]
pub(super) enum NotInLog {
    #[error(
        "it was in epoch {theirs} of this cluster with nonce {nonce:016x}, which this command log, at epoch {ours}, does \
         not have: {WHY}"
    )]
    Epoch { theirs: Epoch, nonce: u64, ours: Epoch },
    #[error("it knows command {theirs} of epoch {epoch}, which in this command log ends at {ours}: {WHY}")]
    Command { theirs: u64, epoch: Epoch, ours: u64 },
    #[error(
        "it was in epoch {0} and does not say its nonce, as programs of an older version do: start it anew with this one"
    )]
    NoNonce(Epoch),
}

/// What has happened, and what can be done about it.
const WHY: &str = "the log was set back to an older copy or has lost its end. What changed since that copy is lost: register \
                   it again. A data plane forgets what it knew and begins anew; a worker does so once it has no sandboxes: \
                   start it anew to end them";

impl Knowledge {
    /// What its sandboxes are of is held against the log one by one.
    pub(super) fn of_worker(hello: &wire::WorkerHello) -> Self {
        Self { epoch: Epoch(hello.epoch), nonce: hello.epoch_nonce, index: 0 }
    }

    pub(super) fn of_data_plane(hello: &wire::DataPlaneHello) -> Self {
        Self { epoch: Epoch(hello.epoch), nonce: hello.epoch_nonce, index: hello.known }
    }
}

impl History {
    /// The log begins an epoch at `index`.
    pub(super) fn begin(&mut self, index: u64, epoch: Epoch, nonce: u64) {
        if self.0.back().is_some_and(|newest| newest.epoch >= epoch) {
            return;
        }
        self.0.push_back(Begun { index, epoch, nonce });
        if self.0.len() > MAX_EPOCHS {
            self.0.pop_front();
        }
    }

    /// # Errors
    /// When a peer knows something that is not of this log.
    pub(super) fn check(&self, known: Knowledge) -> Result<(), NotInLog> {
        let Knowledge { epoch, nonce, index } = known;
        match self.end(known) {
            Some(end) if index > end => Err(NotInLog::Command { theirs: index, epoch, ours: end }),
            Some(_) => Ok(()),
            None if nonce == 0 && self.0.iter().any(|begun| begun.epoch == epoch) => Err(NotInLog::NoNonce(epoch)),
            None => {
                let ours = self.0.back().map_or_else(Epoch::default, |newest| newest.epoch);
                Err(NotInLog::Epoch { theirs: epoch, nonce, ours })
            }
        }
    }

    /// The greatest index of this log that was known in the epoch that somebody was in; `None` if this log has not begun
    /// that one.
    fn end(&self, Knowledge { epoch, nonce, .. }: Knowledge) -> Option<u64> {
        if epoch == Epoch::default() {
            return Some(0);
        }
        let place = self.0.binary_search_by_key(&epoch, |begun| begun.epoch).ok()?;
        let is_same = self.0.get(place)?.nonce == nonce;
        is_same.then(|| self.end_of(epoch))
    }

    /// The greatest index that was known in an epoch of this log.
    fn end_of(&self, epoch: Epoch) -> u64 {
        let next = self.0.partition_point(|begun| begun.epoch <= epoch);
        self.0.get(next).map_or(u64::MAX, |next| next.index - 1)
    }

    #[cfg(test)]
    pub(super) fn epochs(&self) -> Vec<Begun> {
        self.0.iter().copied().collect()
    }
}

impl State {
    /// A worker was told of a data plane that joined after what this log has of the worker's epoch: that one may hold what
    /// nobody else claims of the worker's sandboxes.
    pub(super) fn note_lost_holders(&mut self, nodes: &[NodeKey], hello: &wire::WorkerHello) {
        let end = self.history.end(Knowledge::of_worker(hello)).unwrap_or(0);
        if hello.known > end {
            let (worker, known) = (&hello.worker, hello.known);
            tracing::warn!(worker, known, ends_at = end, "a data plane joined which this log does not have: {WHY}");
            nodes.iter().for_each(|key| self.nodes.get_mut(*key).holders_lost = true);
        }
    }

    /// What a worker holds and this log knows of; the rest ends. A worker that was in an epoch of this log may have made
    /// sandboxes of what was registered then and is lost, and still have them in a later epoch, in which it missed that they
    /// were to end.
    pub(super) fn end_unknown(&mut self, session: SessionId, hello: &wire::WorkerHello) -> Vec<wire::HeldSandbox> {
        let known = Knowledge::of_worker(hello);
        let end = self.history.end(known).unwrap_or(0);
        let is_known = |held: &wire::HeldSandbox| {
            let made_in = SandboxId::from_wire(held.sandbox).epoch();
            held.function.max(held.revision) <= end.min(self.history.end_of(made_in)) && made_in <= known.epoch
        };
        let (ours, unknown): (Vec<_>, Vec<_>) = hello.sandboxes.iter().cloned().partition(is_known);
        if !unknown.is_empty() {
            let (worker, sandboxes, epoch) = (&hello.worker, unknown.len(), known.epoch);
            tracing::warn!(
                worker,
                sandboxes,
                epoch = epoch.0,
                ends_at = end,
                "it holds sandboxes of commands that this log does not have: {WHY}"
            );
        }
        for held in unknown {
            self.effect(Effect::ToWorker { session, change: WorkerChange::Delete(held.sandbox) });
        }
        ours
    }
}
