//! Finds the port of a Dirigent cluster that responds where nothing succeeded: the likeliest slip, since a cluster has five
//! kinds of ports, and a wrong one refuses invocations and registrations in words that do not tell.
//!
//! Asked after a failure only, so that a system that works is sent nothing but what is measured.

use std::{fmt::Display, time::Duration};

use ureq::Agent;

/// Longest wait for a port's page of metrics: every kind serves it from memory.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Header field in which a data plane says why it refused.
const REFUSAL: &str = "x-dirigent-error";
/// Most of a page of metrics that is read: each begins with its component's own.
const MAX_PAGE_BYTES: u64 = 4 * 1024 * 1024;
/// Prefixes of the metrics that only the ports of one kind have.
const METRICS: [(&str, Port); 3] = [
    ("dirigent_control_plane_", Port::Operators),
    ("dirigent_data_plane_", Port::DataPlaneAdmin),
    ("dirigent_worker_", Port::WorkerAdmin),
];

/// A kind of port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// The control plane's `http`.
    Operators,
    /// The control plane's `stream`.
    Streams,
    /// The data plane's `invoke`.
    Invocations,
    /// The data plane's `admin`.
    DataPlaneAdmin,
    /// The worker's `admin`.
    WorkerAdmin,
}

impl Port {
    /// Returns an explanation if a port of another kind than this one, which `option` wants, responds at `address`.
    pub(crate) fn port_mismatch(self, address: impl Display, option: &str) -> Option<String> {
        let found = Self::find(&format!("http://{address}")).filter(|found| *found != self)?;
        Some(format!("{address}: {} answers there; {option} wants {}", found.name(), self.name()))
    }

    /// The kind that responds at `base`; `None` if it is no port of a cluster.
    fn find(base: &str) -> Option<Self> {
        let config = Agent::config_builder().http_status_as_error(false).proxy(None).max_redirects(0);
        let agent: Agent = config.timeout_global(Some(TIMEOUT)).build().into();
        let mut response = match agent.get(format!("{base}/metrics")).call() {
            Ok(response) => response,
            // Streams are HTTP/2 alone, which a client of HTTP/1.1 cannot read.
            Err(ureq::Error::Protocol(_)) => return Some(Self::Streams),
            Err(_) => return None,
        };
        // A data plane knows a function by the host, and has no pages.
        if response.headers().contains_key(REFUSAL) {
            return Some(Self::Invocations);
        }
        let page = response.body_mut().with_config().limit(MAX_PAGE_BYTES).read_to_string().ok()?;
        METRICS.into_iter().find(|(prefix, _)| page.contains(prefix)).map(|(_, port)| port)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Operators => "a control plane's port for operators",
            Self::Streams => "what speaks no HTTP/1.1, like a control plane's port for data planes and workers,",
            Self::Invocations => "a data plane's port for invocations",
            Self::DataPlaneAdmin => "a data plane's admin port",
            Self::WorkerAdmin => "a worker's admin port",
        }
    }
}
