//! Histograms of the phases of all creations, and of the time that inputs wait for the owner.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::MetricType,
    registry::Unit,
};
use service::Histogram;

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
    phases: [Histogram; PHASES.len()],
    /// From reading a message of a peer to handling it: how far the owner is behind its streams.
    pub(crate) input_wait: Histogram,
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
                phase.observe_us(us);
            }
        }
    }

    /// Every phase by name.
    pub(crate) fn phases(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
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
        for (name, histogram) in self.0.phases() {
            histogram.encode(family.encode_family(&[("phase", name)])?)?;
        }
        let help = "From reading a message of a data plane or worker to handling it";
        self.0.input_wait.encode(encoder.encode_descriptor("input_wait", help, unit, kind)?)
    }
}
