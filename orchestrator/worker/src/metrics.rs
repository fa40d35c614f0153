//! The metrics of the worker, in the text format of Prometheus.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use service::{Histogram, micros};

use crate::state::{STATES, SandboxSummary};

/// The outcome of a creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ready,
    Failed,
    Cancelled,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

/// The worker's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    /// The counters of the family `creations`, looked up once: creations come by the thousand.
    ready: Counter,
    failed: Counter,
    cancelled: Counter,
    creation_seconds: Histogram,
    sandboxes: Family<StateLabel, Gauge>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let creations = Family::<OutcomeLabel, Counter>::default();
        let creation_seconds = Histogram::default();
        let sandboxes = Family::<StateLabel, Gauge>::default();
        let mut registry = Registry::with_prefix("dirigent_worker");
        registry.register("creations", "Creations that came to an end", creations.clone());
        let help = "From reading the command to the sandbox being ready, in seconds";
        registry.register("creation_seconds", help, creation_seconds.clone());
        registry.register("sandboxes", "Sandboxes held", sandboxes.clone());
        let counter = |outcome| creations.get_or_create(&OutcomeLabel { outcome }).clone();
        let (ready, failed, cancelled) = (counter("ready"), counter("failed"), counter("cancelled"));
        Self { registry, ready, failed, cancelled, creation_seconds, sandboxes }
    }

    /// Counts a creation that finished `took` after its command was read.
    pub(crate) fn creation(&self, outcome: Outcome, took: Duration) {
        match outcome {
            Outcome::Ready => {
                self.ready.inc();
                self.creation_seconds.observe_us(micros(took));
            }
            Outcome::Failed => drop(self.failed.inc()),
            Outcome::Cancelled => drop(self.cancelled.inc()),
        }
    }

    /// All metrics in the text format, with the current `sandboxes`.
    pub(crate) fn text(&self, sandboxes: &[SandboxSummary]) -> String {
        for state in STATES {
            let count = sandboxes.iter().filter(|sandbox| sandbox.state == state).count();
            self.sandboxes.get_or_create(&StateLabel { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String does not fail");
        text
    }
}
