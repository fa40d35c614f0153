//! Connected workers.

use std::{net::SocketAddr, sync::Arc};

use policy::placement::NodeKey;

use super::super::{Map, SessionId};

/// A connected worker.
#[derive(Debug)]
pub(in crate::state) struct Worker {
    pub(in crate::state) name: Arc<str>,
    /// Its process.
    pub(in crate::state) instance: Option<u64>,
    /// Its runtime: `process` or `hollow`.
    pub(in crate::state) runtime: Arc<str>,
    /// Address of its admin port.
    pub(in crate::state) admin: Option<SocketAddr>,
    pub(in crate::state) nodes: Vec<NodeKey>,
    /// Time of its last heartbeat, in microseconds.
    pub(in crate::state) last_heartbeat_us: u64,
}

/// Connected workers, by session and by name.
#[derive(Default)]
pub(in crate::state) struct Workers {
    by_session: Map<SessionId, Worker>,
    by_name: Map<Arc<str>, SessionId>,
}

impl Workers {
    pub(in crate::state) fn get(&self, session: SessionId) -> Option<&Worker> {
        self.by_session.get(&session)
    }

    pub(in crate::state) fn iter(&self) -> impl Iterator<Item = (SessionId, &Worker)> {
        self.by_session.iter().map(|(session, worker)| (*session, worker))
    }

    pub(in crate::state) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        self.by_session.values_mut()
    }

    pub(in crate::state) fn get_mut(&mut self, session: SessionId) -> Option<&mut Worker> {
        self.by_session.get_mut(&session)
    }

    /// Adds a worker whose name no connected one has.
    pub(in crate::state) fn attach(&mut self, session: SessionId, worker: Worker) {
        let before = self.by_name.insert(worker.name.clone(), session);
        debug_assert!(before.is_none(), "a name is one worker's");
        self.by_session.insert(session, worker);
    }

    /// Removes a worker, if it is connected by that session.
    pub(in crate::state) fn detach(&mut self, session: SessionId) -> Option<Worker> {
        let worker = self.by_session.remove(&session)?;
        self.by_name.remove(&worker.name);
        Some(worker)
    }

    /// The connected worker of that name.
    pub(in crate::state) fn by_name(&self, name: &str) -> Option<(SessionId, &Worker)> {
        let session = *self.by_name.get(name)?;
        Some((session, self.get(session)?))
    }

    pub(in crate::state) fn len(&self) -> usize {
        self.by_session.len()
    }
}
