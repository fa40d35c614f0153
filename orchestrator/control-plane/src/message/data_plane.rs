//! Messages of data planes.

use std::net::SocketAddr;

use api::{shorten, wire};
use model::{DataPlaneId, Epoch, FunctionId, SandboxId};
use policy::autoscale::Sample;

use super::{MAX_TIME_US, check_name, non_empty, non_zero};
use crate::registry::Knowledge;

/// Most invocations of one function that wait, run or arrive at one data plane in the time of a sample.
const MAX_INVOCATIONS: u32 = 1 << 20;

/// The first message of a data plane.
#[derive(Debug)]
pub(crate) struct DataPlaneHello {
    pub(crate) id: DataPlaneId,
    /// Random number of its process; `None` from older programs.
    pub(crate) instance: Option<u64>,
    /// Address on which it accepts invocations.
    pub(crate) address: Option<SocketAddr>,
    /// The cluster it belongs to; `None` before its first handshake.
    pub(crate) cluster: Option<String>,
    /// The newest epoch it was in, and the greatest log index that it received.
    pub(crate) known: Knowledge,
    pub(crate) held: Vec<HeldGrant>,
}

/// Slots that a data plane claims to hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldGrant {
    pub(crate) function: FunctionId,
    pub(crate) sandbox: SandboxId,
    pub(crate) slots: u32,
}

/// A later message of a data plane.
#[derive(Debug, Default)]
pub(crate) struct DataPlaneMessage {
    /// Time at which it was read, in microseconds of the control plane's clock.
    pub(crate) read_us: u64,
    pub(crate) demand: Vec<Demand>,
    pub(crate) samples: Vec<FunctionSample>,
    pub(crate) acks: Vec<GrantAck>,
    pub(crate) failures: Vec<EndpointFailure>,
    pub(crate) cap_acks: Vec<CapAck>,
    /// The greatest function change that it has applied, if that is new.
    pub(crate) applied: Option<u64>,
}

/// Invocations of one function at one data plane, as of when the message was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    pub(crate) function: FunctionId,
    pub(crate) waiting: u32,
    pub(crate) running: u32,
}

/// Measurements of one function at one data plane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FunctionSample {
    pub(crate) function: FunctionId,
    /// Cold starts whose invocations got their response within the sample's time.
    pub(crate) cold: u32,
    pub(crate) sample: Sample,
}

/// Slots of a sandbox that a data plane holds after it has read a change of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GrantAck {
    pub(crate) sandbox: SandboxId,
    /// 0: the sandbox is not used from there any more.
    pub(crate) slots: u32,
    /// Of the newest change of the sandbox that it has read; `None` before the first.
    pub(crate) version: Option<u64>,
    /// From reading that change to writing this, in microseconds.
    pub(crate) own_us: u64,
    /// Time at which the change was passed to the connection, in microseconds of the control plane's clock. Filled in
    /// by the stream, which alone knows it, for the first acknowledgement of a change.
    pub(crate) published_us: Option<u64>,
}

/// A sandbox that does not work.
#[derive(Debug)]
pub(crate) struct EndpointFailure {
    pub(crate) sandbox: SandboxId,
    pub(crate) function: FunctionId,
    pub(crate) cause: String,
    /// It worked, but did not end an invocation in time after the client had left.
    pub(crate) is_retired: bool,
    /// Other invocations run there: it is to be deleted once they have ended.
    pub(crate) drains: bool,
}

/// A grant cap of this version is obeyed as far as that is possible now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CapAck {
    pub(crate) function: FunctionId,
    pub(crate) version: Option<u64>,
    /// Slots of the function that it holds after that.
    pub(crate) slots: u32,
}

impl DataPlaneHello {
    /// # Errors
    /// The reason why no data plane can have sent this.
    pub(crate) fn check(hello: wire::DataPlaneHello) -> Result<Self, String> {
        check_name("data plane", &hello.data_plane)?;
        Ok(Self {
            id: DataPlaneId(hello.data_plane),
            instance: non_zero(hello.instance),
            address: hello.address.parse().ok(),
            cluster: non_empty(hello.cluster),
            known: Knowledge { epoch: Epoch(hello.epoch), nonce: hello.epoch_nonce, index: hello.known },
            held: hello.held.iter().map(HeldGrant::of).collect(),
        })
    }

    /// Returns true if this process was never connected before.
    pub(crate) fn is_new_process(&self) -> bool {
        self.known.epoch == Epoch::default()
    }
}

impl HeldGrant {
    fn of(held: &wire::HeldGrant) -> Self {
        let wire::HeldGrant { function, sandbox, slots } = *held;
        Self { function: FunctionId(function), sandbox: SandboxId::from_wire(sandbox), slots }
    }
}

impl DataPlaneMessage {
    /// Converts a message that was read at `read_us`, in microseconds of the control plane's clock.
    pub(crate) fn of(message: wire::FromDataPlane, read_us: u64) -> Self {
        Self {
            read_us,
            demand: message.demand.iter().map(Demand::of).collect(),
            samples: message.samples.iter().map(FunctionSample::of).collect(),
            acks: message.acks.iter().map(GrantAck::of).collect(),
            failures: message.failures.into_iter().map(EndpointFailure::of).collect(),
            cap_acks: message.limit_acks.iter().map(CapAck::of).collect(),
            applied: non_zero(message.applied),
        }
    }
}

impl GrantAck {
    fn of(ack: &wire::EndpointAck) -> Self {
        Self {
            sandbox: SandboxId::from_wire(ack.sandbox),
            slots: ack.slots,
            version: non_zero(ack.version),
            own_us: ack.own_us.min(MAX_TIME_US),
            published_us: None,
        }
    }
}

impl Demand {
    fn of(demand: &wire::Demand) -> Self {
        let wire::Demand { function, waiting, running } = *demand;
        let [waiting, running] = [waiting, running].map(|count| count.min(MAX_INVOCATIONS));
        Self { function: FunctionId(function), waiting, running }
    }
}

impl FunctionSample {
    fn of(sample: &wire::Sample) -> Self {
        let count = |count: u32| count.min(MAX_INVOCATIONS);
        let span_us = u64::from(sample.span_ms).saturating_mul(1000).min(MAX_TIME_US);
        let max_concurrency_us = span_us.saturating_mul(u64::from(2 * MAX_INVOCATIONS));
        Self {
            function: FunctionId(sample.function),
            cold: count(sample.cold),
            sample: Sample {
                span_ms: u32::try_from(span_us / 1000).unwrap_or(u32::MAX),
                concurrency_us: sample.concurrency_us.min(max_concurrency_us),
                requests: count(sample.requests),
                waiting: count(sample.waiting),
                running: count(sample.running),
                peak: count(sample.peak),
            },
        }
    }
}

impl EndpointFailure {
    fn of(failure: wire::EndpointFailure) -> Self {
        let wire::EndpointFailure { sandbox, function, cause, retired, drains } = failure;
        Self {
            sandbox: SandboxId::from_wire(sandbox),
            function: FunctionId(function),
            cause: shorten(cause),
            is_retired: retired,
            drains,
        }
    }
}

impl CapAck {
    fn of(ack: &wire::LimitAck) -> Self {
        let wire::LimitAck { function, version, slots } = *ack;
        Self { function: FunctionId(function), version: non_zero(version), slots }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: wire::FromDataPlane) -> DataPlaneMessage {
        DataPlaneMessage::of(message, 1)
    }

    #[test]
    fn sums_over_all_data_planes_stay_in_their_types() {
        let most = wire::Sample {
            function: 1,
            span_ms: u32::MAX,
            concurrency_us: u64::MAX,
            requests: u32::MAX,
            waiting: u32::MAX,
            running: u32::MAX,
            peak: u32::MAX,
            cold: u32::MAX,
        };
        let demand = wire::Demand { function: 1, waiting: u32::MAX, running: u32::MAX };
        let ack = wire::EndpointAck { own_us: u64::MAX, ..Default::default() };
        let failure = wire::EndpointFailure { cause: "x".repeat(70_000), ..Default::default() };
        let message = read(wire::FromDataPlane {
            demand: vec![demand],
            samples: vec![most],
            acks: vec![ack],
            failures: vec![failure],
            ..Default::default()
        });
        let (demand, sample) = (message.demand[0], message.samples[0].sample);
        assert!((demand.waiting + demand.running).checked_mul(1000).is_some(), "of a thousand data planes");
        assert!(sample.concurrency_us.checked_mul(100).is_some() && sample.span_ms < u32::MAX, "{sample:?}");
        assert!(message.acks[0].own_us == MAX_TIME_US && message.failures[0].cause.len() <= api::MAX_TEXT_BYTES);
        assert_eq!((message.acks[0].version, message.applied), (None, None), "before the first");
        let real = wire::Sample { span_ms: 1000, concurrency_us: 35_000_000, requests: 9, ..Default::default() };
        let message = read(wire::FromDataPlane { samples: vec![real], ..Default::default() });
        let Sample { span_ms, concurrency_us, requests, .. } = message.samples[0].sample;
        assert_eq!((span_ms, concurrency_us, requests), (1000, 35_000_000, 9), "what can be is left alone");
    }

    #[test]
    fn names_are_checked() {
        let hello = |name: &str| wire::DataPlaneHello { data_plane: name.to_owned(), ..Default::default() };
        assert!(DataPlaneHello::check(hello("d0")).unwrap().is_new_process());
        for name in ["", "a b", "a\u{1b}[2J", "../x", &"x".repeat(254)] {
            assert!(DataPlaneHello::check(hello(name)).is_err(), "{name:?}");
        }
    }
}
