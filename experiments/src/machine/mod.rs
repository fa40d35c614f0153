//! What the operating system says about this machine and its processes.

pub mod host;
pub mod proc;
pub mod usage;
