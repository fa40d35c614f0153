//! The replay of a schedule: one thread paces and sends, a few I/O threads carry connections, and the ledger records everything.

pub(crate) mod dispatch;
pub(crate) mod drive;
pub(crate) mod io_thread;
pub(crate) mod pacer;
pub(crate) mod stop;

use std::sync::Arc;

use trace::{Due, Schedule};

use crate::{
    http::{
        dial::Dialler,
        request::{Requests, position},
        target::Target,
    },
    machine::clock::Clock,
    measure::{ledger::Ledger, reading::Reading},
};

/// Everything that the threads of one replay share; nothing in it changes but what happened.
#[derive(Debug)]
pub(crate) struct Replay {
    /// The schedule.
    pub(crate) schedule: Schedule,
    /// Its requests, prepared before the start.
    pub(crate) requests: Requests,
    /// The system and its addresses.
    pub(crate) target: Target,
    /// Opens its connections.
    pub(crate) dialler: Dialler,
    /// Nanoseconds since the start.
    pub(crate) clock: Clock,
    /// The sending times and ends of invocations.
    pub(crate) ledger: Ledger,
    /// The delays with which the threads wake that read responses.
    pub(crate) reading: Arc<Reading>,
}

/// Time between preparing a replay and its start, in which its threads are started.
const LEAD_NS: u64 = 50_000_000;

impl Replay {
    /// Prepares a replay that starts in 50 ms.
    ///
    /// # Errors
    /// If the name of a function cannot be part of a request.
    pub(crate) fn new(schedule: Schedule, target: Target) -> anyhow::Result<Self> {
        let names = schedule.functions.iter().map(|function| function.name.as_str());
        let requests = Requests::new(&target, names)?;
        let ledger = Ledger::new(schedule.invocations.len());
        let dialler = Dialler::default();
        let (clock, reading) = (Clock::starting_in(LEAD_NS), Arc::default());
        Ok(Self { schedule, requests, target, dialler, clock, ledger, reading })
    }

    /// One invocation, if the schedule has that many.
    pub(crate) fn due(&self, index: usize) -> Option<&Due> {
        self.schedule.invocations.get(index)
    }

    /// Name of the function of an invocation.
    pub(crate) fn function_of(&self, index: usize) -> &str {
        let function = self.due(index).and_then(|due| self.schedule.functions.get(position(due)));
        function.map_or("", |function| function.name.as_str())
    }

    /// The address of an invocation, as a position in the target's addresses.
    pub(crate) fn address_of(&self, index: usize) -> usize {
        self.target.address_of(index, self.function_of(index))
    }

    /// The address of an invocation, as its row says it.
    pub(crate) fn address_text(&self, index: usize) -> Option<String> {
        self.target.addresses.get(self.address_of(index)).map(ToString::to_string)
    }

    /// Deadline of an invocation, in nanoseconds from the start.
    pub(crate) fn deadline_ns(&self, index: usize) -> u64 {
        let sent_ns = self.ledger.sent_ns(index).unwrap_or_else(|| self.clock.now_ns());
        sent_ns.saturating_add(self.target.timeout_ns())
    }
}
