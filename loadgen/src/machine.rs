//! What the load generator asks of the kernel: time, sleep, priority, limits and accounting.

pub(crate) mod clock;
pub(crate) mod floor;
pub(crate) mod usage;
