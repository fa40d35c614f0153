//! Messages to the control plane: functions with unsent reports, and unsent samples.
//!
//! Reports stay in the functions and are read when a message is written, so that they are the newest then. Without a
//! stream nothing is collected: the hello of the next stream states what is held, and demand is reported again.

use std::{collections::BTreeMap, sync::Arc};

use api::{Batch, Outbox, OutboxMessages};
use arc_swap::ArcSwapOption;
use model::{FunctionId, SandboxId};
use tokio_util::sync::CancellationToken;

mod message;

pub(crate) use message::{ReportMessage, SlotsAck};

use crate::function::{FlushPriority, Function, LoadSample};
use service::Clock;

/// Entries per message, some 100 KiB, so that no message delays the next by much.
const MAX_ENTRIES: usize = 4096;

/// The outbox of the current stream, if there is one.
#[derive(Default)]
pub(crate) struct Reports {
    outbox: ArcSwapOption<Outbox<ReportBatch>>,
    /// Cancelled at shutdown: no further stream is opened.
    closed: CancellationToken,
    /// Cancelled when the last stream has ended after that.
    ended: CancellationToken,
}

/// The unsent state of one stream.
pub(crate) struct ReportBatch {
    clock: Clock,
    hello: Option<ReportMessage>,
    news: BTreeMap<FunctionId, Arc<Function>>,
    samples: BTreeMap<FunctionId, (Arc<Function>, LoadSample)>,
    /// Acknowledgements of deltas and caps of unknown functions: nothing of them is held.
    orphan_acks: BTreeMap<SandboxId, (FunctionId, u64)>,
    orphan_caps: BTreeMap<FunctionId, u64>,
    /// Function changes in force up to this sequence, if that is unsent.
    applied: Option<u64>,
    applied_sent: Option<u64>,
    /// Time of the newest message, microseconds; before the first, that of the stream's start.
    written_us: u64,
}

/// The backlog of unsent reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Functions with unsent reports or samples, and unsent orphan acknowledgements.
    pub(crate) unsent: usize,
    /// Time since the newest message was written, microseconds.
    pub(crate) silent_us: u64,
}

impl Reports {
    /// Starts to collect for a new stream. Its first message waits for [`ReportBatch::send_hello`].
    pub(crate) fn begin(&self, clock: Clock) -> (Outbox<ReportBatch>, OutboxMessages<ReportBatch>) {
        let (outbox, messages) = Outbox::new(ReportBatch::new(clock));
        // Before the hello is written: a change in between is then in both of them rather than in neither.
        self.outbox.store(Some(Arc::new(outbox.clone())));
        (outbox, messages)
    }

    /// Ends the current stream, which was closed or abandoned. Returns false at shutdown, when no other one is wanted.
    pub(crate) fn end(&self) -> bool {
        if let Some(outbox) = self.outbox.swap(None) {
            // Entries that it would still take would be missing on the next stream.
            outbox.abort();
        }
        let last = self.closed.is_cancelled();
        if last {
            self.ended.cancel();
        }
        !last
    }

    /// Starts the shutdown: sends what is unsent, then closes the stream.
    pub(crate) fn close(&self) {
        self.closed.cancel();
        match &*self.outbox.load() {
            Some(outbox) => outbox.close(),
            // Without a stream there is nothing to send and so nothing to wait for.
            None => self.ended.cancel(),
        }
    }

    /// Waits until the control plane has read everything and ended the stream.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.outbox.load().is_some()
    }

    /// The backlog; `None` without a stream.
    pub(crate) fn backlog(&self, now_us: u64) -> Option<Backlog> {
        self.outbox.load().as_ref().map(|outbox| outbox.inspect(|batch| batch.backlog(now_us)))
    }

    /// Notifies the outbox that `function` has an unsent report.
    pub(crate) fn fetch(&self, function: &Arc<Function>, priority: FlushPriority) {
        let Some(outbox) = &*self.outbox.load() else { return };
        let add = |batch: &mut ReportBatch| batch.news.insert(function.id(), function.clone());
        match priority {
            FlushPriority::Now => outbox.update(add),
            FlushPriority::Soon | FlushPriority::None => outbox.update_deferred(add),
        };
    }

    /// Queues samples. At most one per function is unsent: it accumulates the spans.
    pub(crate) fn sample(&self, samples: Vec<(Arc<Function>, LoadSample)>) {
        if let Some(outbox) = &*self.outbox.load() {
            // Nobody waits for a sample, so it travels with the next urgent message.
            outbox.update_deferred(|batch| {
                for (function, sample) in samples {
                    batch.add_sample(function, sample);
                }
            });
        }
    }

    /// Acknowledges the delta of `version` about a sandbox of an unknown function: no slots are held.
    pub(crate) fn unknown(&self, function: FunctionId, sandbox: SandboxId, version: u64) {
        if let Some(outbox) = &*self.outbox.load() {
            // At once: until then the control plane counts the slots as held here.
            outbox.update(|batch| batch.orphan_acks.insert(sandbox, (function, version)));
        }
    }

    /// Acknowledges the cap of `version` of an unknown function: no slots are held.
    pub(crate) fn unknown_cap(&self, function: FunctionId, version: u64) {
        if let Some(outbox) = &*self.outbox.load() {
            outbox.update(|batch| batch.orphan_caps.insert(function, version));
        }
    }

    /// Reports that function changes up to `sequence` are in force.
    pub(crate) fn applied(&self, sequence: u64) {
        if let Some(outbox) = &*self.outbox.load() {
            outbox.update(|batch| batch.applied = batch.applied.max(Some(sequence)));
        }
    }
}

impl ReportBatch {
    fn new(clock: Clock) -> Self {
        Self {
            written_us: clock.now_us(),
            clock,
            hello: None,
            news: BTreeMap::new(),
            samples: BTreeMap::new(),
            orphan_acks: BTreeMap::new(),
            orphan_caps: BTreeMap::new(),
            applied: None,
            applied_sent: None,
        }
    }

    /// Sets the first message of the stream.
    pub(crate) fn send_hello(&mut self, hello: ReportMessage) {
        self.hello = Some(hello);
    }

    fn backlog(&self, now_us: u64) -> Backlog {
        let orphans = self.orphan_acks.len() + self.orphan_caps.len();
        let unsent = self.news.len() + self.samples.len() + orphans;
        Backlog { unsent, silent_us: now_us.saturating_sub(self.written_us) }
    }

    fn add_sample(&mut self, function: Arc<Function>, sample: LoadSample) {
        self.samples
            .entry(function.id())
            .and_modify(|(_, unsent)| {
                let newest = sample;
                *unsent = LoadSample {
                    span_ms: unsent.span_ms.saturating_add(newest.span_ms),
                    concurrency_us: unsent.concurrency_us.saturating_add(newest.concurrency_us),
                    requests: unsent.requests.saturating_add(newest.requests),
                    peak: unsent.peak.max(newest.peak),
                    cold: unsent.cold.saturating_add(newest.cold),
                    ..newest
                };
            })
            .or_insert((function, sample));
    }
}

impl Batch for ReportBatch {
    type Message = api::wire::FromDataPlane;

    fn take(&mut self) -> Option<Self::Message> {
        // The hello goes alone: until the peer accepts it, nothing else is of use.
        if let Some(hello) = self.hello.take() {
            return hello.into_wire();
        }
        let mut message = ReportMessage::default();
        let now_us = self.clock.now_us();
        while message.acks() < MAX_ENTRIES
            && let Some((sandbox, (function, version))) = self.orphan_acks.pop_first()
        {
            message.push_ack(function, sandbox, SlotsAck { slots: 0, version: Some(version), own_us: None });
        }
        while message.cap_acks() < MAX_ENTRIES
            && let Some((function, version)) = self.orphan_caps.pop_first()
        {
            message.push_cap_ack(function, version, 0);
        }
        while message.len() < MAX_ENTRIES
            && let Some((id, function)) = self.news.pop_first()
        {
            // What exceeds one message follows in the next one.
            if function.write_report(&mut message, now_us) {
                self.news.insert(id, function);
                break;
            }
        }
        while message.samples() < MAX_ENTRIES
            && let Some((id, (function, sample))) = self.samples.pop_first()
        {
            // Newer demand than the sample's may have been sent before it.
            message.push_sample(id, function.write_sample(sample));
        }
        if self.applied > self.applied_sent {
            self.applied_sent = self.applied;
            message.set_applied(self.applied.unwrap_or(0));
        }
        let message = message.into_wire()?;
        self.written_us = now_us;
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use api::wire;
    use service::OsNetwork;
    use tokio::sync::oneshot;

    use super::*;
    use crate::{Config, function::FunctionConfig, plane::Plane, table::Registration};

    /// Function 1 of a data plane without a stream.
    fn function() -> Arc<Function> {
        let policy = &policy::balance::policies()[0];
        let plane = Arc::new(Plane::new(Config::default(), policy, Arc::new(OsNetwork), 1));
        let config = FunctionConfig {
            timeout_us: 0,
            queue_deadline_us: 0,
            queue_limit: 0,
            protocol: model::Protocol::Http1,
            concurrency: 1,
            retry_any: false,
            connection_idle_us: 0,
        };
        let (id, name) = (FunctionId(1), "f".parse().unwrap());
        plane.functions.configure(&plane, Registration { id, name, config, balance: policy });
        plane.functions.by_id(FunctionId(1)).unwrap()
    }

    #[test]
    fn unsent_samples_of_one_function_become_one() {
        let mut batch = ReportBatch::new(Clock::start());
        batch.applied = Some(3);
        let function = function();
        function.change(|state, now_us, effects| {
            let (arrival, _) = state.arrive(now_us, effects);
            state.join(arrival, oneshot::channel().0, now_us, effects);
        });
        let sample =
            LoadSample { span_ms: 1000, concurrency_us: 5, requests: 2, waiting: 4, running: 1, peak: 7, cold: 1 };
        batch.add_sample(function.clone(), sample);
        batch.add_sample(function.clone(), LoadSample { waiting: 0, running: 2, peak: 3, ..sample });
        assert_eq!(batch.backlog(0).unsent, 1);
        let message = batch.take().unwrap();
        let expected = wire::Sample {
            function: 1,
            span_ms: 2000,
            concurrency_us: 10,
            requests: 4,
            waiting: 1,
            running: 0,
            peak: 7,
            cold: 2,
        };
        assert_eq!((message.samples, message.applied), (vec![expected], 3), "it says how many wait now");
        assert_eq!((batch.take(), batch.backlog(0).unsent), (None, 0), "all of it was sent");
    }
}
