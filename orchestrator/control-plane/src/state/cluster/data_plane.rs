//! Data planes, with their demand and grants of each function.

use std::net::SocketAddr;

use model::DataPlaneId;

use super::super::{Map, SessionId};

/// A data plane, stable over reconnects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::state) struct DataPlaneKey(pub(in crate::state) u32);

/// Load of one function at one data plane: its reported demand, and the slots granted to it.
#[derive(Clone, Debug, Default)]
pub(in crate::state) struct FunctionLoad {
    pub(in crate::state) waiting: u32,
    pub(in crate::state) running: u32,
    /// Slots granted to it.
    pub(super) held: u32,
    /// Slots granted to it that it has not acknowledged. They will serve part of `waiting`, so that waiting invocations
    /// are not counted twice.
    pub(super) under_way: u32,
    pub(in crate::state) cap: GrantCap,
    /// It is disconnected, or has not acknowledged a cap in time: its slots serve no other data plane, and are not
    /// waited for.
    pub(in crate::state) unresponsive: bool,
}

/// The newest cap sent to one data plane for one function.
#[derive(Clone, Debug, Default)]
pub(in crate::state) struct GrantCap {
    /// `None` before the first one.
    pub(in crate::state) version: Option<u64>,
    /// Slots it should hold at most, while the cap is in force.
    pub(in crate::state) slots: Option<u32>,
    /// Busy slots are to be returned too, as they become free.
    pub(in crate::state) drain: bool,
    /// It has not acknowledged it yet.
    pub(in crate::state) pending: bool,
    /// Deadline of the acknowledgement, in microseconds, while other data planes wait for the revoked slots.
    pub(in crate::state) due_us: Option<u64>,
    /// No further cap before this time, in microseconds, because the last one brought no slots back.
    pub(in crate::state) not_before_us: u64,
}

impl FunctionLoad {
    #[cfg(test)]
    pub(in crate::state) fn set_held(&mut self, slots: u32) {
        self.held = slots;
    }

    /// Slots granted to the data plane.
    pub(in crate::state) fn held(&self) -> u32 {
        self.held
    }

    /// Waiting invocations that no grant sent so far will serve.
    pub(in crate::state) fn unmet(&self) -> u32 {
        self.waiting.saturating_sub(self.under_way)
    }

    /// Slots of a pending revocation, neither returned nor refused yet.
    pub(in crate::state) fn pending_revocation(&self) -> u32 {
        let stands = !self.unresponsive && (self.cap.pending || self.cap.drain);
        self.cap.slots.filter(|_| stands).map_or(0, |slots| self.held.saturating_sub(slots))
    }

    /// Slots held and unused, as far as is known.
    pub(in crate::state) fn idle(&self) -> u32 {
        self.held.saturating_sub(self.running.saturating_add(self.waiting))
    }
}

/// One data plane.
#[derive(Debug)]
pub(in crate::state) struct DataPlane {
    pub(in crate::state) id: DataPlaneId,
    pub(in crate::state) session: Option<SessionId>,
    /// Address on which it accepts invocations.
    pub(in crate::state) address: Option<SocketAddr>,
    /// The greatest function change it has applied.
    pub(in crate::state) applied: u64,
    /// Time at which its stream ended, in microseconds.
    pub(in crate::state) left_us: u64,
    /// The process that is or was connected.
    pub(in crate::state) instance: Option<u64>,
    /// Its removal is being written to the log. If it connects again, it is treated as a new data plane.
    pub(in crate::state) leaving: bool,
}

/// All data planes.
#[derive(Default)]
pub(in crate::state) struct DataPlanes {
    known: Vec<Option<DataPlane>>,
    sessions: Map<SessionId, DataPlaneKey>,
    next_version: u64,
}

impl DataPlanes {
    pub(in crate::state) fn get(&self, key: DataPlaneKey) -> Option<&DataPlane> {
        self.known.get(key.0 as usize)?.as_ref()
    }

    pub(in crate::state) fn iter_mut(&mut self) -> impl Iterator<Item = &mut DataPlane> {
        self.known.iter_mut().flatten()
    }

    pub(in crate::state) fn get_mut(&mut self, key: DataPlaneKey) -> Option<&mut DataPlane> {
        self.known.get_mut(key.0 as usize)?.as_mut()
    }

    pub(in crate::state) fn iter(&self) -> impl Iterator<Item = (DataPlaneKey, &DataPlane)> {
        self.known.iter().zip(0..).filter_map(|(known, key)| known.as_ref().map(|known| (DataPlaneKey(key), known)))
    }

    pub(in crate::state) fn connected(&self) -> impl Iterator<Item = (DataPlaneKey, SessionId, &DataPlane)> {
        self.iter().filter_map(|(key, known)| known.session.map(|session| (key, session, known)))
    }

    pub(in crate::state) fn find(&self, id: &DataPlaneId) -> Option<DataPlaneKey> {
        self.iter().find(|(_, known)| known.id == *id).map(|(key, _)| key)
    }

    /// Adds a data plane, unless there is one of that name. It is away since `left_us`.
    pub(in crate::state) fn put(&mut self, id: &DataPlaneId, left_us: u64) {
        if self.find(id).is_some() {
            return;
        }
        let place = self.known.iter().position(Option::is_none).unwrap_or_else(|| {
            self.known.push(None);
            self.known.len() - 1
        });
        self.known[place] = Some(DataPlane {
            id: id.clone(),
            session: None,
            address: None,
            applied: 0,
            left_us,
            instance: None,
            leaving: false,
        });
    }

    pub(in crate::state) fn remove(&mut self, key: DataPlaneKey) {
        if let Some(known) = self.known.get_mut(key.0 as usize) {
            *known = None;
        }
    }

    pub(in crate::state) fn by_session(&self, session: SessionId) -> Option<DataPlaneKey> {
        self.sessions.get(&session).copied()
    }

    /// A version greater than all before; versions order endpoint changes and caps within an epoch.
    pub(in crate::state) fn next_version(&mut self) -> u64 {
        self.next_version += 1;
        self.next_version
    }

    pub(in crate::state) fn attach(&mut self, key: DataPlaneKey, session: SessionId) -> Option<SessionId> {
        self.sessions.insert(session, key);
        let old = self.get_mut(key).and_then(|known| known.session.replace(session));
        if let Some(old) = old {
            self.sessions.remove(&old);
        }
        old
    }

    pub(in crate::state) fn detach(&mut self, session: SessionId) -> Option<DataPlaneKey> {
        let key = self.sessions.remove(&session)?;
        self.get_mut(key)?.session = None;
        Some(key)
    }
}
