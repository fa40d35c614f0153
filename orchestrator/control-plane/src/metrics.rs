//! Prometheus metrics of the control plane. Names carry their unit; labels are bounded.

mod phases;

use std::sync::Arc;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use service::Histogram;

pub(crate) use self::phases::Phases;
use self::phases::{Observed, Scrape};

use crate::state::{ClusterView, CreationOutcome, Timing};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabel {
    outcome: &'static str,
}

/// All counters, gauges and histograms of a control plane.
pub(crate) struct Metrics {
    pub(crate) registry: Registry,
    pub(crate) creations: Counter,
    /// The counters of the family `creations_ended`, looked up once: creations come by the thousand.
    creations_ready: Counter,
    creations_failed: Counter,
    creations_cancelled: Counter,
    pub(crate) observed: Arc<Observed>,
    creation_seconds: Histogram,
    pub(crate) placement_failures: Counter,
    pub(crate) endpoint_failures: Counter,
    pub(crate) sandbox_exits: Counter,
    pub(crate) self_suspicion: Gauge,
    pub(crate) commands: Counter,
    pub(crate) commit_seconds: Histogram,
    pub(crate) log_entries: Gauge,
    pub(crate) log_compactions: Counter,
    pub(crate) compaction_seconds: Histogram,
    pub(crate) inbox: Gauge,
    functions: Gauge,
    sandboxes_ready: Gauge,
    sandboxes_starting: Gauge,
    sandboxes_leaving: Gauge,
    granted_slots: Gauge,
    waiting: Gauge,
    running: Gauge,
    nodes_ready: Gauge,
    nodes_suspect: Gauge,
    nodes_dead: Gauge,
    data_planes: Gauge,
    unschedulable: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let creations_ended = Family::<OutcomeLabel, Counter>::default();
        let by_outcome =
            |outcome: CreationOutcome| creations_ended.get_or_create_owned(&OutcomeLabel { outcome: outcome.name() });
        let mut metrics = Self {
            registry: Registry::with_prefix("dirigent_control_plane"),
            creations: Counter::default(),
            creations_ready: by_outcome(CreationOutcome::Ready),
            creations_failed: by_outcome(CreationOutcome::Failed),
            creations_cancelled: by_outcome(CreationOutcome::Cancelled),
            observed: Arc::default(),
            creation_seconds: Histogram::default(),
            placement_failures: Counter::default(),
            endpoint_failures: Counter::default(),
            sandbox_exits: Counter::default(),
            self_suspicion: Gauge::default(),
            commands: Counter::default(),
            commit_seconds: Histogram::default(),
            log_entries: Gauge::default(),
            log_compactions: Counter::default(),
            compaction_seconds: Histogram::default(),
            inbox: Gauge::default(),
            functions: Gauge::default(),
            sandboxes_ready: Gauge::default(),
            sandboxes_starting: Gauge::default(),
            sandboxes_leaving: Gauge::default(),
            granted_slots: Gauge::default(),
            waiting: Gauge::default(),
            running: Gauge::default(),
            nodes_ready: Gauge::default(),
            nodes_suspect: Gauge::default(),
            nodes_dead: Gauge::default(),
            data_planes: Gauge::default(),
            unschedulable: Gauge::default(),
        };
        metrics.registry.register("creations_ended", "Sandbox creations by outcome", creations_ended);
        metrics.registry.register_collector(Box::new(Scrape(metrics.observed.clone())));
        metrics.register_events();
        metrics.register_gauges();
        metrics
    }

    fn register_events(&mut self) {
        let registry = &mut self.registry;
        registry.register("creations", "Sandbox creations started", self.creations.clone());
        let help = "From demand received to endpoint acknowledged";
        registry.register_with_unit("creation", help, Unit::Seconds, self.creation_seconds.clone());
        registry.register(
            "placement_failures",
            "Placements for which no node had room",
            self.placement_failures.clone(),
        );
        let help = "Sandboxes that a data plane could not reach";
        registry.register("endpoint_failures", help, self.endpoint_failures.clone());
        registry.register("sandbox_exits", "Sandboxes that exited by themselves", self.sandbox_exits.clone());
        registry.register("commands", "Commands written to the log", self.commands.clone());
        let help = "Time until a batch of commands is durable";
        registry.register_with_unit("commit", help, Unit::Seconds, self.commit_seconds.clone());
        let help = "Compactions of the command log while running";
        registry.register("log_compactions", help, self.log_compactions.clone());
        let help = "Duration of a compaction step, which may delay a batch of commands";
        registry.register_with_unit("log_compaction", help, Unit::Seconds, self.compaction_seconds.clone());
    }

    fn register_gauges(&mut self) {
        let registry = &mut self.registry;
        registry.register("inbox", "Inputs handled together in the last round", self.inbox.clone());
        let help = "1 while so many workers are unresponsive at once that none is replaced";
        registry.register("self_suspicion", help, self.self_suspicion.clone());
        registry.register("log_entries", "Commands in the command log", self.log_entries.clone());
        registry.register("functions", "Registered functions", self.functions.clone());
        registry.register("sandboxes_ready", "Sandboxes that receive invocations", self.sandboxes_ready.clone());
        registry.register("sandboxes_starting", "Sandboxes being created", self.sandboxes_starting.clone());
        registry.register("sandboxes_leaving", "Sandboxes that drain or terminate", self.sandboxes_leaving.clone());
        registry.register("granted_slots", "Slots granted to data planes", self.granted_slots.clone());
        registry.register("waiting", "Invocations without a slot, as last reported", self.waiting.clone());
        registry.register("running", "Invocations running, as last reported", self.running.clone());
        registry.register("nodes_ready", "Nodes that send heartbeats in time", self.nodes_ready.clone());
        registry.register("nodes_suspect", "Nodes with missed heartbeats", self.nodes_suspect.clone());
        registry.register("nodes_dead", "Nodes whose sandboxes are replaced", self.nodes_dead.clone());
        registry.register("data_planes", "Connected data planes", self.data_planes.clone());
        registry.register(
            "functions_unschedulable",
            "Functions that wait for room on a node",
            self.unschedulable.clone(),
        );
    }

    /// Counts the end of a creation.
    pub(crate) fn creation_ended(&self, outcome: CreationOutcome, timing: &Timing) {
        match outcome {
            CreationOutcome::Ready => self.creations_ready.inc(),
            CreationOutcome::Failed => self.creations_failed.inc(),
            CreationOutcome::Cancelled => self.creations_cancelled.inc(),
        };
        if outcome == CreationOutcome::Ready
            && let Some(published_us) = timing.published_us
        {
            self.creation_seconds.observe_us(published_us.saturating_sub(timing.requested_us));
        }
    }

    /// Sets the gauges of what the state counts, at each scrape: kept up to date, they would cost every change.
    pub(crate) fn set_gauges(&self, cluster: &ClusterView) {
        let set = |gauge: &Gauge, value: usize| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        self.granted_slots.set(i64::try_from(cluster.granted_slots).unwrap_or(i64::MAX));
        self.waiting.set(cluster.waiting.into());
        self.running.set(cluster.running.into());
        set(&self.sandboxes_leaving, cluster.sandboxes_leaving);
        set(&self.nodes_dead, cluster.nodes_dead);
        set(&self.functions, cluster.functions);
        set(&self.sandboxes_ready, cluster.sandboxes_ready);
        set(&self.sandboxes_starting, cluster.sandboxes_starting);
        set(&self.nodes_ready, cluster.nodes_ready);
        set(&self.nodes_suspect, cluster.nodes_suspect);
        set(&self.data_planes, cluster.data_planes.len());
        set(&self.unschedulable, cluster.functions_unschedulable);
    }
}
