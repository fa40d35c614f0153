//! Histograms of the phases of all creations, and of the time that inputs wait for the owner.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use super::durations::Durations;

/// The phases of a creation that the control plane knows, as the glossary names them.
pub(crate) const PHASES: [&str; 8] =
    ["decide", "place", "dispatch", "create", "ready", "publish", "net_worker", "net_dataplane"];

/// Durations of the phases of one creation, in microseconds; `None` for those that it did not reach.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Phases {
    pub(crate) decide_us: Option<u64>,
    pub(crate) place_us: Option<u64>,
    pub(crate) dispatch_us: Option<u64>,
    pub(crate) create_us: Option<u64>,
    pub(crate) ready_us: Option<u64>,
    pub(crate) publish_us: Option<u64>,
    pub(crate) net_worker_us: Option<u64>,
    pub(crate) net_dataplane_us: Option<u64>,
}

/// The durations that the owner task observes.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// In the order of [`PHASES`].
    phases: [Durations; PHASES.len()],
    /// From reading a message of a peer to handling it: how far the owner is behind its streams.
    pub(crate) input_wait: Durations,
}

impl Observed {
    /// Takes over what was measured of one creation; phases that it did not reach are not counted.
    pub(crate) fn creation(&self, measured: &Phases) {
        let measured_us = [
            measured.decide_us,
            measured.place_us,
            measured.dispatch_us,
            measured.create_us,
            measured.ready_us,
            measured.publish_us,
            measured.net_worker_us,
            measured.net_dataplane_us,
        ];
        for (phase, us) in self.phases.iter().zip(measured_us) {
            if let Some(us) = us {
                phase.record(us);
            }
        }
    }

    /// Every phase by name.
    pub(crate) fn phases(&self) -> impl Iterator<Item = (&'static str, &Durations)> {
        PHASES.into_iter().zip(&self.phases)
    }
}

/// Shows the histograms at each scrape.
#[derive(Debug)]
pub(super) struct Scrape(pub(super) Arc<Observed>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (kind, unit) = (MetricType::Histogram, Some(&Unit::Seconds));
        let help = "Phases of sandbox creations, each as long as a creation reached it";
        let mut family = encoder.encode_descriptor("creation_phase", help, unit, kind)?;
        for (name, durations) in self.0.phases() {
            let (sum, buckets) = durations.by_doubling();
            let count = buckets.iter().map(|(_, count)| count).sum();
            let label = [("phase", name)];
            let mut phase = family.encode_family(&label)?;
            phase.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        let (sum, buckets) = self.0.input_wait.by_doubling();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let help = "From reading a message of a data plane or worker to handling it";
        let mut waits = encoder.encode_descriptor("input_wait", help, unit, MetricType::Histogram)?;
        waits.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}
