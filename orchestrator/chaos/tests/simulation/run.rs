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
    fault::Planned,
    host::Host,
    invariants::{self, Violation},
    ledger::{Entry, Ledger},
    operator, panics,
    scenario::{DATA_PLANES, LOAD_UNTIL_MS, Scenario},
    weather::{Killed, Weather},
};

/// Simulated time per step: messages arrive at the beginning of one. Half the steps take half the time of the test.
const STEP: Duration = Duration::from_millis(2);
/// A run that takes longer hangs: load, its last answers, and a minute for looking at everything at rest.
const LONGEST: Duration = Duration::from_millis(LOAD_UNTIL_MS + client::ANSWER_WITHIN_MS + 60_000);
/// Segments that may wait at a socket, and connections at a listener; the simulation panics beyond the latter.
const SOCKET_CAPACITY: usize = 4096;

/// When a machine crashes, tokio drops its tasks in as many groups as this, by their ids; and ids are counted over the
/// whole process. So a run begins at the same place in that cycle, and no other one takes ids meanwhile.
const TASK_SHARDS: u64 = 4;
static ALONE: Mutex<()> = Mutex::new(());

/// Events shown before the one in which two runs differ.
const EVENTS_SHOWN: usize = 8;

/// A run that has ended.
pub(crate) struct Run {
    /// What it was.
    pub(crate) scenario: Arc<Scenario>,
    /// All that happened.
    pub(crate) entries: Vec<Entry>,
    /// Where it went wrong.
    pub(crate) violations: Vec<Violation>,
}

impl Run {
    /// Runs `scenario`.
    pub(crate) fn of(scenario: Scenario) -> Self {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        align_task_ids();
        panics::watch();
        let panics_before = panics::count();
        let scenario = Arc::new(scenario);
        let ledger = Ledger::default();
        let ended = simulate(&scenario, &ledger);
        let entries = ledger.take();
        let mut violations = invariants::check(&scenario, &entries);
        if let Err(error) = ended {
            let at_ms = ledger.now_ms();
            violations.push(Violation { invariant: "the run ends", at_ms, what: error.to_string() });
        }
        let panics = panics::count() - panics_before;
        if panics > 0 {
            let what = format!("{panics} tasks panicked: see standard error");
            violations.push(Violation { invariant: "no task panics", at_ms: ledger.now_ms(), what });
        }
        Self { scenario, entries, violations }
    }

    /// Where the events of two runs part, with the events before; `None` when they are the same.
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

fn simulate(scenario: &Arc<Scenario>, ledger: &Ledger) -> turmoil::Result {
    let (least_ms, most_ms) = scenario.latency_ms;
    let mut sim = turmoil::Builder::new()
        .rng_seed(scenario.seed)
        .tick_duration(STEP)
        .simulation_duration(LONGEST)
        .min_message_latency(Duration::from_millis(least_ms))
        .max_message_latency(Duration::from_millis(most_ms))
        .tcp_capacity(SOCKET_CAPACITY)
        .build();
    let killed = Killed::default();
    Cluster::new(scenario.clone(), ledger.clone(), killed.clone()).start(&mut sim);
    for number in 1..=DATA_PLANES {
        sim.client(Host::Client(number).name(), client::run(scenario.clone(), number, ledger.clone()));
    }
    sim.client(Host::Operator.name(), operator::run(scenario.clone(), ledger.clone()));
    let all = Cluster::hosts().into_iter().chain((1..=DATA_PLANES).map(Host::Client)).chain([Host::Operator]);
    let mut weather = Weather::new(&scenario.faults, all.collect(), killed, ledger.clone());
    while !sim.step()? {
        let now_ms = u64::try_from(sim.elapsed().as_millis())?;
        ledger.set_now_ms(now_ms);
        weather.advance(&mut sim, now_ms);
    }
    Ok(())
}

/// The run in one paragraph: what it was, what came of it, and every violation.
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
