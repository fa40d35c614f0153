//! Identifiers. Each has its own type, so that one cannot be passed for another.

use std::{fmt, num::ParseIntError, str::FromStr};

use serde::{Deserialize, Serialize};

/// Bits of a [`SandboxId`] that hold the sequence number.
const SEQUENCE_BITS: u32 = 40;
const SEQUENCE_MASK: u64 = (1 << SEQUENCE_BITS) - 1;

/// The leadership term of a command; greater is newer, at most 2²⁴ − 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u32);

/// One registration of a function, from its first PUT to its DELETE: the index of that PUT in the command log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FunctionId(pub u64);

/// One version of a function's specification: the index in the command log of the PUT that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// The id of a cluster, drawn at random when its command log is created, so that no two logs share it.
///
/// Written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for ClusterId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

impl TryFrom<String> for ClusterId {
    type Error = ParseIntError;

    fn try_from(text: String) -> Result<Self, ParseIntError> {
        text.parse()
    }
}

impl From<ClusterId> for String {
    fn from(id: ClusterId) -> Self {
        id.to_string()
    }
}

/// A data plane's name, stable over reconnects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DataPlaneId(pub String);

/// The id of a sandbox: the epoch and sequence number of the command that creates it. Never used twice.
///
/// Written as `epoch-sequence`, for example `3-1042`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SandboxId(u64);

impl SandboxId {
    /// The `sequence`th sandbox of `epoch`; `None` if either is out of range.
    #[must_use]
    pub fn new(epoch: Epoch, sequence: u64) -> Option<Self> {
        // One number for both: cheap to compare and send, and ids of a later epoch are greater.
        let fits = u64::from(epoch.0) < 1 << (64 - SEQUENCE_BITS) && sequence <= SEQUENCE_MASK;
        fits.then_some(Self(u64::from(epoch.0) << SEQUENCE_BITS | sequence))
    }

    /// The id as sent on the wire.
    #[must_use]
    pub fn to_wire(self) -> u64 {
        self.0
    }

    /// The id that was sent as `wire`; every number is one.
    #[must_use]
    pub fn from_wire(wire: u64) -> Self {
        Self(wire)
    }

    /// The epoch of the command that creates it.
    #[must_use]
    pub fn epoch(self) -> Epoch {
        Epoch(u32::try_from(self.0 >> SEQUENCE_BITS).expect("24 bits fit in 32"))
    }

    /// Its number within the epoch.
    #[must_use]
    pub fn sequence(self) -> u64 {
        self.0 & SEQUENCE_MASK
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch().0, self.sequence())
    }
}

impl FromStr for SandboxId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let describe = || format!("expected a sandbox id (epoch-sequence) like 3-1042, got {text:?}");
        let (epoch, sequence) = text.split_once('-').ok_or_else(describe)?;
        let epoch = epoch.parse().map_err(|_: ParseIntError| describe())?;
        let sequence = sequence.parse().map_err(|_: ParseIntError| describe())?;
        Self::new(Epoch(epoch), sequence).ok_or_else(describe)
    }
}

impl TryFrom<String> for SandboxId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<SandboxId> for String {
    fn from(id: SandboxId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for FunctionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for DataPlaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_sandbox_id_survives_text_and_wire(epoch in 0u32..1 << 24, sequence in 0u64..1 << 40) {
            let id = SandboxId::new(Epoch(epoch), sequence).unwrap();
            prop_assert_eq!((id.epoch(), id.sequence()), (Epoch(epoch), sequence));
            prop_assert_eq!(id.to_string().parse::<SandboxId>().unwrap(), id);
            prop_assert_eq!(SandboxId::from_wire(id.to_wire()), id);
        }
    }

    #[test]
    fn out_of_range_and_garbage_are_refused() {
        assert_eq!(SandboxId::new(Epoch(1 << 24), 0), None);
        assert_eq!(SandboxId::new(Epoch(0), 1 << 40), None);
        for bad in ["", "3", "3-", "-3", "a-b", "1-1099511627776"] {
            assert!(bad.parse::<SandboxId>().unwrap_err().contains("epoch-sequence"), "{bad}");
        }
    }
}
