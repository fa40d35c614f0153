//! Finds the port of a cluster that responds at an address meant for another one: the likeliest slip, since a cluster has
//! four kinds of ports.

use ureq::Agent;

/// Header field in which a data plane says why it refused.
const REFUSAL: &str = "x-dirigent-error";
/// Most of a page of metrics that is read: each begins with the part's own.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// A kind of port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
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
    /// The port that responds at `base`; `None` if it is none of a cluster.
    pub(super) fn find(agent: &Agent, base: &str) -> Option<Self> {
        let mut response = match agent.get(format!("{base}/metrics")).call() {
            Ok(response) => response,
            Err(error) => return Self::of_error(&error),
        };
        // A data plane knows a function by the host, and has no pages.
        if response.headers().contains_key(REFUSAL) {
            return Some(Self::Invocations);
        }
        let page = response.body_mut().with_config().limit(MAX_BYTES).read_to_string().ok()?;
        let prefixes = [
            ("dirigent_control_plane_", Self::Operators),
            ("dirigent_data_plane_", Self::DataPlaneAdmin),
            ("dirigent_worker_", Self::WorkerAdmin),
        ];
        prefixes.into_iter().find(|(prefix, _)| page.contains(prefix)).map(|(_, port)| port)
    }

    /// Streams are HTTP/2 alone, which a client of HTTP/1.1 cannot read.
    pub(super) fn of_error(error: &ureq::Error) -> Option<Self> {
        matches!(error, ureq::Error::Protocol(_)).then_some(Self::Streams)
    }

    /// Description of the component that responds there.
    pub(super) fn responses(self) -> &'static str {
        match self {
            Self::Operators => "a control plane's port for operators answers there",
            Self::Streams => {
                "what answers there speaks no HTTP/1.1, like a control plane's port for data planes and workers"
            }
            Self::Invocations => "a data plane answers there",
            Self::DataPlaneAdmin => "a data plane's admin port answers there",
            Self::WorkerAdmin => "a worker's admin port answers there",
        }
    }
}
