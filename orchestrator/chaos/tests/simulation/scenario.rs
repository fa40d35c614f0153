//! Everything that a seed determines: the network, the cluster, the functions, the load and the faults.
//!
//! A run has three phases: faults under load; load after the last fault, which must all be served; no load.

use std::time::Duration;

use model::{FunctionSpec, Queue};
use rand::{Rng, RngExt, SeedableRng, seq::IndexedRandom};
use rand_pcg::Pcg64;

use super::{
    event::CallId,
    fault::{Fault, Planned},
    host::Host,
};

/// Data planes of every run.
pub(crate) const DATA_PLANES: usize = 2;
/// Workers of every run: with four or more, the control plane suspects its own network if more than 30 % miss
/// heartbeats together.
pub(crate) const WORKERS: usize = 4;
/// Functions of every run.
pub(crate) const FUNCTIONS: usize = 8;
/// Functions from this one on are called so rarely that most of their calls are cold.
const RARE_FROM: usize = 5;
/// Of the calls that are for none of the functions before, this share is for the next one.
const SHARE: f64 = 0.45;

/// Beginning of the load: everything is connected and registered by then.
pub(crate) const LOAD_FROM_MS: u64 = 2_000;
/// The earliest fault: sandboxes are warm by then.
const FAULTS_FROM_MS: u64 = 4_000;
/// The end of the last fault.
const FAULTS_UNTIL_MS: u64 = 14_000;
/// End of the load. The invocations of the last seconds must all be served.
pub(crate) const LOAD_UNTIL_MS: u64 = 26_000;

/// Longest wait for a slot.
pub(crate) const QUEUE_DEADLINE_MS: u64 = 5_000;
/// Longest run of an invocation.
pub(crate) const TIMEOUT_MS: u64 = 2_000;
/// A worker without heartbeats is dead after this; shorter than the default, so that runs are short.
pub(crate) const DEAD_AFTER_MS: u64 = 4_000;
/// A vanished data plane keeps its slots for this long; shorter than the default, so that runs are short.
pub(crate) const DATA_PLANE_GRACE_MS: u64 = 5_000;

/// A broken connection between components is detected within 4 s (a ping each second, without a response for three),
/// and a new one found within 3 s (a connection attempt takes 2 s at most, the pause between two less than 1 s).
pub(crate) const RECONNECT_MS: u64 = 7_000;

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// The seed of all of it.
    pub(crate) seed: u64,
    /// Least and greatest time that a message takes from one machine to another.
    pub(crate) latency_ms: (u64, u64),
    /// Time that the creation of a sandbox takes.
    pub(crate) creation_ms: u64,
    /// Nodes of each worker.
    pub(crate) nodes: u32,
    /// CPU of each node; a sandbox reserves 100 millicores.
    pub(crate) node_cpu: &'static str,
    /// Placement policy.
    pub(crate) placement: &'static str,
    /// Load balancing policy.
    pub(crate) balance: &'static str,
    pub(crate) functions: Vec<FunctionSpec>,
    /// The invocations, in the order of time.
    pub(crate) calls: Vec<Call>,
    pub(crate) faults: Vec<Planned>,
}

/// One invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// Its number.
    pub(crate) id: CallId,
    /// The time at which it is sent.
    pub(crate) at_ms: u64,
    /// The function's index.
    pub(crate) function: usize,
    /// Number of the data plane it is sent to.
    pub(crate) data_plane: usize,
    /// The requested run time.
    pub(crate) run_ms: u64,
    /// Length of its body; a POST then, a GET without.
    pub(crate) body_bytes: Option<usize>,
    /// The client closes the connection after this time if there is no response yet.
    pub(crate) abandon_after_ms: Option<u64>,
}

impl Scenario {
    /// The run of `seed`.
    pub(crate) fn of_seed(seed: u64) -> Self {
        // A random stream for each kind of parameter, so that a change of one kind does not change the others.
        let stream = |number| Pcg64::seed_from_u64(seed.wrapping_mul(8).wrapping_add(number));
        let mut random = stream(0);
        let min_ms = random.random_range(0..=1);
        Self {
            seed,
            latency_ms: (min_ms, min_ms + random.random_range(1..=9)),
            creation_ms: random.random_range(10..=120),
            nodes: random.random_range(1..=2),
            node_cpu: pick(&mut random, &["600m", "1", "4"]),
            placement: pick(&mut random, &["power-of-two", "random"]),
            balance: pick(&mut random, &["least-loaded", "round-robin"]),
            functions: functions(&mut stream(1)),
            calls: calls(&mut stream(2)),
            faults: faults(&mut stream(3)),
        }
    }

    /// The name of the function that is called.
    pub(crate) fn function_name(&self, call: &Call) -> String {
        self.functions[call.function].name.to_string()
    }
}

fn pick<T: Copy>(random: &mut impl Rng, choices: &[T]) -> T {
    *choices.choose(random).expect("a choice is never empty")
}

fn functions(random: &mut Pcg64) -> Vec<FunctionSpec> {
    let function = |index: usize| {
        let name = format!("f{index}").parse().expect("a letter and a digit are a name");
        let mut spec = FunctionSpec::new(name, "builtin:function");
        spec.timeout = Duration::from_millis(TIMEOUT_MS);
        spec.queue = Queue { deadline: Duration::from_millis(QUEUE_DEADLINE_MS), limit: 1_000 };
        spec.scale.stable_window = Duration::from_secs(random.random_range(1..=6));
        match index {
            0 => spec.scale.min = random.random_range(1..=2),
            1 => spec.concurrency = random.random_range(2..=4),
            2 => spec.scale.max = Some(random.random_range(2..=3)),
            3 => {
                spec.scale.policy = Some("kpa".to_owned());
                spec.scale.stable_window = Duration::from_secs(6);
                spec.scale.scale_to_zero_grace = Duration::from_secs(2);
            }
            RARE_FROM.. => spec.scale.stable_window = Duration::from_secs(1),
            _ => {}
        }
        spec
    };
    (0..FUNCTIONS).map(function).collect()
}

/// Poisson arrivals at each data plane, and at the end one call of each function through each data plane.
fn calls(random: &mut Pcg64) -> Vec<Call> {
    let mut calls = Vec::new();
    for data_plane in 1..=DATA_PLANES {
        let mean = Duration::from_millis(random.random_range(40..100));
        let mut at = Duration::from_millis(LOAD_FROM_MS);
        loop {
            // Exponential gaps. The logarithm of 0 would be infinite.
            at += mean.mul_f64(-random.random_range(f64::MIN_POSITIVE..1.0).ln());
            let at_ms = u64::try_from(at.as_millis()).expect("runs are short");
            if at_ms >= LOAD_UNTIL_MS {
                break;
            }
            calls.push(Call {
                id: 0,
                at_ms,
                function: (0..FUNCTIONS - 1).find(|_| random.random_bool(SHARE)).unwrap_or(FUNCTIONS - 1),
                data_plane,
                run_ms: if random.random_bool(0.1) {
                    random.random_range(300..900)
                } else {
                    random.random_range(1..60)
                },
                body_bytes: random.random_bool(0.3).then(|| random.random_range(0..3_000)),
                abandon_after_ms: random.random_bool(0.2).then(|| random.random_range(1..200)),
            });
        }
        // After all faults every function must be served, also those that are rarely called.
        let last = |function| Call {
            id: 0,
            at_ms: LOAD_UNTIL_MS,
            function,
            data_plane,
            run_ms: 5,
            body_bytes: None,
            abandon_after_ms: None,
        };
        calls.extend((0..FUNCTIONS).map(last));
    }
    calls.sort_by_key(|call| call.at_ms);
    // Numbered by time, over both data planes.
    calls.iter_mut().zip(1..).for_each(|(call, id)| call.id = id);
    calls
}

fn data_plane(random: &mut Pcg64) -> Host {
    Host::DataPlane(random.random_range(1..=DATA_PLANES))
}

fn worker(random: &mut Pcg64) -> Host {
    Host::Worker(random.random_range(1..=WORKERS))
}

/// A link between two components.
fn link(random: &mut Pcg64) -> (Host, Host) {
    match random.random_range(0..3) {
        0 => (data_plane(random), Host::ControlPlane),
        1 => (worker(random), Host::ControlPlane),
        _ => (data_plane(random), worker(random)),
    }
}

/// Always a cut link and a killed or lost worker; in every other run more.
fn faults(random: &mut Pcg64) -> Vec<Planned> {
    let (a, b) = link(random);
    let mut faults = vec![plan(random, Fault::Cut(a, b), 200..6_000)];
    let victim = worker(random);
    let end = if random.random_bool(0.5) { Fault::Kill(victim) } else { Fault::Lose(victim) };
    faults.push(plan(random, end, 50..9_000));
    if random.random_bool(0.5) {
        storm(random, &mut faults);
    }
    faults.sort_by_key(|plan| plan.from_ms);
    faults
}

/// More faults of every kind. Runs without them have times with a single fault, which exempts less.
fn storm(random: &mut Pcg64, faults: &mut Vec<Planned>) {
    if random.random_bool(0.5) {
        faults.push(plan(random, Fault::Kill(Host::ControlPlane), 5..2_500));
    }
    if random.random_bool(0.35) {
        let (a, b) = link(random);
        faults.push(plan(random, Fault::Stall(a, b), 50..2_500));
    }
    if random.random_bool(0.35) {
        let (a, b) = link(random);
        faults.push(plan(random, Fault::Cut(a, b), 200..8_000));
    }
    if random.random_bool(0.35) {
        let victim = data_plane(random);
        let end = if random.random_bool(0.7) { Fault::Kill(victim) } else { Fault::Lose(victim) };
        faults.push(plan(random, end, 5..7_000));
    }
}

fn plan(random: &mut Pcg64, fault: Fault, length_ms: std::ops::Range<u64>) -> Planned {
    let length_ms = random.random_range(length_ms);
    let from_ms = random.random_range(FAULTS_FROM_MS..FAULTS_UNTIL_MS - length_ms);
    Planned { fault, from_ms, until_ms: from_ms + length_ms }
}
