//! The part of the state that every handler may read.

use super::{Settings, Term, effects::Welcome};
use crate::{metrics::Metrics, now::Now, registry::Registry};

/// The moment of the input at hand, and what no handler changes.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) now: Now,
    pub(super) settings: &'a Settings,
    pub(super) term: Term,
    /// Changed by durable commands alone.
    pub(super) registry: &'a Registry,
    pub(super) metrics: &'a Metrics,
}

impl Context<'_> {
    /// The first message to a peer, with the port for heartbeats if it may use one.
    pub(super) fn welcome(&self, heartbeat_port: Option<u16>) -> Welcome {
        Welcome { term: self.term, heartbeat_port }
    }
}
