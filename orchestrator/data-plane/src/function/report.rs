//! What the control plane has not been told yet about one function: demand, slots held, failed sandboxes.
//!
//! It is kept beside the state it describes and read when a message is written, so what is sent is always the newest
//! and never more than one entry per sandbox.

use std::collections::BTreeMap;

use api::wire;
use model::SandboxId;

/// Acknowledgements and failures of one message: with its other entries they stay below what a message may have.
const MAX_ACKS: usize = 4096;
const MAX_FAILURES: usize = 256;

/// In what way a sandbox does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SandboxFailure {
    pub(crate) cause: String,
    /// It worked, but may still run an invocation whose client has left.
    pub(crate) retired: bool,
    /// Other invocations run there, which are to end by themselves before it is deleted.
    pub(crate) drains: bool,
}

impl SandboxFailure {
    /// It does not take connections.
    pub(crate) fn broken(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), retired: false, drains: false }
    }

    /// Its connections end without a response, which others that run there may survive.
    pub(crate) fn breaking(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), retired: false, drains: true }
    }

    /// It does not end what nobody waits for.
    pub(crate) fn retired(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), retired: true, drains: true }
    }
}

/// An acknowledgement that waits to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ack {
    slots: u32,
    version: u64,
    /// When the delta it answers was read; `None` when slots were given back since.
    read_us: Option<u64>,
}

/// How soon the control plane is to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FlushPriority {
    /// There is nothing to tell.
    #[default]
    None,
    /// With the next message: nobody waits for it.
    Soon,
    /// At once: somebody waits, or is sent to the wrong place.
    Now,
}

/// Unsent news of one function.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Of what is unsent.
    priority: FlushPriority,
    /// As the outbox knows it.
    queued: FlushPriority,
    demand: bool,
    /// The waiting invocations that the control plane was told of last.
    reported_waiting: u32,
    acks: BTreeMap<SandboxId, Ack>,
    failures: BTreeMap<SandboxId, SandboxFailure>,
    /// The newest limit carried out, and the slots that were held then.
    cap_ack: Option<(u64, u32)>,
}

/// The levels that go into a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct FunctionLoad {
    pub(super) function: u64,
    pub(super) waiting: u32,
    pub(super) running: u32,
    pub(super) held: u32,
}

impl Report {
    /// Waiting changed: growth beyond what was told matters at once; a shrinking crowd matters when it has halved or is
    /// gone, and not that much, so that a queue that breathes costs no message per invocation.
    pub(super) fn on_waiting_changed(&mut self, waiting: u32) {
        let reported = self.reported_waiting;
        if waiting > reported {
            self.require_demand_report();
        } else if waiting < reported && waiting <= reported / 2 {
            self.demand = true;
            self.raise_priority(FlushPriority::Soon);
        }
    }

    /// A sample says how many wait, so growth beyond that is news.
    pub(super) fn sampled(&mut self, waiting: u32) {
        self.reported_waiting = waiting;
    }

    /// The demand is to be told, whatever was told before.
    pub(super) fn require_demand_report(&mut self) {
        self.demand = true;
        self.raise_priority(FlushPriority::Now);
    }

    fn raise_priority(&mut self, priority: FlushPriority) {
        self.priority = self.priority.max(priority);
    }

    /// A delta of `version`, read at `read_us`, left us with `slots` of a sandbox.
    pub(super) fn acknowledge(&mut self, sandbox: SandboxId, slots: u32, version: u64, read_us: u64) {
        self.acks.insert(sandbox, Ack { slots, version, read_us: Some(read_us) });
        // Slots that came are used here already; slots that go are wanted elsewhere.
        self.raise_priority(if slots > 0 { FlushPriority::Soon } else { FlushPriority::Now });
    }

    /// We now hold `slots` of a sandbox, as far as deltas up to `version` say: if the control plane has sent a newer one, that
    /// counts, and is answered.
    pub(super) fn slots_returned(&mut self, sandbox: SandboxId, slots: u32, version: u64) {
        let ack = self.acks.entry(sandbox).or_insert(Ack { slots, version, read_us: None });
        ack.slots = slots;
        ack.version = ack.version.max(version);
        self.raise_priority(FlushPriority::Now);
    }

    /// A sandbox does not work; `running` invocations have not ended there.
    pub(super) fn failed(&mut self, sandbox: SandboxId, running: u32, failure: SandboxFailure) {
        if let Some(ack) = self.acks.get_mut(&sandbox) {
            ack.slots = running;
        }
        self.failures.insert(sandbox, failure);
        self.raise_priority(FlushPriority::Now);
    }

    /// The limit of `version` is carried out as far as possible, which leaves so many slots. What is granted before that is
    /// said is granted beside the limit, and does not make it unmet.
    pub(super) fn on_cap_applied(&mut self, version: u64, slots: u32) {
        self.cap_ack = Some((version, slots));
        self.raise_priority(FlushPriority::Now);
    }

    /// Forgets everything unsent: a new stream begins.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// How soon the outbox is to fetch what there is, where it does not know that yet; it does from now on.
    pub(super) fn mark_queued(&mut self) -> FlushPriority {
        if self.priority <= self.queued {
            return FlushPriority::None;
        }
        self.queued = self.priority;
        self.priority
    }

    /// Moves what is unsent into `message`, written at `now_us`. True when there is more than one message takes.
    pub(super) fn write(&mut self, message: &mut wire::FromDataPlane, load: FunctionLoad, now_us: u64) -> bool {
        let FunctionLoad { function, waiting, running, held } = load;
        (self.priority, self.queued) = (FlushPriority::None, FlushPriority::None);
        if std::mem::take(&mut self.demand) {
            self.reported_waiting = waiting;
            message.demand.push(wire::Demand { function, waiting, running });
        }
        // Failures first: slots of a failed sandbox that are given back must not be granted anew.
        while message.failures.len() < MAX_FAILURES
            && let Some((sandbox, SandboxFailure { cause, retired, drains })) = self.failures.pop_first()
        {
            let (sandbox, cause) = (sandbox.to_wire(), api::shorten(cause));
            message.failures.push(wire::EndpointFailure { sandbox, function, cause, retired, drains });
        }
        while self.failures.is_empty()
            && message.acks.len() < MAX_ACKS
            && let Some((sandbox, ack)) = self.acks.pop_first()
        {
            message.acks.push(wire::EndpointAck {
                sandbox: sandbox.to_wire(),
                function,
                slots: ack.slots,
                version: ack.version,
                own_us: ack.read_us.map_or(0, |read_us| now_us.saturating_sub(read_us)),
            });
        }
        if !(self.acks.is_empty() && self.failures.is_empty()) {
            return true;
        }
        if let Some((version, slots)) = self.cap_ack.take() {
            message.limit_acks.push(wire::LimitAck { function, version, slots: slots.min(held) });
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: FunctionLoad = FunctionLoad { function: 7, waiting: 4, running: 2, held: 3 };

    fn sandbox(number: u64) -> SandboxId {
        SandboxId::new(model::Epoch(1), number).unwrap()
    }

    #[test]
    fn demand_is_reported_when_it_grows_halves_or_ends() {
        let mut report = Report::default();
        let reported = |report: &mut Report, waiting| {
            report.on_waiting_changed(waiting);
            let mut message = wire::FromDataPlane::default();
            report.write(&mut message, FunctionLoad { waiting, ..LOAD }, 0);
            !message.demand.is_empty()
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
        let mut message = wire::FromDataPlane::default();
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
            let mut message = wire::FromDataPlane::default();
            more = report.write(&mut message, LOAD, 0);
            assert!(prost::Message::encoded_len(&message) < api::MESSAGE_BYTES);
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
            report.write(&mut wire::FromDataPlane::default(), LOAD, 0);
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
        report.slots_returned(sandbox(1), 0, 0);
        report.slots_returned(sandbox(2), 0, 0);
        report.on_cap_applied(9, 2);
        assert_eq!(report.mark_queued(), FlushPriority::Now, "slots given back");
        assert_eq!(report.mark_queued(), FlushPriority::None, "the outbox knows by now");
        let mut message = wire::FromDataPlane::default();
        report.write(&mut message, LOAD, 130);
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
