//! A cluster of model workers and data planes around a real state: they do what the protocol says, when told to.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use api::{
    Batch,
    wire::{self, sandbox_event::Event},
};
use model::{ClusterId, Epoch, FunctionSpec};
use policy::{
    adaptive_lifo::{AdaptiveLifo, End},
    autoscale, placement,
};
use record::ColdStart;
use service::Clock;
use tokio::sync::oneshot::Receiver;

use crate::{
    config::Health,
    message::{DataPlaneHello, DataPlaneMessage, SandboxReport, WorkerHello},
    metrics::Metrics,
    now::Now,
    outbox::{DataPlaneBatch, WorkerBatch},
    registry::Registry,
    state::{
        DataPlaneChange, Effect, Input, Origin, Reply, Request, SessionId, Settings, State, Term, WorkerChange,
        cluster::Function,
    },
    store::{Command, Logged},
};

pub(super) const NODE_CPU: u64 = 1000;
pub(super) const NODE_MEMORY: u64 = 1000;
const CLUSTER: ClusterId = ClusterId(1);

/// What a peer knows of the control plane that it was welcomed by last.
#[derive(Clone, Default)]
pub(super) struct Obeyed {
    cluster: String,
    epoch: u32,
    nonce: u64,
}

impl Obeyed {
    fn of(welcome: &wire::Welcome) -> Self {
        Self { cluster: welcome.cluster.clone(), epoch: welcome.epoch, nonce: welcome.epoch_nonce }
    }
}

/// A sandbox as a model worker has it.
pub(super) struct ModelSandbox {
    /// The function whose program it is.
    pub(super) name: String,
    pub(super) function: u64,
    pub(super) revision: u64,
    pub(super) ready: bool,
    /// Since when its creation waits for others, in microseconds.
    pub(super) queued_us: Option<u64>,
    pub(super) cpu: u64,
    pub(super) memory: u64,
    pub(super) concurrency: u32,
}

pub(super) struct ModelWorker {
    pub(super) name: String,
    /// By this process.
    obeyed: Obeyed,
    /// The index of the log that it was told last.
    known: u64,
    session: Option<SessionId>,
    /// It was let in: until then nothing is read of what it says.
    admitted: bool,
    batch: WorkerBatch,
    specifications: BTreeMap<u64, wire::RevisionSpec>,
    pub(super) sandboxes: BTreeMap<u64, ModelSandbox>,
    /// In which order it serves creations that wait, as a real worker does.
    order: AdaptiveLifo,
    outgoing: VecDeque<wire::SandboxEvent>,
}

/// A sandbox as a model data plane holds it.
pub(super) struct Held {
    /// Where it is: after the log was set back, another worker may have a sandbox of the same id.
    pub(super) worker: usize,
    pub(super) function: u64,
    pub(super) slots: u32,
    pub(super) in_use: u32,
    open: bool,
    draining: bool,
    version: u64,
}

pub(super) struct ModelDataPlane {
    name: String,
    /// By this process.
    obeyed: Obeyed,
    /// The greatest index it was told.
    known: u64,
    session: Option<SessionId>,
    /// It was let in: until then nothing is read of what it says.
    admitted: bool,
    batch: DataPlaneBatch,
    pub(super) functions: BTreeMap<u64, String>,
    pub(super) held: BTreeMap<u64, Held>,
    pub(super) waiting: BTreeMap<u64, u32>,
    /// The waiting invocations that the control plane was sent last, by function.
    reported: BTreeMap<u64, u32>,
    /// Functions of which samples are taken, with the invocations that arrived since the last one.
    sampled: BTreeMap<u64, u32>,
    /// Sandboxes that do not work, with their functions: kept, and reported again, until they are said to be gone.
    pub(super) broken: BTreeMap<u64, u64>,
    limits: BTreeMap<u64, (u32, u64)>,
    /// Why no sandboxes can be made, by function, and whether that is believed to last.
    pub(super) problems: BTreeMap<u64, (String, bool)>,
    /// Deltas it was sent so far.
    pub(super) deltas_read: usize,
    /// Limits it was sent so far.
    pub(super) limits_read: u32,
    /// Functions named since the welcome, until the snapshot ends.
    named: Option<BTreeSet<u64>>,
    outgoing: VecDeque<wire::FromDataPlane>,
    pub(super) answered: u32,
    pub(super) refused: u32,
}

pub(super) struct Cluster {
    pub(super) state: State,
    clock: Clock,
    pub(super) now_us: u64,
    /// Durable commands.
    pub(super) log: Vec<Command>,
    /// Commands that are being written; empty unless `writes_slowly`.
    writing: VecDeque<(Command, Origin)>,
    /// Commands are durable only when a test says so.
    pub(super) writes_slowly: bool,
    term: Term,
    next_session: u64,
    pub(super) workers: Vec<ModelWorker>,
    pub(super) data_planes: Vec<ModelDataPlane>,
    /// Invocations in each sandbox, by worker, whose data plane was killed. They run as long as the sandbox lives.
    pub(super) orphans: BTreeMap<(usize, u64), u32>,
    /// How each creation went.
    pub(super) rows: Vec<ColdStart>,
}

/// The term of that epoch; its nonce is not that of any other.
fn new_term(epoch: u32) -> Term {
    Term { cluster: CLUSTER, epoch: Epoch(epoch), nonce: api::random_epoch_nonce() }
}

pub(super) fn new_state(term: Term) -> State {
    let policy = autoscale::find("reactive").unwrap();
    let placement = placement::find("power-of-two").unwrap();
    let settings =
        Settings { autoscale: policy, placement, health: Health::default(), heartbeat_port: None, records: true };
    State::new(settings, term, 7, Metrics::new().into())
}

fn new_data_plane(index: usize, clock: Clock) -> ModelDataPlane {
    ModelDataPlane {
        name: format!("d{index}"),
        obeyed: Obeyed::default(),
        known: 0,
        session: None,
        admitted: false,
        batch: DataPlaneBatch::new(clock),
        functions: BTreeMap::new(),
        held: BTreeMap::new(),
        waiting: BTreeMap::new(),
        reported: BTreeMap::new(),
        sampled: BTreeMap::new(),
        broken: BTreeMap::new(),
        limits: BTreeMap::new(),
        problems: BTreeMap::new(),
        deltas_read: 0,
        limits_read: 0,
        named: None,
        outgoing: VecDeque::new(),
        answered: 0,
        refused: 0,
    }
}

impl Cluster {
    pub(super) fn new(workers: usize, data_planes: usize) -> Self {
        let clock = Clock::start();
        let worker = |index| ModelWorker {
            name: format!("w{index}"),
            obeyed: Obeyed::default(),
            known: 0,
            session: None,
            admitted: false,
            batch: WorkerBatch::new(clock),
            specifications: BTreeMap::new(),
            sandboxes: BTreeMap::new(),
            order: AdaptiveLifo::default(),
            outgoing: VecDeque::new(),
        };
        let term = new_term(0);
        let mut cluster = Self {
            state: new_state(term),
            clock,
            now_us: 0,
            log: vec![Command::BeginCluster { id: CLUSTER }],
            writing: VecDeque::new(),
            writes_slowly: false,
            term,
            next_session: 0,
            workers: (0..workers).map(worker).collect(),
            data_planes: (0..data_planes).map(|index| new_data_plane(index, clock)).collect(),
            orphans: BTreeMap::new(),
            rows: Vec::new(),
        };
        cluster.restart_control_plane();
        (0..workers).for_each(|index| cluster.connect_worker(index));
        (0..data_planes).for_each(|index| cluster.connect_data_plane(index));
        cluster
    }

    /// One more data plane, which connects.
    pub(super) fn add_data_plane(&mut self) {
        let index = self.data_planes.len();
        self.data_planes.push(new_data_plane(index, self.clock));
        self.connect_data_plane(index);
    }

    fn session(&mut self) -> SessionId {
        self.next_session += 1;
        SessionId(self.next_session)
    }

    pub(super) fn input(&mut self, input: Input) {
        self.state.handle(Now::at_us(self.now_us), input);
        self.perform();
    }

    fn perform(&mut self) {
        let mut commands = Vec::new();
        for effect in self.state.take_effects() {
            match effect {
                Effect::ToWorker { session, change } => {
                    if let Some(worker) = self.workers.iter_mut().find(|worker| worker.session == Some(session)) {
                        worker.admitted |= matches!(change, WorkerChange::Welcome(_));
                        worker.batch.add(change);
                    }
                }
                Effect::ToDataPlane { session, change } => {
                    if let Some(known) = self.data_planes.iter_mut().find(|known| known.session == Some(session)) {
                        known.admitted |= matches!(change, DataPlaneChange::Welcome(_));
                        known.batch.add(change);
                    }
                }
                Effect::Append { command, origin } => commands.push((command, origin)),
                Effect::Reply(response) => response.deliver(),
                Effect::Record(row) => self.rows.push(*row),
                Effect::Close { session, .. } | Effect::RefuseName { session, .. } => self.close(session),
                Effect::RefuseStranger { session, .. } => self.reject(session),
            }
        }
        self.writing.extend(commands);
        if !self.writes_slowly {
            self.commit(usize::MAX);
        }
    }

    /// Some of the commands that are being written are durable.
    pub(super) fn commit(&mut self, most: usize) {
        let count = self.writing.len().min(most);
        if count > 0 {
            let commands: Vec<_> = self.writing.drain(..count).collect();
            let first = self.log.len() as u64 + 1;
            self.log.extend(commands.iter().map(|(command, _)| command.clone()));
            self.input(Input::Committed { first, commands });
        }
    }

    fn close(&mut self, session: SessionId) {
        for worker in self.workers.iter_mut().filter(|worker| worker.session == Some(session)) {
            (worker.session, worker.admitted) = (None, false);
        }
        for known in self.data_planes.iter_mut().filter(|known| known.session == Some(session)) {
            (known.session, known.admitted) = (None, false);
        }
    }

    /// A peer knows what this log does not have. A data plane forgets it; a worker is started anew by an operator.
    fn reject(&mut self, session: SessionId) {
        let worker = self.workers.iter().position(|worker| worker.session == Some(session));
        let data_plane = self.data_planes.iter().position(|known| known.session == Some(session));
        self.close(session);
        worker.into_iter().for_each(|index| self.kill_worker(index));
        data_plane.into_iter().for_each(|index| self.kill_data_plane(index));
    }

    pub(super) fn put(&mut self, spec: FunctionSpec) {
        self.request(|reply| Request::Put { spec: Box::new(spec), only_over: None, reply });
    }

    /// Asks for something; the response, once there is one.
    pub(super) fn request<T: Send + 'static>(&mut self, request: impl FnOnce(Reply<T>) -> Request) -> Receiver<T> {
        let (reply, response) = Reply::channel();
        self.input(Input::Request(request(reply)));
        response
    }

    pub(super) fn function_id(&self, name: &str) -> Option<u64> {
        self.state.registry.function(name).map(|registered| registered.id.0)
    }

    /// A registered function, as the control plane has it.
    pub(super) fn believed(&self, name: &str) -> &Function {
        let registered = self.state.registry.function(name).expect("it is registered");
        self.state.cluster.tables.functions.get(registered.id).expect("a registered function is in the table")
    }

    // ---- links ----

    pub(super) fn connect_worker(&mut self, index: usize) {
        if self.workers[index].session.is_some() {
            return;
        }
        let session = self.session();
        let clock = self.clock;
        let worker = &mut self.workers[index];
        (worker.session, worker.admitted) = (Some(session), false);
        worker.batch = WorkerBatch::new(clock);
        worker.outgoing.clear();
        let held = worker.sandboxes.iter().map(|(id, sandbox)| wire::HeldSandbox {
            sandbox: *id,
            node: 0,
            function: sandbox.function,
            revision: sandbox.revision,
            address: if sandbox.ready { address(index, *id) } else { String::new() },
            cpu_millicores: u32::try_from(sandbox.cpu).unwrap(),
            memory_mib: u32::try_from(sandbox.memory).unwrap(),
            concurrency: sandbox.concurrency,
            queued: sandbox.queued_us.is_some(),
        });
        let hello = wire::WorkerHello {
            worker: worker.name.clone(),
            cluster: worker.obeyed.cluster.clone(),
            epoch: worker.obeyed.epoch,
            epoch_nonce: worker.obeyed.nonce,
            known: worker.known,
            nodes: vec![wire::NodeAnnouncement {
                name: format!("{}-node", worker.name),
                cpu_millicores: NODE_CPU,
                memory_mib: NODE_MEMORY,
            }],
            sandboxes: held.collect(),
            ..Default::default()
        };
        let hello = Box::new(WorkerHello::check(hello).expect("a hello that can be"));
        self.input(Input::WorkerJoined { session, hello });
    }

    pub(super) fn cut_worker(&mut self, index: usize) {
        if let Some(session) = self.workers[index].session.take() {
            self.input(Input::WorkerLeft { session });
        }
    }

    /// The worker's process ends in good order: it says so, and ends its sandboxes.
    pub(super) fn end_worker(&mut self, index: usize) {
        if let Some(session) = self.workers[index].session {
            self.input(Input::WorkerLeaves { session });
        }
        self.kill_worker(index);
    }

    /// The worker's process ends, and its sandboxes with it.
    pub(super) fn kill_worker(&mut self, index: usize) {
        (self.workers[index].obeyed, self.workers[index].known) = (Obeyed::default(), 0);
        self.workers[index].order = AdaptiveLifo::default();
        let ended: Vec<_> = std::mem::take(&mut self.workers[index].sandboxes).into_keys().collect();
        ended.into_iter().for_each(|id| self.sandbox_ended(index, id));
        self.cut_worker(index);
    }

    pub(super) fn connect_data_plane(&mut self, index: usize) {
        if self.data_planes[index].session.is_some() {
            return;
        }
        let session = self.session();
        let clock = self.clock;
        let known = &mut self.data_planes[index];
        (known.session, known.admitted) = (Some(session), false);
        known.batch = DataPlaneBatch::new(clock);
        known.outgoing.clear();
        known.limits.clear();
        // Versions count anew on each stream.
        known.held.values_mut().for_each(|held| held.version = 0);
        let held = known.held.iter().map(|(id, held)| wire::HeldGrant {
            function: held.function,
            sandbox: *id,
            slots: held.slots,
        });
        let broken =
            known.broken.iter().map(|(id, function)| wire::HeldGrant { function: *function, sandbox: *id, slots: 1 });
        let (data_plane, held) = (known.name.clone(), held.chain(broken).collect());
        let Obeyed { cluster, epoch, nonce } = known.obeyed.clone();
        let hello = wire::DataPlaneHello {
            data_plane,
            held,
            epoch,
            cluster,
            epoch_nonce: nonce,
            known: known.known,
            ..Default::default()
        };
        for (id, function) in known.broken.clone() {
            known.report_broken(id, function, Vec::new());
        }
        known.reported.clear();
        let functions: Vec<_> = known.functions.keys().copied().collect();
        for function in functions {
            if known.waiting_for(function) + known.running(function) > 0 {
                known.report_anyhow(function);
            }
        }
        let hello = Box::new(DataPlaneHello::check(hello).expect("a hello that can be"));
        self.input(Input::DataPlaneJoined { session, hello });
    }

    pub(super) fn cut_data_plane(&mut self, index: usize) {
        if let Some(session) = self.data_planes[index].session.take() {
            self.input(Input::DataPlaneLeft { session });
        }
    }

    /// A data plane's process ends without a word. What it began goes on in the sandboxes.
    pub(super) fn kill_data_plane(&mut self, index: usize) {
        let known = &mut self.data_planes[index];
        (known.obeyed, known.known) = (Obeyed::default(), 0);
        known.functions.clear();
        known.waiting.clear();
        known.reported.clear();
        known.sampled.clear();
        known.outgoing.clear();
        known.broken.clear();
        for (id, held) in std::mem::take(&mut known.held) {
            *self.orphans.entry((held.worker, id)).or_default() += held.in_use;
        }
        self.cut_data_plane(index);
    }

    /// The control plane ends and a new one begins; every link is cut.
    pub(super) fn restart_control_plane(&mut self) {
        self.workers.iter_mut().for_each(|worker| worker.session = None);
        self.data_planes.iter_mut().for_each(|known| known.session = None);
        let newest = self.log.iter().rev().find_map(|command| match command {
            Command::BeginEpoch { epoch, .. } => Some(epoch.0),
            _ => None,
        });
        self.term = new_term(newest.unwrap_or(0) + 1);
        let Term { epoch, nonce, .. } = self.term;
        self.writing.clear();
        self.log.push(Command::BeginEpoch { epoch, nonce });
        let log = self.log.iter().cloned().zip(1..).map(|(command, index)| Logged { index, command });
        self.state = new_state(self.term);
        self.state.load(Registry::replay(log));
        self.state.recover(Now::at_us(self.now_us));
        self.perform();
    }

    /// The control plane ends, its log loses what comes after that many commands, and a new one begins.
    pub(super) fn set_back(&mut self, commands: usize) {
        self.log.truncate(commands);
        self.restart_control_plane();
    }

    // ---- steps ----

    /// A worker reads what waits for it.
    pub(super) fn worker_reads(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        if worker.session.is_none() {
            return;
        }
        let Some(message) = worker.batch.take() else { return };
        if let Some(welcome) = &message.welcome {
            worker.obeyed = Obeyed::of(welcome);
        }
        worker.known = message.known.unwrap_or(worker.known);
        worker.specifications.extend(message.functions.into_iter().map(|spec| (spec.revision, spec)));
        for create in message.create {
            let spec = worker.specifications.get(&create.revision).expect("a revision is described before it is used");
            let sandbox = ModelSandbox {
                name: spec.name.clone(),
                function: spec.function,
                revision: spec.revision,
                ready: false,
                queued_us: None,
                cpu: spec.cpu_millicores.into(),
                memory: spec.memory_mib.into(),
                concurrency: spec.concurrency,
            };
            worker.sandboxes.entry(create.sandbox).or_insert(sandbox);
        }
        let mut ended_now = Vec::new();
        for id in message.delete {
            let ended = wire::SandboxEnded::default();
            worker.sandboxes.remove(&id);
            worker.outgoing.push_back(wire::SandboxEvent { sandbox: id, event: Some(Event::Ended(ended)) });
            ended_now.push(id);
        }
        ended_now.into_iter().for_each(|id| self.sandbox_ended(index, id));
    }

    /// A worker reads its welcome, and nothing of what comes with it.
    pub(super) fn worker_reads_welcome(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        let message = worker.batch.take().expect("it is welcomed");
        worker.obeyed = Obeyed::of(&message.welcome.expect("it is welcomed first"));
    }

    /// Whatever ran in a sandbox has ended with it.
    fn sandbox_ended(&mut self, worker: usize, id: u64) {
        self.orphans.remove(&(worker, id));
        self.data_planes.iter_mut().for_each(|known| known.break_sandbox(worker, id));
    }

    /// A worker finishes the oldest creation, well or badly.
    pub(super) fn worker_finishes_one(&mut self, index: usize, well: bool) {
        let worker = &mut self.workers[index];
        let Some(id) = worker.sandboxes.iter().find(|(_, sandbox)| !sandbox.ready).map(|(id, _)| *id) else { return };
        let event = if well {
            let made = worker.sandboxes.get_mut(&id).unwrap();
            (made.ready, made.queued_us) = (true, None);
            Event::Ready(wire::SandboxReady { address: address(index, id), ..Default::default() })
        } else {
            worker.sandboxes.remove(&id);
            Event::Failed(wire::CreationFailed { message: "no luck".to_owned(), permanent: false })
        };
        worker.outgoing.push_back(wire::SandboxEvent { sandbox: id, event: Some(event) });
    }

    /// A worker says of all its creations that they wait for others.
    pub(super) fn worker_queues(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        for (id, sandbox) in
            worker.sandboxes.iter_mut().filter(|(_, sandbox)| !sandbox.ready && sandbox.queued_us.is_none())
        {
            sandbox.queued_us = Some(self.now_us);
            let event = Some(Event::Progress(wire::CreationProgress { queued: true, ..Default::default() }));
            worker.outgoing.push_back(wire::SandboxEvent { sandbox: *id, event });
        }
    }

    /// The creation whose turn it is at a worker, of those that wait there, begins and is finished.
    pub(super) fn worker_serves_next(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        let waiting = worker.sandboxes.iter().filter_map(|(id, sandbox)| Some((sandbox.queued_us?, *id)));
        let waiting: BTreeSet<(u64, u64)> = waiting.collect();
        let (Some(oldest), Some(newest)) = (waiting.first(), waiting.last()) else { return };
        let (_, sandbox) = *match worker.order.serve(Duration::from_micros(self.now_us - oldest.0)) {
            End::Oldest => oldest,
            End::Newest => newest,
        };
        let event = Some(Event::Progress(wire::CreationProgress::default()));
        worker.outgoing.push_back(wire::SandboxEvent { sandbox, event });
        self.worker_finishes(index, sandbox);
    }

    /// A worker finishes this creation well, if it is still to.
    pub(super) fn worker_finishes(&mut self, index: usize, sandbox: u64) {
        let worker = &mut self.workers[index];
        if let Some(made) = worker.sandboxes.get_mut(&sandbox) {
            (made.ready, made.queued_us) = (true, None);
            let ready = wire::SandboxReady { address: address(index, sandbox), ..Default::default() };
            worker.outgoing.push_back(wire::SandboxEvent { sandbox, event: Some(Event::Ready(ready)) });
        }
    }

    /// The oldest ready sandbox of a worker ends by itself.
    pub(super) fn sandbox_exits(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        let Some(id) = worker.sandboxes.iter().find(|(_, sandbox)| sandbox.ready).map(|(id, _)| *id) else { return };
        worker.sandboxes.remove(&id);
        let ended = wire::SandboxEnded { reason: wire::sandbox_ended::Reason::Exited.into(), message: String::new() };
        worker.outgoing.push_back(wire::SandboxEvent { sandbox: id, event: Some(Event::Ended(ended)) });
        self.sandbox_ended(index, id);
    }

    /// Data planes cannot reach the ready sandboxes of a worker any more, which knows nothing of it.
    pub(super) fn sandboxes_break(&mut self, index: usize) {
        let ready = self.workers[index].sandboxes.iter().filter(|(_, sandbox)| sandbox.ready);
        let ready: Vec<_> = ready.map(|(id, _)| *id).collect();
        for known in &mut self.data_planes {
            ready.iter().for_each(|id| known.break_sandbox(index, *id));
        }
    }

    /// A worker says something, which arrives at once.
    pub(super) fn worker_sends(&mut self, index: usize, event: wire::SandboxEvent) {
        self.workers[index].outgoing.push_back(event);
        self.deliver_from_worker(index);
    }

    /// What a worker said arrives.
    pub(super) fn deliver_from_worker(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        let (Some(session), true) = (worker.session, worker.admitted && !worker.outgoing.is_empty()) else { return };
        let reports = worker.outgoing.drain(..).filter_map(SandboxReport::of).collect();
        let read_us = self.now_us;
        self.input(Input::SandboxReports { session, reports, read_us });
    }

    pub(super) fn worker_sends_heartbeat(&mut self, index: usize) {
        if self.workers[index].session.is_some() {
            let worker = self.workers[index].name.clone();
            let heard = vec![(worker, self.now_us)];
            self.input(Input::Heartbeats { received: heard });
        }
    }

    pub(super) fn data_plane_reads(&mut self, index: usize) {
        let known = &mut self.data_planes[index];
        if known.session.is_some()
            && let Some(message) = known.batch.take()
        {
            known.obey(message);
        }
    }

    pub(super) fn deliver_from_data_plane(&mut self, index: usize) {
        let known = &mut self.data_planes[index];
        let Some(session) = known.session.filter(|_| known.admitted) else { return };
        let Some(message) = known.outgoing.pop_front() else { return };
        let message = DataPlaneMessage::of(message, self.now_us);
        self.input(Input::FromDataPlane { session, message });
    }

    /// All that a data plane has said so far arrives.
    pub(super) fn deliver_all_from_data_plane(&mut self, index: usize) {
        while self.data_planes[index].admitted && self.data_planes[index].has_outgoing() {
            self.deliver_from_data_plane(index);
        }
    }

    /// A data plane measures the functions that are in use. An idle span is the last one, as in the real one.
    pub(super) fn data_plane_samples(&mut self, index: usize) {
        let known = &mut self.data_planes[index];
        let mut samples = Vec::new();
        for (function, requests) in std::mem::take(&mut known.sampled) {
            let (waiting, running) = (known.waiting_for(function), known.running(function));
            samples.push(wire::Sample {
                function,
                span_ms: 1000,
                concurrency_us: u64::from(waiting + running) * 1_000_000,
                requests,
                waiting,
                running,
                peak: requests.max(waiting + running),
                cold: 0,
            });
            if requests + waiting + running > 0 || known.limits.contains_key(&function) {
                known.sampled.insert(function, 0);
            }
        }
        if !samples.is_empty() {
            known.outgoing.push_back(wire::FromDataPlane { samples, ..Default::default() });
        }
    }

    /// Time passes, and nobody sends a heartbeat.
    pub(super) fn pass(&mut self, ms: u64) {
        self.pass_while(ms, |_| {});
    }

    /// Time passes, and these workers send heartbeats, as far as they are connected.
    pub(super) fn pass_with(&mut self, ms: u64, speak: &[bool]) {
        self.pass_while(ms, |cluster| {
            (0..speak.len()).filter(|worker| speak[*worker]).for_each(|worker| cluster.worker_sends_heartbeat(worker));
        });
    }

    /// Time passes as a control plane sees it: it is awake ten times a second.
    fn pass_while(&mut self, ms: u64, mut each_time: impl FnMut(&mut Self)) {
        let until_us = self.now_us + ms * 1000;
        while self.now_us < until_us {
            self.now_us = until_us.min(self.now_us + 100_000);
            each_time(self);
            self.input(Input::Time);
        }
    }

    /// The control plane's process stands still.
    pub(super) fn stand_still(&mut self, ms: u64) {
        self.now_us += ms * 1000;
        self.input(Input::Time);
    }

    /// Everything that is under way arrives, all creations succeed, and nothing new happens, for `seconds`.
    pub(super) fn quiesce(&mut self, seconds: u64) {
        self.commit(usize::MAX);
        // Those that are turned away the first time come back with empty hands.
        for _ in 0..2 {
            for index in 0..self.workers.len() {
                self.connect_worker(index);
            }
            for index in 0..self.data_planes.len() {
                self.connect_data_plane(index);
            }
            self.commit(usize::MAX);
        }
        for step in 0..seconds * 4 {
            for index in 0..self.workers.len() {
                self.worker_sends_heartbeat(index);
                self.worker_reads(index);
                while self.workers[index].sandboxes.values().any(|sandbox| !sandbox.ready) {
                    self.worker_finishes_one(index, true);
                }
                self.deliver_from_worker(index);
            }
            for index in 0..self.data_planes.len() {
                if step % 4 == 0 {
                    self.data_plane_samples(index);
                }
                self.data_plane_reads(index);
                self.deliver_all_from_data_plane(index);
            }
            self.pass(250);
        }
    }
}

impl ModelDataPlane {
    pub(super) fn waiting_for(&self, function: u64) -> u32 {
        self.waiting.get(&function).copied().unwrap_or(0)
    }

    pub(super) fn running(&self, function: u64) -> u32 {
        self.held.values().filter(|held| held.function == function).map(|held| held.in_use).sum()
    }

    /// Says something, which arrives in its turn.
    pub(super) fn send(&mut self, message: wire::FromDataPlane) {
        self.outgoing.push_back(message);
    }

    /// Whether something that it said has not arrived.
    pub(super) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    fn held_of(&self, function: u64) -> u32 {
        self.held.values().filter(|held| held.function == function).map(|held| held.slots).sum()
    }

    pub(super) fn arrive(&mut self, function: u64) {
        if !self.functions.contains_key(&function) {
            self.refused += 1;
            return;
        }
        *self.waiting.entry(function).or_default() += 1;
        *self.sampled.entry(function).or_default() += 1;
        self.hand_out(function);
        self.report(function);
    }

    /// The oldest running invocation of a function ends.
    pub(super) fn finish_one(&mut self, function: u64) {
        let running = self.held.iter_mut().find(|(_, held)| held.function == function && held.in_use > 0);
        let Some((id, held)) = running else { return };
        held.in_use -= 1;
        self.answered += 1;
        let id = *id;
        self.give_back_if_due(id);
        self.hand_out(function);
        self.report(function);
    }

    fn hand_out(&mut self, function: u64) {
        while self.waiting_for(function) > 0 {
            let free =
                self.held.values_mut().find(|held| held.function == function && held.open && held.in_use < held.slots);
            let Some(held) = free else { return };
            held.in_use += 1;
            *self.waiting.get_mut(&function).unwrap() -= 1;
        }
    }

    /// Says how many invocations of a function wait, if these became more, or half as many as was said last.
    fn report(&mut self, function: u64) {
        let (waiting, reported) = (self.waiting_for(function), self.reported.get(&function).copied().unwrap_or(0));
        if waiting > reported || (waiting < reported && waiting <= reported / 2) {
            self.report_anyhow(function);
        }
    }

    fn report_anyhow(&mut self, function: u64) {
        let (waiting, running) = (self.waiting_for(function), self.running(function));
        self.reported.insert(function, waiting);
        let demand = vec![wire::Demand { function, waiting, running }];
        self.outgoing.push_back(wire::FromDataPlane { demand, ..Default::default() });
    }

    fn acknowledge(&mut self, function: u64, sandbox: u64, slots: u32, version: u64) {
        let acks = vec![wire::EndpointAck { sandbox, function, slots, version, own_us: 0 }];
        self.outgoing.push_back(wire::FromDataPlane { acks, ..Default::default() });
    }

    /// A sandbox does not answer any more: its invocations fail, and it is reported.
    fn break_sandbox(&mut self, worker: usize, id: u64) {
        if self.held.get(&id).is_none_or(|held| held.worker != worker) {
            return;
        }
        let Some(held) = self.held.remove(&id) else { return };
        self.answered += held.in_use;
        self.broken.insert(id, held.function);
        self.report_broken(id, held.function, Vec::new());
        self.report(held.function);
    }

    /// Says that a sandbox does not work, and in the same message what acknowledgements there are.
    pub(super) fn report_broken(&mut self, sandbox: u64, function: u64, acks: Vec<wire::EndpointAck>) {
        let cause = "refused".to_owned();
        let failures = vec![wire::EndpointFailure { sandbox, function, cause, ..Default::default() }];
        self.outgoing.push_back(wire::FromDataPlane { acks, failures, ..Default::default() });
    }

    /// One of the invocations in each sandbox cannot be ended: nothing new goes there, the others go on.
    pub(super) fn retire_all(&mut self) {
        let failures = self.held.iter_mut().map(|(&sandbox, held)| {
            held.open = false;
            let cause = "it did not end".to_owned();
            wire::EndpointFailure { sandbox, function: held.function, cause, retired: true, drains: true }
        });
        let failures = failures.collect();
        self.outgoing.push_back(wire::FromDataPlane { failures, ..Default::default() });
    }

    fn give_back_if_due(&mut self, id: u64) {
        let held = &self.held[&id];
        let (function, version) = (held.function, held.version);
        let over_limit = self.limits.get(&function).is_some_and(|(most, _)| self.held_of(function) > *most);
        if held.in_use == 0 && (held.draining || over_limit) {
            self.held.remove(&id);
            self.acknowledge(function, id, 0, version);
            self.end_limit_if_met(function);
        }
    }

    /// A limit that is met is over: what is granted afterwards is kept.
    fn end_limit_if_met(&mut self, function: u64) {
        let Some((most, version)) = self.limits.get(&function).copied() else { return };
        let slots = self.held_of(function);
        if slots <= most {
            self.limits.remove(&function);
            let limit_acks = vec![wire::LimitAck { function, version, slots }];
            self.outgoing.push_back(wire::FromDataPlane { limit_acks, ..Default::default() });
        }
    }

    fn obey(&mut self, message: wire::ToDataPlane) {
        if let Some(welcome) = &message.welcome {
            self.obeyed = Obeyed::of(welcome);
            self.named = Some(BTreeSet::new());
        }
        self.known = self.known.max(message.sequence);
        for config in message.functions {
            self.known = self.known.max(config.revision);
            self.named.get_or_insert_default().insert(config.function);
            self.functions.insert(config.function, config.name);
        }
        let mut removed = message.removed;
        if message.snapshot_end
            && let Some(named) = self.named.take()
        {
            removed.extend(self.functions.keys().filter(|function| !named.contains(function)));
        }
        for function in removed {
            self.functions.remove(&function);
            self.broken.retain(|_, of| *of != function);
            self.reported.remove(&function);
            self.sampled.remove(&function);
            self.refused += self.waiting.remove(&function).unwrap_or(0);
        }
        self.deltas_read += message.endpoints.len();
        for delta in message.endpoints {
            self.obey_endpoint(&delta);
        }
        for limit in message.limits {
            self.obey_limit(&limit);
        }
        for problem in message.problems {
            if problem.message.is_empty() {
                self.problems.remove(&problem.function);
            } else {
                self.problems.insert(problem.function, (problem.message, problem.permanent));
            }
        }
        if message.sequence > 0 {
            self.outgoing.push_back(wire::FromDataPlane { applied: message.sequence, ..Default::default() });
        }
    }

    fn obey_endpoint(&mut self, delta: &wire::EndpointDelta) {
        let id = delta.sandbox;
        match delta.state() {
            wire::EndpointState::Active | wire::EndpointState::Suspended if self.broken.contains_key(&id) => {
                let (function, version) = (delta.function, delta.version);
                let ack = wire::EndpointAck { sandbox: id, function, slots: 0, version, own_us: 0 };
                self.report_broken(id, function, vec![ack]);
            }
            wire::EndpointState::Active => {
                let held = self.held.entry(id).or_insert(Held {
                    worker: worker_at(&delta.address),
                    function: delta.function,
                    slots: 0,
                    in_use: 0,
                    open: true,
                    draining: false,
                    version: 0,
                });
                (held.slots, held.open, held.draining, held.version) = (delta.slots, true, false, delta.version);
                self.acknowledge(delta.function, id, delta.slots, delta.version);
            }
            wire::EndpointState::Suspended => {
                let held = self.held.entry(id).or_insert(Held {
                    worker: worker_at(&delta.address),
                    function: delta.function,
                    slots: 0,
                    in_use: 0,
                    open: false,
                    draining: false,
                    version: 0,
                });
                (held.slots, held.open, held.version) = (delta.slots, false, delta.version);
                self.acknowledge(delta.function, id, delta.slots, delta.version);
            }
            wire::EndpointState::Draining => {
                if let Some(held) = self.held.get_mut(&id) {
                    (held.open, held.draining, held.version) = (false, true, delta.version);
                    self.give_back_if_due(id);
                } else {
                    self.acknowledge(delta.function, id, 0, delta.version);
                }
            }
            wire::EndpointState::Gone => {
                self.broken.remove(&id);
                if let Some(held) = self.held.remove(&id) {
                    self.answered += held.in_use;
                }
                self.acknowledge(delta.function, id, 0, delta.version);
            }
        }
        self.hand_out(delta.function);
        self.report(delta.function);
    }

    fn obey_limit(&mut self, limit: &wire::GrantLimit) {
        self.limits_read += 1;
        self.limits.remove(&limit.function);
        if limit.drain {
            self.limits.insert(limit.function, (limit.slots, limit.version));
        }
        let idle: Vec<_> = self
            .held
            .iter()
            .filter(|(_, held)| held.function == limit.function && held.in_use == 0)
            .map(|(id, _)| *id)
            .collect();
        for id in idle {
            if self.held_of(limit.function) > limit.slots
                && let Some(held) = self.held.remove(&id)
            {
                self.acknowledge(limit.function, id, 0, held.version);
            }
        }
        let slots = self.held_of(limit.function);
        let limit_acks = vec![wire::LimitAck { function: limit.function, version: limit.version, slots }];
        self.outgoing.push_back(wire::FromDataPlane { limit_acks, ..Default::default() });
        self.end_limit_if_met(limit.function);
        if self.limits.contains_key(&limit.function) {
            // Its limit is looked at again with each sample.
            self.sampled.entry(limit.function).or_default();
        }
        self.report(limit.function);
    }
}

fn address(worker: usize, sandbox: u64) -> String {
    format!("127.1.{worker}.1:{}", 1 + sandbox % 60_000)
}

/// The worker that has an [`address`].
fn worker_at(address: &str) -> usize {
    address.split('.').nth(2).and_then(|part| part.parse().ok()).expect("a model worker's address")
}
