//! The reports that wait to be sent to the control plane: the newest event of each sandbox. Converted to the wire here,
//! once.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use api::{Batch, Room, shorten, wire};
use model::SandboxId;
use tokio::time::Instant;

use crate::hello::Hello;

/// A change of a sandbox that the control plane must know.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// It takes connections.
    Ready(Ready),
    /// Its creation waits: for other creations, or for this cause.
    Queued(Option<&'static str>),
    /// Its creation waits no longer.
    Started,
    /// It never became ready, and nothing of it is left.
    Failed { message: String, permanent: bool },
    /// Nothing of it is left.
    Ended { reason: EndReason, message: String },
}

/// The cause of the end of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// It was deleted while it was ready.
    Deleted,
    /// It was deleted before it was ready.
    Cancelled,
    /// It ended by itself.
    Exited,
    /// Its worker shut down or lost its name.
    Stopped,
}

/// The address and the timings of a sandbox that became ready.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ready {
    pub(crate) address: SocketAddr,
    /// The time at which the command was read.
    pub(crate) received: Instant,
    /// From the start of the creation to a started sandbox.
    pub(crate) create: Duration,
    /// From there to the first successful probe.
    pub(crate) ready: Duration,
    /// The parts of `create`, named by the runtime.
    pub(crate) steps: Vec<(&'static str, Duration)>,
}

/// The unsent messages of one stream.
#[derive(Debug, Default)]
pub(crate) struct Events {
    hello: Option<Hello>,
    /// The worker shuts down and has not said so yet.
    leaving: bool,
    newest: BTreeMap<SandboxId, Event>,
}

impl Events {
    /// The messages of a new stream, which begins with `hello`.
    pub(crate) fn new(hello: Hello) -> Self {
        Self { hello: Some(hello), ..Self::default() }
    }

    /// Announces that the worker shuts down.
    pub(crate) fn leave(&mut self) {
        self.leaving = true;
    }

    /// Adds an event, in place of an older one of the sandbox that was not sent yet.
    pub(crate) fn add(&mut self, sandbox: SandboxId, event: Event) {
        // An older event has no use any more: what has ended, for example, is not ready.
        self.newest.insert(sandbox, event);
    }
}

impl Batch for Events {
    type Message = wire::FromWorker;

    fn take(&mut self) -> Option<wire::FromWorker> {
        if let Some(hello) = self.hello.take() {
            // Alone, because the receiver must identify the sender before it can interpret events.
            return Some(wire::FromWorker { hello: Some(hello.into()), ..Default::default() });
        }
        if self.newest.is_empty() && !self.leaving {
            return None;
        }
        // When the message is written, so that the wait for it counts as this worker's own time.
        let now = Instant::now();
        let (mut events, mut room) = (Vec::new(), Room::default());
        while room.is_left()
            && let Some((sandbox, event)) = self.newest.pop_first()
        {
            let event = Some(to_wire(event, now));
            events.push(room.fill(wire::SandboxEvent { sandbox: sandbox.to_wire(), event }));
        }
        // With the first message: a control plane that knows of the shutdown replaces sandboxes on other workers.
        Some(wire::FromWorker { hello: None, events, leaving: std::mem::take(&mut self.leaving) })
    }
}

fn to_wire(event: Event, now: Instant) -> wire::sandbox_event::Event {
    use wire::sandbox_event::Event as Wire;
    let progress = |queued, cause: Option<&str>| {
        Wire::Progress(wire::CreationProgress { queued, cause: cause.unwrap_or_default().to_owned() })
    };
    match event {
        Event::Ready(ready) => Wire::Ready(wire::SandboxReady {
            address: ready.address.to_string(),
            create_us: micros(ready.create),
            ready_us: micros(ready.ready),
            own_us: micros(now.duration_since(ready.received)),
            steps: ready.steps.iter().map(|(name, took)| step(name, *took)).collect(),
        }),
        Event::Queued(cause) => progress(true, cause),
        Event::Started => progress(false, None),
        Event::Failed { message, permanent } => {
            Wire::Failed(wire::CreationFailed { message: shorten(message), permanent })
        }
        Event::Ended { reason, message } => {
            Wire::Ended(wire::SandboxEnded { reason: reason.to_wire().into(), message: shorten(message) })
        }
    }
}

impl EndReason {
    fn to_wire(self) -> wire::sandbox_ended::Reason {
        use wire::sandbox_ended::Reason;
        match self {
            Self::Deleted => Reason::Deleted,
            Self::Cancelled => Reason::Cancelled,
            Self::Exited => Reason::Exited,
            Self::Stopped => Reason::Stopped,
        }
    }
}

fn step(name: &str, took: Duration) -> wire::Step {
    wire::Step { name: name.to_owned(), us: micros(took) }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use model::Epoch;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_newest_event_of_a_sandbox_is_sent_once_after_the_hello() {
        let sandbox = SandboxId::new(Epoch(1), 7).unwrap();
        let ready = Ready {
            address: "127.1.0.0:80".parse().unwrap(),
            received: Instant::now(),
            create: Duration::from_micros(5),
            ready: Duration::ZERO,
            steps: vec![("delay", Duration::from_micros(5))],
        };
        let mut events = Events::new(Hello::example());
        events.add(sandbox, Event::Ready(ready));
        tokio::time::advance(Duration::from_millis(1)).await;
        let first = events.take().unwrap();
        assert!(first.hello.is_some() && first.events.is_empty(), "the hello goes alone: {first:?}");
        let second = events.take().unwrap();
        let Some(wire::sandbox_event::Event::Ready(sent)) = &second.events[0].event else { panic!("{second:?}") };
        assert_eq!((sent.create_us, sent.own_us, sent.steps.len()), (5, 1000, 1));
        assert_eq!(events.take(), None);

        events.add(sandbox, Event::Failed { message: String::new(), permanent: false });
        events.add(sandbox, Event::Ended { reason: EndReason::Exited, message: "status 1".to_owned() });
        events.leave();
        let third = events.take().unwrap();
        assert!(third.hello.is_none() && third.events.len() == 1 && third.leaving, "{third:?}");
        assert!(
            matches!(&third.events[0].event, Some(wire::sandbox_event::Event::Ended(ended)) if ended.message == "status 1")
        );
        assert_eq!(events.take(), None, "everything was sent");
    }

    #[test]
    fn a_backlog_is_sent_in_messages_of_bounded_size() {
        let mut events = Events::default();
        for sequence in 0..10_000 {
            let sandbox = SandboxId::new(Epoch(1), sequence).unwrap();
            events.add(sandbox, Event::Failed { message: "x".repeat(70_000), permanent: false });
        }
        let messages: Vec<_> = std::iter::from_fn(|| events.take()).collect();
        assert_eq!(messages.iter().map(|message| message.events.len()).sum::<usize>(), 10_000);
        let largest = messages.iter().map(prost::Message::encoded_len).max().unwrap();
        assert!(
            messages.len() < 30 && largest <= api::MAX_LATER_MESSAGE_BYTES,
            "{} messages, {largest}",
            messages.len()
        );
    }
}
