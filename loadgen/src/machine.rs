//! The kernel's services that the load generator uses: time, sleep, priority, limits and accounting.

pub(crate) mod clock;
pub(crate) mod floor;
pub(crate) mod usage;
