//! The machines of the simulated network.

use std::fmt;

/// A machine, known to the simulated name service by its `Display` form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Host {
    /// The control plane's.
    ControlPlane,
    /// The data plane of this number, from 1.
    DataPlane(usize),
    /// The worker of this number, from 1.
    Worker(usize),
    /// The clients of the data plane of this number, from 1.
    Client(usize),
    /// The operator, who registers functions and reads the operator API.
    Operator,
}

impl Host {
    /// The machine with this address; `None` for an address outside of the simulated network.
    pub(crate) fn of_address(address: std::net::IpAddr) -> Option<Self> {
        Self::parse(&turmoil::reverse_lookup(address)?)
    }

    /// Its name in the simulated name service.
    pub(crate) fn name(self) -> String {
        self.to_string()
    }

    fn parse(name: &str) -> Option<Self> {
        let number = |prefix: &str| name.strip_prefix(prefix)?.parse().ok();
        match name {
            "control-plane" => Some(Self::ControlPlane),
            "operator" => Some(Self::Operator),
            _ => number("data-plane-")
                .map(Self::DataPlane)
                .or_else(|| number("worker-").map(Self::Worker))
                .or_else(|| number("client-").map(Self::Client)),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControlPlane => f.write_str("control-plane"),
            Self::DataPlane(number) => write!(f, "data-plane-{number}"),
            Self::Worker(number) => write!(f, "worker-{number}"),
            Self::Client(number) => write!(f, "client-{number}"),
            Self::Operator => f.write_str("operator"),
        }
    }
}
