//! The unsent report about one function: demand, held slots, failed sandboxes.
//!
//! It is kept with the state it describes and read when a message is written, so each message has the newest state and
//! at most one entry per sandbox.

use std::collections::BTreeMap;

use model::{FunctionId, SandboxId};

use crate::reports::{ReportMessage, SlotsAck};

/// Acknowledgements and failures per message, so that it stays below its size bound.
const MAX_ACKS: usize = 4096;
const MAX_FAILURES: usize = 256;

/// Reports that a sandbox is not used any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SandboxFailure {
    pub(crate) cause: String,
    /// The sandbox works, but may still run an abandoned invocation.
    pub(crate) retired: bool,
    /// Other invocations run there and may finish before the sandbox is deleted.
    pub(crate) drains: bool,
}

impl SandboxFailure {
    /// It does not accept connections.
    pub(crate) fn broken(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), retired: false, drains: false }
    }

    /// Its connections end without a response, which other invocations there may survive.
    pub(crate) fn breaking(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), retired: false, drains: true }
    }

    /// It did not end an abandoned invocation in time.
    pub(crate) fn retired(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), retired: true, drains: true }
    }
}

/// An unsent acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ack {
    slots: u32,
    /// Version of the newest delta about the sandbox on this stream; `None` before the first.
    version: Option<u64>,
    /// Time at which the acknowledged delta was read; `None` if that was acknowledged before, and this is only a return
    /// of slots.
    read_us: Option<u64>,
}

/// Urgency of an unsent report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FlushPriority {
    /// Nothing is unsent.
    #[default]
    None,
    /// Send with the next message: no invocation waits for it.
    Soon,
    /// Send at once: an invocation waits, or slots are wanted elsewhere.
    Now,
}

/// The unsent report about one function.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Priority of what is unsent.
    priority: FlushPriority,
    /// Priority with which the outbox was notified.
    queued: FlushPriority,
    demand: bool,
    /// Waiting invocations as last reported.
    reported_waiting: u32,
    acks: BTreeMap<SandboxId, Ack>,
    failures: BTreeMap<SandboxId, SandboxFailure>,
    /// Version of the newest cap applied, and the slots held at that time.
    cap_ack: Option<(u64, u32)>,
}

/// The load of a function at the time a message is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct FunctionLoad {
    pub(super) function: FunctionId,
    pub(super) waiting: u32,
    pub(super) running: u32,
    pub(super) held: u32,
}

impl Report {
    /// Updates the number of waiting invocations. Growth beyond the reported number is urgent. A decrease is reported
    /// when it has halved or reached zero, so that a fluctuating queue does not cost a message per invocation.
    pub(super) fn on_waiting_changed(&mut self, waiting: u32) {
        let reported = self.reported_waiting;
        if waiting > reported {
            self.require_demand_report();
        } else if waiting < reported && waiting <= reported / 2 {
            self.demand = true;
            self.raise_priority(FlushPriority::Soon);
        }
    }

    /// A sample reported the waiting invocations, so growth is measured from there.
    pub(super) fn sampled(&mut self, waiting: u32) {
        self.reported_waiting = waiting;
    }

    /// Reports the demand whatever was reported before.
    pub(super) fn require_demand_report(&mut self) {
        self.demand = true;
        self.raise_priority(FlushPriority::Now);
    }

    fn raise_priority(&mut self, priority: FlushPriority) {
        self.priority = self.priority.max(priority);
    }

    /// Acknowledges the delta of `version`, read at `read_us`, after which `slots` are held.
    pub(super) fn acknowledge(&mut self, sandbox: SandboxId, slots: u32, version: u64, read_us: u64) {
        self.acks.insert(sandbox, Ack { slots, version: Some(version), read_us: Some(read_us) });
        // Slots that were granted are in use here already; slots that were revoked are wanted elsewhere.
        self.raise_priority(if slots > 0 { FlushPriority::Soon } else { FlushPriority::Now });
    }

    /// Reports that `slots` of a sandbox are held now, as of delta `version`. If the control plane has sent a newer
    /// delta, that one wins and is acknowledged itself.
    pub(super) fn slots_returned(&mut self, sandbox: SandboxId, slots: u32, version: Option<u64>) {
        let ack = self.acks.entry(sandbox).or_insert(Ack { slots, version, read_us: None });
        ack.slots = slots;
        ack.version = ack.version.max(version);
        self.raise_priority(FlushPriority::Now);
    }

    /// Reports a sandbox that does not work; `running` invocations there have not ended.
    pub(super) fn failed(&mut self, sandbox: SandboxId, running: u32, failure: SandboxFailure) {
        // An unsent acknowledgement must not claim slots that are gone.
        if let Some(ack) = self.acks.get_mut(&sandbox) {
            ack.slots = running;
        }
        self.failures.insert(sandbox, failure);
        self.raise_priority(FlushPriority::Now);
    }

    /// Acknowledges the cap of `version`, applied as far as possible with `slots` left. Slots granted before the
    /// acknowledgement is sent are on top of the cap and do not violate it.
    pub(super) fn on_cap_applied(&mut self, version: u64, slots: u32) {
        self.cap_ack = Some((version, slots));
        self.raise_priority(FlushPriority::Now);
    }

    /// Discards everything unsent: a new stream starts with a full state.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The priority with which to notify the outbox, `None` if it was notified with it before. Marks it as notified.
    pub(super) fn mark_queued(&mut self) -> FlushPriority {
        // All functions share the outbox and its lock, so it is notified once for each report and not for each change.
        if self.priority <= self.queued {
            return FlushPriority::None;
        }
        self.queued = self.priority;
        self.priority
    }

    /// Moves the report into `message`, written at `now_us`. Returns true if there is more than one message holds.
    pub(super) fn write(&mut self, message: &mut ReportMessage, load: FunctionLoad, now_us: u64) -> bool {
        let FunctionLoad { function, waiting, running, held } = load;
        (self.priority, self.queued) = (FlushPriority::None, FlushPriority::None);
        if std::mem::take(&mut self.demand) {
            self.reported_waiting = waiting;
            message.push_demand(function, waiting, running);
        }
        // Failures come first: returned slots of a failed sandbox must not be granted again.
        while message.failures() < MAX_FAILURES
            && let Some((sandbox, failure)) = self.failures.pop_first()
        {
            message.push_failure(function, sandbox, failure);
        }
        while self.failures.is_empty()
            && message.acks() < MAX_ACKS
            && let Some((sandbox, ack)) = self.acks.pop_first()
        {
            let Ack { slots, version, read_us } = ack;
            let own_us = read_us.map(|read_us| now_us.saturating_sub(read_us));
            message.push_ack(function, sandbox, SlotsAck { slots, version, own_us });
        }
        if !(self.acks.is_empty() && self.failures.is_empty()) {
            return true;
        }
        // Last, because it states the slots left after the returns that were reported before it.
        if let Some((version, slots)) = self.cap_ack.take() {
            message.push_cap_ack(function, version, slots.min(held));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use api::wire;

    use super::*;

    const LOAD: FunctionLoad = FunctionLoad { function: FunctionId(7), waiting: 4, running: 2, held: 3 };

    fn sandbox(number: u64) -> SandboxId {
        SandboxId::new(model::Epoch(1), number).unwrap()
    }

    #[test]
    fn demand_is_reported_when_it_grows_halves_or_ends() {
        let mut report = Report::default();
        let reported = |report: &mut Report, waiting| {
            report.on_waiting_changed(waiting);
            let mut message = ReportMessage::default();
            report.write(&mut message, FunctionLoad { waiting, ..LOAD }, 0);
            !message.into_wire().unwrap_or_default().demand.is_empty()
        };
        let expected = [(1, true), (8, true), (7, false), (8, false), (5, false), (4, true), (3, false), (0, true)];
        for (waiting, expected) in expected {
            assert_eq!(reported(&mut report, waiting), expected, "waiting {waiting}");
        }
        assert!(!reported(&mut report, 0), "nothing changed");
    }

    #[test]
    fn growth_beyond_the_last_sample_is_reported() {
        let mut report = Report::default();
        let mut message = ReportMessage::default();
        report.on_waiting_changed(100);
        report.write(&mut message, FunctionLoad { waiting: 100, ..LOAD }, 0);
        report.on_waiting_changed(60);
        report.sampled(60);
        assert_eq!(report.mark_queued(), FlushPriority::None, "it was said with the sample");
        report.on_waiting_changed(61);
        assert_eq!(report.mark_queued(), FlushPriority::Now);
    }

    #[test]
    fn a_report_larger_than_a_message_is_split_and_the_cap_is_acknowledged_last() {
        let mut report = Report::default();
        for number in 1..=10_000 {
            report.acknowledge(sandbox(number), 0, 5, 100);
            report.failed(sandbox(number), 0, SandboxFailure::broken("x".repeat(10_000)));
        }
        report.on_cap_applied(9, 0);
        let (mut acks, mut failures, mut more) = (0, 0, true);
        while more {
            let mut message = ReportMessage::default();
            more = report.write(&mut message, LOAD, 0);
            let message = message.into_wire().unwrap();
            assert!(prost::Message::encoded_len(&message) < api::MAX_LATER_MESSAGE_BYTES);
            assert_eq!(message.limit_acks.is_empty(), more, "it speaks of what was acknowledged before");
            (acks, failures) = (acks + message.acks.len(), failures + message.failures.len());
        }
        assert_eq!((acks, failures), (10_000, 10_000));
    }

    #[test]
    fn only_growth_is_urgent_and_acknowledged_slots_are_not() {
        let mut report = Report::default();
        let mut priorities = Vec::new();
        let mut now = |report: &mut Report| {
            priorities.push(report.mark_queued());
            report.write(&mut ReportMessage::default(), LOAD, 0);
        };
        report.on_waiting_changed(5);
        now(&mut report);
        report.on_waiting_changed(1);
        now(&mut report);
        report.acknowledge(sandbox(1), 1, 5, 100);
        now(&mut report);
        report.acknowledge(sandbox(1), 0, 6, 100);
        now(&mut report);
        assert_eq!(priorities, [FlushPriority::Now, FlushPriority::Soon, FlushPriority::Soon, FlushPriority::Now]);
    }

    #[test]
    fn acknowledgements_merge_per_sandbox_with_the_newest_slots_and_the_greatest_version() {
        let mut report = Report::default();
        report.acknowledge(sandbox(1), 2, 5, 100);
        assert_eq!(report.mark_queued(), FlushPriority::Soon, "an acknowledgement");
        report.slots_returned(sandbox(1), 0, None);
        report.slots_returned(sandbox(2), 0, None);
        report.on_cap_applied(9, 2);
        assert_eq!(report.mark_queued(), FlushPriority::Now, "slots given back");
        assert_eq!(report.mark_queued(), FlushPriority::None, "the outbox knows by now");
        let mut message = ReportMessage::default();
        report.write(&mut message, LOAD, 130);
        let message = message.into_wire().unwrap();
        let acks: Vec<_> = message.acks.iter().map(|a| (a.sandbox, a.slots, a.version, a.own_us)).collect();
        assert_eq!(acks, [(sandbox(1).to_wire(), 0, 5, 30), (sandbox(2).to_wire(), 0, 0, 0)]);
        assert_eq!(
            message.limit_acks,
            [wire::LimitAck { function: 7, version: 9, slots: 2 }],
            "not 3: one was granted since"
        );
        assert_eq!(report.mark_queued(), FlushPriority::None, "all of it was written");
    }
}
