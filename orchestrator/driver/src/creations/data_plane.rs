//! A simulated data plane on the real stream: reports demand, uses the sandboxes granted to it, samples its load once a
//! second, and returns revoked grants. Invocations take no time.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context;
use api::{Batch, Outbox, PROTOCOL_VERSION, wire};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use tonic::Streaming;

use super::{observations::Observations, options::Options, worker::client};

/// As in real data planes, which also sample the functions in this number of slices of the period.
const SAMPLE_PERIOD: Duration = Duration::from_secs(1);
const SLICES: u32 = 20;

/// The unsent reports.
#[derive(Default)]
struct Reports {
    message: wire::FromDataPlane,
    /// The newest demand of each function: waiting and running.
    demand: BTreeMap<u64, (u32, u32)>,
    /// Acknowledgements, with the times at which their deltas were read.
    acks: Vec<(wire::EndpointAck, Option<Instant>)>,
}

impl Batch for Reports {
    type Message = wire::FromDataPlane;

    fn take(&mut self) -> Option<wire::FromDataPlane> {
        let mut message = std::mem::take(&mut self.message);
        let demand = std::mem::take(&mut self.demand).into_iter();
        message.demand.extend(demand.map(|(function, (waiting, running))| wire::Demand { function, waiting, running }));
        message.acks.extend(std::mem::take(&mut self.acks).into_iter().map(|(ack, read)| {
            let own = read.map(|read| read.elapsed()).unwrap_or_default();
            wire::EndpointAck { own_us: u64::try_from(own.as_micros()).unwrap_or(u64::MAX), ..ack }
        }));
        (message != wire::FromDataPlane::default()).then_some(message)
    }
}

/// The state of one function.
#[derive(Default)]
struct Function {
    /// The time of its demand report, until a sandbox is granted.
    requested: Option<Instant>,
    held: Option<Held>,
    /// The wait of the newest invocation since the last sample, if there was one.
    invoked: Option<Duration>,
    /// It is in one of the slices.
    sampled: bool,
}

/// A granted sandbox.
#[derive(Clone, Copy)]
struct Held {
    sandbox: u64,
    slots: u32,
    /// Version of the newest delta about it: the control plane ignores a returned grant of an older one.
    version: u64,
    /// The time of its last use.
    used: Instant,
}

#[derive(Default)]
struct State {
    functions: HashMap<u64, Function>,
    by_name: HashMap<String, u64>,
    sampled: [Vec<u64>; SLICES as usize],
}

/// A connected data plane.
#[derive(Clone)]
pub(crate) struct DataPlane {
    outbox: Outbox<Reports>,
    state: Arc<Mutex<State>>,
    observations: Arc<Observations>,
    /// Ids of the functions that it invokes, round-robin.
    functions: Arc<[u64]>,
}

impl DataPlane {
    /// Connects, reads the snapshot and serves the stream as `tasks`.
    ///
    /// # Errors
    /// If the control plane refuses it.
    pub(crate) async fn connect(
        number: u32,
        options: &Options,
        stream: SocketAddr,
        observations: &Arc<Observations>,
        tasks: &mut JoinSet<anyhow::Result<()>>,
    ) -> anyhow::Result<Self> {
        let hello = wire::DataPlaneHello {
            protocol_version: PROTOCOL_VERSION,
            data_plane: format!("d{number}"),
            address: format!("127.0.0.1:{}", 10_000 + number),
            instance: api::random_instance(),
            ..Default::default()
        };
        let message = wire::FromDataPlane { hello: Some(hello), ..Default::default() };
        let (outbox, messages) = Outbox::new(Reports { message, ..Reports::default() });
        let response = client(stream).await?.connect_data_plane(messages).await.context("opening its stream")?;
        let (state, observations) = (Arc::default(), observations.clone());
        let mut data_plane = Self { outbox, state, observations, functions: Arc::new([]) };
        let mut incoming = response.into_inner();
        loop {
            let message = incoming.message().await?.context("the control plane closed the stream")?;
            let is_complete = message.snapshot_end;
            data_plane.on_message(message);
            if is_complete {
                break;
            }
        }
        // Its share of the functions that are invoked.
        let names = (number..options.functions()).step_by(options.data_planes as usize).map(Options::function_name);
        let state = data_plane.lock();
        let ids: Option<Arc<[u64]>> = names.map(|name| state.by_name.get(&name).copied()).collect();
        drop(state);
        data_plane.functions = ids.context("the snapshot lacks a function that was registered")?;
        tasks.spawn(data_plane.clone().read(incoming));
        tasks.spawn(data_plane.clone().sample());
        Ok(data_plane)
    }

    /// The invocations with the numbers `from..to`, counted over the whole run.
    pub(crate) fn invoke(&self, from: u64, to: u64) {
        let mut demands = Vec::new();
        let mut state = self.lock();
        let count = self.functions.len() as u64;
        for number in from..to {
            let id = self.functions[usize::try_from(number % count).unwrap_or(0)];
            let function = state.functions.entry(id).or_default();
            if let Some(held) = &mut function.held {
                held.used = Instant::now();
                function.invoked = Some(Duration::ZERO);
                self.observations.still_warm();
            } else if function.requested.is_some() {
                self.observations.still_waiting();
                continue;
            } else {
                function.requested = Some(Instant::now());
                self.observations.requested();
                demands.push((id, (1, 0)));
            }
            if !std::mem::replace(&mut function.sampled, true) {
                state.sampled[slice_of(id)].push(id);
            }
        }
        drop(state);
        if !demands.is_empty() {
            self.outbox.update(|reports| reports.demand.extend(demands));
        }
    }

    async fn read(self, mut incoming: Streaming<wire::ToDataPlane>) -> anyhow::Result<()> {
        while let Some(message) = incoming.message().await? {
            self.on_message(message);
        }
        Ok(())
    }

    fn on_message(&self, message: wire::ToDataPlane) {
        let read = Instant::now();
        let mut state = self.lock();
        state.by_name.extend(message.functions.into_iter().map(|config| (config.name, config.function)));
        let (mut acks, mut demands, mut limit_acks) = (Vec::new(), Vec::new(), Vec::new());
        for delta in &message.endpoints {
            let function = state.functions.entry(delta.function).or_default();
            let slots = match delta.state() {
                wire::EndpointState::Active | wire::EndpointState::Suspended => delta.slots,
                wire::EndpointState::Draining | wire::EndpointState::Gone => 0,
            };
            let held = Held { sandbox: delta.sandbox, slots, version: delta.version, used: read };
            function.held = (slots > 0).then_some(held);
            if let Some(requested) = function.requested.take_if(|_| slots > 0) {
                let waited = read.duration_since(requested);
                function.invoked = Some(waited);
                self.observations.on_created(waited);
                // When this report is sent, the invocation no longer waits.
                demands.push((delta.function, (0, 1)));
            }
            acks.push((ack(delta, slots), Some(read)));
        }
        for limit in &message.limits {
            let function = state.functions.entry(limit.function).or_default();
            let min_idle = Duration::from_millis(limit.min_idle_ms);
            let is_returned = |held: &mut Held| held.slots > limit.slots && read.duration_since(held.used) >= min_idle;
            if let Some(Held { sandbox, version, .. }) = function.held.take_if(is_returned) {
                let function = limit.function;
                acks.push((wire::EndpointAck { sandbox, function, slots: 0, version, own_us: 0 }, None));
            }
            let slots = function.held.map_or(0, |held| held.slots);
            limit_acks.push(wire::LimitAck { function: limit.function, version: limit.version, slots });
        }
        drop(state);
        self.outbox.update(|reports| {
            reports.acks.extend(acks);
            reports.demand.extend(demands);
            reports.message.limit_acks.extend(limit_acks);
            reports.message.applied = reports.message.applied.max(message.sequence);
        });
    }

    /// Samples for ever. Like in a real data plane, a function leaves its slice after an idle period.
    async fn sample(self) -> anyhow::Result<()> {
        let mut ticks = interval(SAMPLE_PERIOD / SLICES);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for slice in (0..SLICES as usize).cycle() {
            ticks.tick().await;
            let samples = self.samples(slice);
            if !samples.is_empty() {
                self.outbox.update(|reports| reports.message.samples.extend(samples));
            }
        }
        Ok(())
    }

    fn samples(&self, slice: usize) -> Vec<wire::Sample> {
        let mut samples = Vec::new();
        let mut state = self.lock();
        for id in std::mem::take(&mut state.sampled[slice]) {
            let Some(function) = state.functions.get_mut(&id) else { continue };
            let waiting = u32::from(function.requested.is_some());
            let invoked = function.invoked.take();
            function.sampled = invoked.is_some() || waiting > 0;
            samples.push(wire::Sample {
                function: id,
                span_ms: 1000,
                concurrency_us: invoked.map_or(0, |waited| u64::try_from(waited.as_micros()).unwrap_or(u64::MAX)),
                requests: u32::from(invoked.is_some()),
                waiting,
                running: 0,
                peak: waiting.max(u32::from(invoked.is_some())),
                cold: u32::from(invoked.is_some_and(|waited| !waited.is_zero())),
            });
            if function.sampled {
                state.sampled[slice].push(id);
            }
        }
        samples
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn slice_of(function: u64) -> usize {
    usize::try_from(function % u64::from(SLICES)).unwrap_or(0)
}

fn ack(delta: &wire::EndpointDelta, slots: u32) -> wire::EndpointAck {
    let wire::EndpointDelta { sandbox, function, version, .. } = *delta;
    wire::EndpointAck { sandbox, function, slots, version, own_us: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    use futures::{StreamExt, stream::BoxStream};

    const FUNCTION: u64 = 7;

    /// A data plane of one function without a connection, and its messages.
    fn data_plane() -> (DataPlane, BoxStream<'static, wire::FromDataPlane>) {
        let (outbox, messages) = Outbox::new(Reports::default());
        let data_plane =
            DataPlane { outbox, state: Arc::default(), observations: Arc::default(), functions: Arc::new([FUNCTION]) };
        (data_plane, messages.boxed())
    }

    fn delta(state: wire::EndpointState, version: u64) -> wire::ToDataPlane {
        let mut delta = wire::EndpointDelta { sandbox: 1, function: FUNCTION, slots: 1, version, ..Default::default() };
        delta.set_state(state);
        wire::ToDataPlane { endpoints: vec![delta], ..Default::default() }
    }

    fn limit(slots: u32, min_idle_ms: u64) -> wire::ToDataPlane {
        let limit = wire::GrantLimit { function: FUNCTION, slots, min_idle_ms, version: 3, ..Default::default() };
        wire::ToDataPlane { limits: vec![limit], ..Default::default() }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_cold_function_is_requested_once_until_its_sandbox_is_granted() {
        let (data_plane, mut messages) = data_plane();
        data_plane.invoke(0, 2);
        let counts = data_plane.observations.take();
        assert_eq!((counts.requested, counts.still_waiting, counts.still_warm), (1, 1, 0));
        let demand = messages.next().await.unwrap().demand;
        assert_eq!(demand, [wire::Demand { function: FUNCTION, waiting: 1, running: 0 }]);

        data_plane.on_message(delta(wire::EndpointState::Active, 1));
        let granted = messages.next().await.unwrap();
        assert_eq!(granted.demand, [wire::Demand { function: FUNCTION, waiting: 0, running: 1 }]);
        assert_eq!((granted.acks[0].sandbox, granted.acks[0].slots, granted.acks[0].version), (1, 1, 1));
        data_plane.invoke(2, 3);
        let counts = data_plane.observations.take();
        assert_eq!((counts.latencies_us.len(), counts.still_warm, counts.requested), (1, 1, 0));

        data_plane.on_message(delta(wire::EndpointState::Gone, 2));
        assert_eq!(messages.next().await.unwrap().acks[0].slots, 0);
        data_plane.invoke(3, 4);
        assert_eq!(data_plane.observations.take().requested, 1, "it is cold again");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_revoked_grant_is_returned_only_after_it_was_idle_for_long_enough() {
        let (data_plane, mut messages) = data_plane();
        data_plane.on_message(delta(wire::EndpointState::Active, 5));
        messages.next().await.unwrap();
        data_plane.on_message(limit(0, 3_600_000));
        let kept = messages.next().await.unwrap();
        assert_eq!((kept.acks.len(), kept.limit_acks[0].slots), (0, 1), "it was used within the hour");
        data_plane.on_message(limit(0, 0));
        let returned = messages.next().await.unwrap();
        assert_eq!((returned.acks[0].slots, returned.acks[0].version), (0, 5), "with the version of its delta");
        assert_eq!((returned.limit_acks[0].slots, returned.limit_acks[0].version), (0, 3));
    }

    #[test]
    fn a_function_is_sampled_until_it_was_idle_for_a_period() {
        let (data_plane, _messages) = data_plane();
        data_plane.on_message(delta(wire::EndpointState::Active, 1));
        data_plane.invoke(0, 1);
        let slice = slice_of(FUNCTION);
        let busy = data_plane.samples(slice);
        assert_eq!((busy.len(), busy[0].function, busy[0].requests, busy[0].cold), (1, FUNCTION, 1, 0));
        let idle = data_plane.samples(slice);
        assert_eq!((idle.len(), idle[0].requests), (1, 0), "one more sample reports the idle period");
        assert_eq!(data_plane.samples(slice), []);
    }
}
