//! CPU and memory, as reserved by sandboxes and offered by nodes.

use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// An amount of CPU and memory. CPU and memory are always reserved and released together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resources {
    /// CPU in millicores: 1000 is one core.
    pub cpu_millicores: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
}

impl Resources {
    /// Returns true if `self` is at most `other` in both respects.
    #[must_use]
    pub fn fits_in(self, other: Self) -> bool {
        self.cpu_millicores <= other.cpu_millicores && self.memory_mib <= other.memory_mib
    }

    /// `self - other`, or `None` if `other` does not fit in `self`.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        other.fits_in(self).then(|| self - other)
    }
}

impl Add for Resources {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            cpu_millicores: self.cpu_millicores + other.cpu_millicores,
            memory_mib: self.memory_mib + other.memory_mib,
        }
    }
}

/// Panics in debug builds if `other` does not fit in `self`: use [`Resources::checked_sub`] where that can happen.
impl Sub for Resources {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            cpu_millicores: self.cpu_millicores - other.cpu_millicores,
            memory_mib: self.memory_mib - other.memory_mib,
        }
    }
}
