//! A data plane as the control plane sees it: reports demand, takes the sandboxes granted to it, samples its load each
//! second, and gives back what it is asked for. Invocations take no time.

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

use super::{observed::Observed, options::Options, worker::client};

/// As real data planes do it, also that functions are sampled in so many slices of the period.
const SAMPLE_PERIOD: Duration = Duration::from_secs(1);
const SLICES: u32 = 20;

/// What it has to say.
#[derive(Default)]
struct Reports {
    message: wire::FromDataPlane,
    /// Newest demand by function: waiting and running.
    demand: BTreeMap<u64, (u32, u32)>,
    /// When the deltas that are answered were read.
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

/// One function, as it stands here.
#[derive(Default)]
struct Function {
    /// When its demand was reported, while no sandbox has come.
    asked: Option<Instant>,
    held: Option<Held>,
    /// Whether something was invoked since the last sample, and how long it waited.
    invoked: Option<Duration>,
    /// Whether samples are being taken.
    sampled: bool,
}

/// A sandbox that is granted.
#[derive(Clone, Copy)]
struct Held {
    sandbox: u64,
    slots: u32,
    /// Of the newest delta about it: what is given back without it is not believed.
    version: u64,
    /// When it was last used.
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
    observed: Arc<Observed>,
    /// Ids of the functions that it invokes, in turn.
    functions: Arc<[u64]>,
}

impl DataPlane {
    /// Connects and learns the functions; its tasks go on among `tasks`.
    ///
    /// # Errors
    /// When the control plane does not take it.
    pub(crate) async fn connect(
        number: u32,
        options: &Options,
        stream: SocketAddr,
        observed: &Arc<Observed>,
        tasks: &mut JoinSet<anyhow::Result<()>>,
    ) -> anyhow::Result<Self> {
        let hello = wire::DataPlaneHello {
            protocol_version: PROTOCOL_VERSION,
            data_plane: format!("d{number}"),
            address: format!("127.0.0.1:{}", 10_000 + number),
            instance: api::draw_instance(),
            ..Default::default()
        };
        let message = wire::FromDataPlane { hello: Some(hello), ..Default::default() };
        let (outbox, messages) = Outbox::new(Reports { message, ..Reports::default() });
        let answer = client(stream).await?.connect_data_plane(messages).await.context("opening its stream")?;
        let (state, observed) = (Arc::default(), observed.clone());
        let mut data_plane = Self { outbox, state, observed, functions: Arc::new([]) };
        let mut incoming = answer.into_inner();
        loop {
            let message = incoming.message().await?.context("the control plane closed the stream")?;
            let is_whole = message.snapshot_end;
            data_plane.obey(message);
            if is_whole {
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

    /// One invocation of each of the functions from turn `from` on, up to turn `to`.
    pub(crate) fn invoke(&self, from: u64, to: u64) {
        let mut demands = Vec::new();
        let mut state = self.lock();
        let count = self.functions.len() as u64;
        for turn in from..to {
            let id = self.functions[usize::try_from(turn % count).unwrap_or(0)];
            let function = state.functions.entry(id).or_default();
            if let Some(held) = &mut function.held {
                held.used = Instant::now();
                function.invoked = Some(Duration::ZERO);
                self.observed.still_warm();
            } else if function.asked.is_some() {
                self.observed.still_waiting();
                continue;
            } else {
                function.asked = Some(Instant::now());
                self.observed.asked();
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
            self.obey(message);
        }
        Ok(())
    }

    fn obey(&self, message: wire::ToDataPlane) {
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
            if let Some(asked) = function.asked.take_if(|_| slots > 0) {
                let waited = read.duration_since(asked);
                function.invoked = Some(waited);
                self.observed.came(waited);
                // As of when the message goes out, the invocation runs.
                demands.push((delta.function, (0, 1)));
            }
            acks.push((ack(delta, slots), Some(read)));
        }
        for limit in &message.limits {
            let function = state.functions.entry(limit.function).or_default();
            let long_enough = Duration::from_millis(limit.min_idle_ms);
            let gives = |held: &mut Held| held.slots > limit.slots && read.duration_since(held.used) >= long_enough;
            if let Some(Held { sandbox, version, .. }) = function.held.take_if(gives) {
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

    /// Samples for ever, like a real data plane: a function until it was idle for a whole period.
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
            let waiting = u32::from(function.asked.is_some());
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
