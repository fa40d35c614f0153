//! The kinds of faults, and faults with their times.

use std::fmt;

use super::host::Host;

/// A fault that lasts for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Messages between two machines are lost for good: a connection with a message on the way never delivers again.
    Cut(Host, Host),
    /// Messages between two machines arrive only after the fault.
    Stall(Host, Host),
    /// The program is killed and restarted after the fault: its connections end, new ones are refused.
    Kill(Host),
    /// The machine loses power: it sends nothing, and connections to it are neither accepted nor refused.
    Lose(Host),
}

/// A fault with its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) fault: Fault,
    /// Its beginning, in milliseconds of the run.
    pub(crate) from_ms: u64,
    /// Its end, in milliseconds of the run.
    pub(crate) until_ms: u64,
}

impl Fault {
    /// The machine whose program does not run during the fault.
    pub(crate) fn down(self) -> Option<Host> {
        match self {
            Self::Kill(host) | Self::Lose(host) => Some(host),
            Self::Cut(..) | Self::Stall(..) => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(a, b) => write!(f, "cut between {a} and {b}"),
            Self::Stall(a, b) => write!(f, "stall between {a} and {b}"),
            Self::Kill(host) => write!(f, "{host} killed"),
            Self::Lose(host) => write!(f, "{host} lost"),
        }
    }
}
