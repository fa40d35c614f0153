//! What the operating system says about this machine and its processes.

pub mod disk;
pub mod host;
pub mod proc;
pub mod usage;
