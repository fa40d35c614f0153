//! One run: builds the simulated network and steps it to its end, while faults come and go.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    client,
    cluster::Cluster,
    event_log::{Entry, EventLog},
    fault::Planned,
    fault_injector::{FaultInjector, KilledHosts},
    host::Host,
    invariants::{self, Violation},
    operator, panics,
    scenario::{DATA_PLANES, LOAD_UNTIL_MS, Scenario},
};

/// Simulated time per step. Messages arrive at the beginning of a step. A longer step makes the test faster.
const STEP: Duration = Duration::from_millis(2);
/// A run that takes longer hangs: the load, its last responses, and a minute for the comparisons without load.
const MAX_RUN_TIME: Duration = Duration::from_millis(LOAD_UNTIL_MS + client::RESPONSE_TIMEOUT_MS + 60_000);
/// Segments that may wait at a socket, and connections at a listener; the simulation panics beyond the latter.
const SOCKET_CAPACITY: usize = 4096;

/// The number of groups, by task id, in which tokio drops the tasks of a crashed machine. Ids are counted over the
/// whole process, so each run starts at the same id modulo this number, and no other run takes ids meanwhile.
const TASK_SHARDS: u64 = 4;
static EXCLUSIVE: Mutex<()> = Mutex::new(());

/// Events shown before the one in which two runs differ.
const EVENTS_SHOWN: usize = 8;

/// A run that has ended.
pub(crate) struct Run {
    pub(crate) scenario: Arc<Scenario>,
    /// All events.
    pub(crate) entries: Vec<Entry>,
    pub(crate) violations: Vec<Violation>,
}

impl Run {
    /// Runs `scenario`.
    pub(crate) fn of(scenario: Scenario) -> Self {
        let _exclusive = EXCLUSIVE.lock().unwrap_or_else(PoisonError::into_inner);
        align_task_ids();
        panics::watch();
        let panics_before = panics::count();
        let scenario = Arc::new(scenario);
        let event_log = EventLog::default();
        let ended = simulate(&scenario, &event_log);
        let entries = event_log.take();
        let mut violations = invariants::check(&scenario, &entries);
        if let Err(error) = ended {
            let at_ms = event_log.now_ms();
            violations.push(Violation { invariant: "the run ends", at_ms, what: error.to_string() });
        }
        let panics = panics::count() - panics_before;
        if panics > 0 {
            let what = format!("{panics} tasks panicked: see standard error");
            violations.push(Violation { invariant: "no task panics", at_ms: event_log.now_ms(), what });
        }
        Self { scenario, entries, violations }
    }

    /// The first difference between the events of two runs, with the events before it; `None` if they are equal.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let most = self.entries.len().max(other.entries.len());
        let index = (0..most).find(|&index| self.entries.get(index) != other.entries.get(index))?;
        let show = |entry: Option<&Entry>| entry.map_or_else(|| "nothing more".to_owned(), ToString::to_string);
        let before = self.entries[index.saturating_sub(EVENTS_SHOWN)..index].iter().map(|entry| format!("{entry}\n"));
        let (one, another) = (show(self.entries.get(index)), show(other.entries.get(index)));
        Some(format!("after event {index}\n{}one run has\n{one}\nthe other\n{another}", before.collect::<String>()))
    }
}

/// Takes task ids until the next one is a multiple of [`TASK_SHARDS`].
fn align_task_ids() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    let mut last = 0;
    while last % TASK_SHARDS != TASK_SHARDS - 1 {
        last = runtime.spawn(async {}).id().to_string().parse().expect("a task id is a number");
    }
}

fn simulate(scenario: &Arc<Scenario>, event_log: &EventLog) -> turmoil::Result {
    let (min_ms, max_ms) = scenario.latency_ms;
    let mut sim = turmoil::Builder::new()
        .rng_seed(scenario.seed)
        .tick_duration(STEP)
        .simulation_duration(MAX_RUN_TIME)
        .min_message_latency(Duration::from_millis(min_ms))
        .max_message_latency(Duration::from_millis(max_ms))
        .tcp_capacity(SOCKET_CAPACITY)
        .build();
    let killed = KilledHosts::default();
    Cluster::new(scenario.clone(), event_log.clone(), killed.clone()).start(&mut sim);
    for number in 1..=DATA_PLANES {
        sim.client(Host::Client(number).name(), client::run(scenario.clone(), number, event_log.clone()));
    }
    sim.client(Host::Operator.name(), operator::run(scenario.clone(), event_log.clone()));
    let all = Cluster::hosts().into_iter().chain((1..=DATA_PLANES).map(Host::Client)).chain([Host::Operator]);
    let mut fault_injector = FaultInjector::new(&scenario.faults, all.collect(), killed, event_log.clone());
    while !sim.step()? {
        let now_ms = u64::try_from(sim.elapsed().as_millis())?;
        // Faults change between two steps, so that all machines see a change at the same time.
        event_log.set_now_ms(now_ms);
        fault_injector.advance(&mut sim, now_ms);
    }
    Ok(())
}

/// The run in one paragraph: its parameters, its outcomes, and every violation.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario { seed, latency_ms, creation_ms, nodes, node_cpu, placement, balance, calls, faults, .. } =
            &*self.scenario;
        writeln!(
            f,
            "seed {seed}: latency {}-{} ms, creation {creation_ms} ms, {nodes} nodes of {node_cpu} a worker, {placement}, {balance}, \
             {} calls, {} events",
            latency_ms.0,
            latency_ms.1,
            calls.len(),
            self.entries.len(),
        )?;
        for Planned { fault, from_ms, until_ms } in faults {
            writeln!(f, "  fault: {fault}, {from_ms} to {until_ms} ms")?;
        }
        let mut ends: BTreeMap<String, u32> = BTreeMap::new();
        for end in self.entries.iter().filter_map(|entry| entry.event.end()) {
            *ends.entry(end).or_default() += 1;
        }
        let ends: Vec<_> = ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
        writeln!(f, "  {}", ends.join(", "))?;
        for violation in &self.violations {
            writeln!(f, "  VIOLATION {violation}")?;
        }
        Ok(())
    }
}
