//! The epochs that this command log has begun. A peer is admitted only if everything that it knows is of this very log.
//!
//! A log may be set back to an older copy, or lose its end, and continue from there: then it assigns the same indexes,
//! and so the same ids and revisions, to other things. But within one epoch, which its nonce distinguishes from each of
//! the same number in another copy, one control plane wrote one sequence of commands. So epoch, nonce and the greatest
//! index that a peer knows of name one prefix of one log, and this log either has it or not ("log matching": Ongaro and
//! Ousterhout, In Search of an Understandable Consensus Algorithm, USENIX ATC 2014, section 5.3).

use std::collections::VecDeque;

use model::Epoch;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::store::MAX_EPOCHS;

/// The part of a log that a peer knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Knowledge {
    /// The newest epoch it was in; 0 for none.
    pub(crate) epoch: Epoch,
    pub(crate) nonce: u64,
    /// The greatest index that it received.
    pub(crate) index: u64,
}

/// The newest epochs of the log, at most [`MAX_EPOCHS`], oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct History(VecDeque<Begun>);

/// An epoch, and where in the log it began.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Begun {
    index: u64,
    epoch: Epoch,
    nonce: u64,
}

/// Something that a peer knows is not of this log.
#[derive(Debug, Error)]
pub(crate) enum NotInLog {
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

/// Likely cause and remedy, for operators.
pub(crate) const WHY: &str = "the log was set back to an older copy or has lost its end. What changed since that copy is lost: register \
                   it again. A data plane forgets what it knew and begins anew; a worker does so once it has no sandboxes: \
                   start it anew to end them";

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
    /// The peer knows something that is not in this log.
    pub(crate) fn check(&self, known: Knowledge) -> Result<(), NotInLog> {
        let Knowledge { epoch, nonce, index } = known;
        match self.end(known) {
            Some(end) if index > end => Err(NotInLog::Command { theirs: index, epoch, ours: end }),
            Some(_) => Ok(()),
            None if nonce == 0 && self.0.iter().any(|begun| begun.epoch == epoch) => Err(NotInLog::NoNonce(epoch)),
            None => Err(NotInLog::Epoch { theirs: epoch, nonce, ours: self.newest() }),
        }
    }

    /// The greatest index of this log that was known in an epoch; `None` if this log has not begun it.
    pub(crate) fn end(&self, Knowledge { epoch, nonce, .. }: Knowledge) -> Option<u64> {
        if epoch == Epoch::default() {
            return Some(0);
        }
        let place = self.0.binary_search_by_key(&epoch, |begun| begun.epoch).ok()?;
        let is_same = self.0.get(place)?.nonce == nonce;
        is_same.then(|| self.end_of(epoch))
    }

    /// The greatest index that was known in an epoch of this log.
    pub(crate) fn end_of(&self, epoch: Epoch) -> u64 {
        let next = self.0.partition_point(|begun| begun.epoch <= epoch);
        self.0.get(next).map_or(u64::MAX, |next| next.index - 1)
    }

    /// The newest epoch that was begun; 0 for none.
    pub(crate) fn newest(&self) -> Epoch {
        self.0.back().map_or_else(Epoch::default, |newest| newest.epoch)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
