//! Exports a data plane's metrics to Prometheus; gauges are read at each scrape.

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use service::Histogram;

use crate::plane::Plane;

/// Collects the metrics of a data plane.
pub(super) struct Scrape {
    plane: Arc<Plane>,
}

impl Scrape {
    pub(super) fn new(plane: Arc<Plane>) -> Self {
        Self { plane }
    }

    /// Gauges as (name, help, value), computed only when scraped.
    fn gauges(&self) -> [(&'static str, &'static str, i64); 9] {
        let plane = &self.plane;
        let (mut waiting, mut running, mut granted) = (0, 0, 0);
        for function in plane.functions.all() {
            let counts = function.view(|state| [state.waiting(), state.running(), state.held_slots()].map(i64::from));
            waiting += counts[0];
            running += counts[1];
            granted += counts[2];
        }
        let unsent = plane.reports.backlog(plane.clock.now_us()).map_or(0, |backlog| backlog.unsent);
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        [
            ("waiting", "Invocations without a slot", waiting),
            ("running", "Slots in use", running),
            (
                "requests_open",
                "Requests without a complete response, or with a large one that has not left",
                count(plane.open_requests()),
            ),
            ("granted_slots", "Slots granted by the control plane", granted),
            ("reports_unsent", "Unsent entries for the control plane", count(unsent)),
            ("functions", "Functions that take invocations", count(plane.functions.len())),
            ("upstream_connections_idle", "Idle connections to sandboxes", count(plane.idle.count())),
            ("ready", "1 once a snapshot has been received", i64::from(plane.is_ready())),
            ("stream_connected", "1 while there is a stream to a control plane", plane.reports.is_connected().into()),
        ]
    }

    /// Age of the newest message to the control plane. Absent without a stream.
    fn encode_report_age(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(backlog) = self.plane.reports.backlog(self.plane.clock.now_us()) else { return Ok(()) };
        let age = Duration::from_micros(backlog.silent_us).as_secs_f64();
        encode_gauge(
            encoder,
            "report_age",
            "Time since the newest message to the control plane was written",
            &Unit::Seconds,
            age,
        )
    }

    /// Scheduling delay, and the share of requests refused because of it.
    fn encode_overload(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let overload = &self.plane.overload;
        let delay = Duration::from_micros(overload.delay_us()).as_secs_f64();
        let help = "Scheduling delay of a ready task at the last measurement";
        encode_gauge(encoder, "scheduling_delay", help, &Unit::Seconds, delay)?;
        let help = "Share of requests refused because the scheduling delay is long";
        encode_gauge(encoder, "overload", help, &Unit::Ratios, overload.refused_share())
    }
}

fn encode_gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: &Unit,
    value: f64,
) -> Result<(), fmt::Error> {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, Some(unit), MetricType::Gauge)?)
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let metrics = &self.plane.metrics;
        let counts = metrics.counts();
        let mut requests = encoder.encode_descriptor("requests", "Requests by outcome", None, MetricType::Counter)?;
        for (outcome, count) in counts.outcomes {
            ConstCounter::new(count).encode(requests.encode_family(&[("outcome", outcome)])?)?;
        }
        for (name, help, count) in counts.totals {
            ConstCounter::new(count).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        for (name, help, value) in self.gauges() {
            ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        self.encode_overload(&mut encoder)?;
        self.encode_report_age(&mut encoder)?;
        let histograms: [(&str, &str, &Histogram); 2] = [
            ("wait", "Time from arrival to slot, of invocations that waited", &metrics.wait),
            ("execution", "Time from slot to response head", &metrics.execution),
        ];
        for (name, help, histogram) in histograms {
            let unit = Some(&Unit::Seconds);
            histogram.encode(encoder.encode_descriptor(name, help, unit, MetricType::Histogram)?)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}
