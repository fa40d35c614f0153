//! What holds whatever happens: generated histories of demand, failures and cut links.

use std::{collections::BTreeMap, time::Duration};

use model::{FunctionSpec, SandboxId};
use proptest::prelude::*;

use super::{
    compaction::{follows_registry, logged, replay},
    model_cluster::{Cluster, NODE_CPU, NODE_MEMORY},
};
use crate::state::Request;

const WORKERS: usize = 3;
const DATA_PLANES: usize = 2;
const FUNCTIONS: usize = 3;
/// The function that has one sandbox at least.
const KEPT: usize = 2;
const MOST_SANDBOXES: u32 = 6;
/// The cluster, its epoch, and what puts each of its functions, nodes and data planes.
const COMMANDS_AT_FIRST: usize = 2 + WORKERS + DATA_PLANES + FUNCTIONS;
/// While nothing happens every sandbox leaves, and is replaced. One that is granted over and over has more: four a second.
const MAX_DELTAS_AT_REST: usize = 2 * FUNCTIONS * MOST_SANDBOXES as usize;

/// One thing that happens in a history.
#[derive(Clone, Debug)]
enum Step {
    Arrive(usize, usize),
    Finish(usize, usize),
    Put(usize, bool),
    Delete(usize),
    WorkerReads(usize),
    WorkerFinishes(usize, bool),
    /// All creations of a worker wait there for others.
    WorkerQueues(usize),
    WorkerServesNext(usize),
    /// The creations of a worker wait there for longer than one may take.
    LongWait(usize),
    DeliverFromWorker(usize),
    SandboxExits(usize),
    SandboxesBreak(usize),
    DataPlaneReads(usize),
    DeliverFromDataPlane(usize),
    Samples(usize),
    Pass(u64),
    CutWorker(usize),
    KillWorker(usize),
    ConnectWorker(usize),
    CutDataPlane(usize),
    KillDataPlane(usize),
    ConnectDataPlane(usize),
    RestartControlPlane,
    /// The control plane's log loses its newest commands, and it restarts.
    SetBack(usize),
    /// Commands are durable only when that happens, from now on.
    WriteSlowly,
    Commit(usize),
    /// Time passes, and some workers send no heartbeat.
    Silence(u64, [bool; WORKERS]),
    /// The control plane's process stands still.
    StandStill(u64),
    DrainNode(usize, bool),
    RemoveNode(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (worker, data_plane, function) = (0..WORKERS, 0..DATA_PLANES, 0..FUNCTIONS);
    let node = worker.clone();
    let step = prop_oneof![
        12 => (data_plane.clone(), function.clone()).prop_map(|(d, f)| Step::Arrive(d, f)),
        10 => (data_plane.clone(), function.clone()).prop_map(|(d, f)| Step::Finish(d, f)),
        2 => (function.clone(), any::<bool>()).prop_map(|(f, changed)| Step::Put(f, changed)),
        1 => function.prop_map(Step::Delete),
        10 => worker.clone().prop_map(Step::WorkerReads),
        10 => (worker.clone(), prop::bool::weighted(0.9)).prop_map(|(w, well)| Step::WorkerFinishes(w, well)),
        3 => worker.clone().prop_map(Step::WorkerQueues),
        3 => worker.clone().prop_map(Step::WorkerServesNext),
        2 => worker.clone().prop_map(Step::LongWait),
        10 => worker.clone().prop_map(Step::DeliverFromWorker),
        1 => worker.clone().prop_map(Step::SandboxExits),
        1 => worker.clone().prop_map(Step::SandboxesBreak),
        12 => data_plane.clone().prop_map(Step::DataPlaneReads),
        14 => data_plane.clone().prop_map(Step::DeliverFromDataPlane),
        3 => data_plane.clone().prop_map(Step::Samples),
        6 => prop_oneof![Just(1), Just(100), Just(1000), Just(5000), Just(70_000)].prop_map(Step::Pass),
        1 => worker.clone().prop_map(Step::CutWorker),
        1 => worker.clone().prop_map(Step::KillWorker),
        3 => worker.prop_map(Step::ConnectWorker),
        1 => data_plane.clone().prop_map(Step::CutDataPlane),
        1 => data_plane.clone().prop_map(Step::KillDataPlane),
        3 => data_plane.prop_map(Step::ConnectDataPlane),
        1 => Just(Step::RestartControlPlane),
        1 => (1..8usize).prop_map(Step::SetBack),
        1 => Just(Step::WriteSlowly),
        4 => (1..4usize).prop_map(Step::Commit),
        2 => (prop_oneof![Just(1000), Just(2000), Just(12_000)], any::<[bool; WORKERS]>())
            .prop_map(|(ms, speak)| Step::Silence(ms, speak)),
        1 => prop_oneof![Just(600), Just(12_000)].prop_map(Step::StandStill),
        1 => (node.clone(), any::<bool>()).prop_map(|(node, drained)| Step::DrainNode(node, drained)),
        1 => node.prop_map(Step::RemoveNode),
    ];
    prop::collection::vec(step, 1..250)
}

/// What happens to links while nobody wants anything: whatever was decided or missed meanwhile, nothing is left behind.
fn disturbances() -> impl Strategy<Value = Vec<Step>> {
    let (worker, data_plane) = (0..WORKERS, 0..DATA_PLANES);
    let step = prop_oneof![
        2 => worker.clone().prop_map(Step::CutWorker),
        3 => worker.clone().prop_map(Step::ConnectWorker),
        2 => worker.prop_map(Step::DeliverFromWorker),
        2 => data_plane.clone().prop_map(Step::CutDataPlane),
        3 => data_plane.clone().prop_map(Step::ConnectDataPlane),
        2 => data_plane.clone().prop_map(Step::DataPlaneReads),
        2 => data_plane.prop_map(Step::DeliverFromDataPlane),
        1 => Just(Step::RestartControlPlane),
        5 => prop_oneof![Just(100), Just(700), Just(3000)].prop_map(Step::Pass),
        2 => (prop_oneof![Just(1000), Just(3000)], any::<[bool; WORKERS]>())
            .prop_map(|(ms, speak)| Step::Silence(ms, speak)),
        1 => prop_oneof![Just(600), Just(12_000)].prop_map(Step::StandStill),
    ];
    prop::collection::vec(step, 0..30)
}

fn spec(index: usize, changed: bool) -> FunctionSpec {
    let mut spec = FunctionSpec::new(format!("f{index}").parse().unwrap(), "any");
    spec.cpu = 200;
    spec.memory = if changed { 150 } else { 100 };
    spec.concurrency = if index == 0 { 1 } else { 2 };
    spec.scale.max = Some(MOST_SANDBOXES);
    spec.scale.min = u32::from(index == KEPT);
    spec.scale.policy = (index == 1).then(|| "dirigent".to_owned());
    // Two policies place on the same nodes, and what one found full is full for the other.
    spec.placement = (index == 0).then(|| "round-robin".to_owned());
    spec.scale.stable_window = Duration::from_secs(10);
    spec
}

fn take(cluster: &mut Cluster, step: &Step) {
    let id = |cluster: &Cluster, index: usize| cluster.function_id(&format!("f{index}"));
    match *step {
        Step::Arrive(data_plane, function) => {
            if let Some(function) = id(cluster, function) {
                cluster.data_planes[data_plane].arrive(function);
            }
        }
        Step::Finish(data_plane, function) => {
            if let Some(function) = id(cluster, function) {
                cluster.data_planes[data_plane].finish_one(function);
            }
        }
        Step::Put(function, changed) => cluster.put(spec(function, changed)),
        Step::Delete(function) => {
            let name = format!("f{function}").parse().unwrap();
            cluster.request(|reply| Request::Delete { name, reply });
        }
        Step::WorkerReads(worker) => cluster.worker_reads(worker),
        Step::WorkerFinishes(worker, well) => cluster.worker_finishes_one(worker, well),
        Step::WorkerQueues(worker) => cluster.worker_queues(worker),
        Step::WorkerServesNext(worker) => cluster.worker_serves_next(worker),
        Step::LongWait(worker) => {
            cluster.worker_reads(worker);
            cluster.worker_queues(worker);
            cluster.deliver_from_worker(worker);
            cluster.pass_with(35_000, &[true; WORKERS]);
        }
        Step::DeliverFromWorker(worker) => cluster.deliver_from_worker(worker),
        Step::SandboxExits(worker) => cluster.sandbox_exits(worker),
        Step::SandboxesBreak(worker) => cluster.sandboxes_break(worker),
        Step::DataPlaneReads(data_plane) => cluster.data_plane_reads(data_plane),
        Step::DeliverFromDataPlane(data_plane) => cluster.deliver_from_data_plane(data_plane),
        Step::Samples(data_plane) => cluster.data_plane_samples(data_plane),
        Step::Pass(ms) => cluster.pass_with(ms, &[true; WORKERS]),
        Step::StandStill(ms) => cluster.stand_still(ms),
        Step::CutWorker(worker) => cluster.cut_worker(worker),
        Step::KillWorker(worker) => cluster.kill_worker(worker),
        Step::ConnectWorker(worker) => cluster.connect_worker(worker),
        Step::CutDataPlane(data_plane) => cluster.cut_data_plane(data_plane),
        Step::KillDataPlane(data_plane) => cluster.kill_data_plane(data_plane),
        Step::ConnectDataPlane(data_plane) => cluster.connect_data_plane(data_plane),
        Step::RestartControlPlane => cluster.restart_control_plane(),
        // It keeps the functions and peers that there were at first, as a copy from then would.
        Step::SetBack(lost) => cluster.set_back(cluster.log.len().saturating_sub(lost).max(COMMANDS_AT_FIRST)),
        Step::WriteSlowly => cluster.writes_slowly = true,
        Step::Commit(most) => cluster.commit(most),
        Step::Silence(ms, speak) => cluster.pass_with(ms, &speak),
        Step::DrainNode(worker, drained) => {
            cluster.request(|reply| Request::DrainNode { name: format!("w{worker}-node"), drained, reply });
        }
        Step::RemoveNode(worker) => {
            cluster.request(|reply| Request::RemoveNode { name: format!("w{worker}-node"), reply });
        }
    }
}

/// What must hold at every moment: no sandbox's slots are held twice, or while a dead data plane's invocations run
/// there, and no node holds more than it has.
fn check_always(cluster: &Cluster) -> Result<(), TestCaseError> {
    cluster.state.assert_consistent();
    // What is acted on is what the next control plane would know.
    let log = logged(cluster.log.clone());
    prop_assert_eq!(&cluster.state.registry, &replay(&log), "acted on, and replayed");
    follows_registry(&cluster.state)?;
    let mut held: BTreeMap<(usize, u64), u32> = cluster.orphans.clone();
    for known in &cluster.data_planes {
        for (id, grant) in &known.held {
            *held.entry((grant.worker, *id)).or_default() += grant.slots;
        }
    }
    for (index, worker) in cluster.workers.iter().enumerate() {
        let (mut cpu, mut memory) = (0, 0);
        for (id, sandbox) in &worker.sandboxes {
            cpu += sandbox.cpu;
            memory += sandbox.memory;
            let slots = held.get(&(index, *id)).copied().unwrap_or(0);
            prop_assert!(slots <= sandbox.concurrency, "{slots} slots of sandbox {id} are held");
        }
        prop_assert!(cpu <= NODE_CPU && memory <= NODE_MEMORY, "{} holds {cpu} mCPU, {memory} MiB", worker.name);
    }
    check_begun_again(cluster)?;
    check_code(cluster)
}

/// A creation is commanded as soon as it is wanted, or after it has waited at a worker for as long as one may take.
fn check_begun_again(cluster: &Cluster) -> Result<(), TestCaseError> {
    let deadline = cluster.state.settings.health.creation_deadline.as_micros();
    for (id, sandbox) in cluster.state.cluster.tables.sandboxes.iter() {
        let Some(timing) = &sandbox.timing else { continue };
        let Some(commanded_us) = sandbox.commanded_us else { continue };
        let waited_us = u128::from(commanded_us - timing.requested_us);
        prop_assert!(waited_us == 0 || waited_us >= deadline, "{id} was commanded {waited_us} µs late");
    }
    Ok(())
}

/// No function has a sandbox with the program of another, as data planes and the control plane see it.
fn check_code(cluster: &Cluster) -> Result<(), TestCaseError> {
    let workers = cluster.workers.iter().enumerate();
    let sandboxes =
        workers.flat_map(|(index, worker)| worker.sandboxes.iter().map(move |(id, made)| (index, *id, made)));
    for (worker, id, sandbox) in sandboxes {
        for known in &cluster.data_planes {
            let held = known.held.get(&id).filter(|held| held.worker == worker);
            let name = held.and_then(|held| known.functions.get(&held.function));
            prop_assert!(name.is_none_or(|name| *name == sandbox.name), "{name:?} has {id} of {}", sandbox.name);
        }
        // A worker that has not come back after the log was set back may have another one of the same id.
        let node = cluster.state.cluster.tables.nodes.find(&format!("w{worker}-node"));
        let believed = cluster.state.cluster.tables.sandboxes.get(SandboxId::from_wire(id));
        let Some(believed) = believed.filter(|believed| Some(believed.node()) == node) else { continue };
        let Some(function) =
            cluster.state.cluster.tables.functions.get(believed.function()).filter(|function| !function.removed)
        else {
            continue;
        };
        let registered = &function.registered;
        prop_assert_eq!(registered.spec.name.as_str(), &sandbox.name, "a sandbox of another function");
        if registered.revision == believed.revision {
            prop_assert_eq!(u64::from(registered.spec.memory), sandbox.memory, "a sandbox of another revision");
        }
    }
    Ok(())
}

/// What must hold once everything has arrived and nobody has wanted anything for several windows.
fn check_at_rest(cluster: &Cluster) -> Result<(), TestCaseError> {
    let kept = cluster.function_id(&format!("f{KEPT}"));
    let wanted = usize::from(kept.is_some());
    for known in &cluster.data_planes {
        for (function, waiting) in &known.waiting {
            prop_assert_eq!(*waiting, 0, "invocations of function {} still wait", function);
        }
        prop_assert!(known.held.values().all(|held| Some(held.function) == kept), "others are still held");
        prop_assert!(known.broken.is_empty(), "{} broken sandboxes are still kept", known.broken.len());
    }
    let held: usize = cluster.data_planes.iter().map(|known| known.held.len()).sum();
    prop_assert_eq!(held, wanted, "as many are held as the lower bounds say");
    let existing: usize = cluster.workers.iter().map(|worker| worker.sandboxes.len()).sum();
    prop_assert_eq!(existing, wanted, "as many exist as the lower bounds say");
    prop_assert_eq!(
        cluster.state.cluster.tables.sandboxes.len(),
        wanted,
        "and the control plane believes in no others"
    );
    let reserved: usize = cluster.state.cluster.tables.nodes.iter().map(|(_, node)| node.sandboxes().len()).sum();
    prop_assert_eq!(reserved, wanted);
    Ok(())
}

/// One invocation of each sandbox that is held ends.
fn finish_all(cluster: &mut Cluster) {
    for known in &mut cluster.data_planes {
        let functions: Vec<_> = known.held.values().map(|held| held.function).collect();
        functions.into_iter().for_each(|function| known.finish_one(function));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn slots_are_never_granted_twice_nodes_never_overfilled_and_nothing_is_left_behind(
        steps in steps(),
        disturbances in disturbances(),
    ) {
        let mut cluster = Cluster::new(WORKERS, DATA_PLANES);
        (0..FUNCTIONS).for_each(|index| cluster.put(spec(index, false)));
        (0..DATA_PLANES).for_each(|data_plane| cluster.data_plane_reads(data_plane));
        for step in &steps {
            take(&mut cluster, step);
            check_always(&cluster)?;
        }
        // Demand that remains is served …
        cluster.writes_slowly = false;
        cluster.commit(usize::MAX);
        for worker in 0..WORKERS {
            cluster.request(|reply| Request::DrainNode { name: format!("w{worker}-node"), drained: false, reply });
        }
        cluster.quiesce(60);
        check_always(&cluster)?;
        for known in &cluster.data_planes {
            for (function, waiting) in &known.waiting {
                let running: u32 = cluster.data_planes.iter().map(|known| known.running(*function)).sum();
                prop_assert!(*waiting == 0 || running > 0, "{waiting} invocations of {function} wait and none runs");
            }
        }
        // … by sandboxes that stay where they are: each may leave once, and another one come, but none is granted, given back
        // and granted again …
        let deltas_read = |cluster: &Cluster| cluster.data_planes.iter().map(|known| known.deltas_read).sum::<usize>();
        let before = deltas_read(&cluster);
        cluster.quiesce(20);
        let read = deltas_read(&cluster) - before;
        prop_assert!(read <= MAX_DELTAS_AT_REST, "nothing happens, and there are {read} deltas");
        // … and then everything ends.
        for _ in 0..200 {
            finish_all(&mut cluster);
            cluster.quiesce(1);
        }
        // … also when links break while its last sandboxes are idle.
        for index in 0..FUNCTIONS {
            if let Some(function) = cluster.function_id(&format!("f{index}")) {
                cluster.data_planes[index % DATA_PLANES].arrive(function);
            }
        }
        cluster.quiesce(2);
        finish_all(&mut cluster);
        cluster.quiesce(2);
        for step in &disturbances {
            take(&mut cluster, step);
            check_always(&cluster)?;
        }
        cluster.quiesce(120);
        check_at_rest(&cluster)?;
    }
}

/// A data plane dies while it holds a sandbox, and its worker has not read the deletion when the control plane restarts.
#[test]
fn a_sandbox_whose_holder_is_lost_is_not_granted_after_restarts() {
    let removed = [Step::ConnectWorker(0), Step::Pass(70_000), Step::RestartControlPlane];
    // The second restart comes while the other data plane is awaited, so that nothing is decided yet.
    let restarted_twice = [Step::ConnectWorker(0), Step::WorkerReads(0), Step::RestartControlPlane];
    let new_process = [Step::ConnectDataPlane(0), Step::DataPlaneReads(0), Step::RestartControlPlane];
    let new_process_after_restart = [
        Step::RestartControlPlane,
        Step::ConnectWorker(0),
        Step::ConnectDataPlane(0),
        Step::WorkerReads(0),
        Step::DataPlaneReads(0),
        Step::RestartControlPlane,
    ];
    for history in [
        removed.to_vec(),
        [removed, restarted_twice].concat(),
        new_process.to_vec(),
        new_process_after_restart.to_vec(),
    ] {
        let mut cluster = Cluster::new(WORKERS, DATA_PLANES);
        (0..FUNCTIONS).for_each(|index| cluster.put(spec(index, false)));
        (0..DATA_PLANES).for_each(|data_plane| cluster.data_plane_reads(data_plane));
        let begun = [
            Step::CutWorker(1),
            Step::LongWait(0),
            Step::LongWait(0),
            Step::WorkerReads(0),
            Step::WorkerFinishes(0, true),
            Step::DeliverFromWorker(0),
            Step::Arrive(0, 2),
            Step::DataPlaneReads(0),
            Step::KillDataPlane(0),
        ];
        for step in begun.iter().chain(&history) {
            take(&mut cluster, step);
            check_always(&cluster).unwrap_or_else(|error| panic!("{history:?}, at {step:?}: {error}"));
        }
        assert!(!cluster.orphans.is_empty(), "{history:?}: invocations of the lost holder still run");
        cluster.quiesce(60);
        check_always(&cluster).unwrap_or_else(|error| panic!("{history:?}: {error}"));
    }
}
