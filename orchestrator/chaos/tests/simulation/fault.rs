//! What can go wrong, and when.

use std::fmt;

use super::host::Host;

/// Something that goes wrong for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// What is sent between two machines is lost, and never sent again: connections that had something on the way
    /// stay silent for ever.
    Cut(Host, Host),
    /// What is sent between two machines arrives only when this is over.
    Stall(Host, Host),
    /// The program is killed and not started again before this is over: its connections end, new ones are refused.
    Kill(Host),
    /// The machine loses its power: nobody hears from it, connections to it are neither taken nor refused.
    Lose(Host),
}

/// A fault with its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// What goes wrong.
    pub(crate) fault: Fault,
    /// When it sets in, in milliseconds of the run.
    pub(crate) from_ms: u64,
    /// When it is over.
    pub(crate) until_ms: u64,
}

impl Fault {
    /// The machine whose program does not run meanwhile.
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
