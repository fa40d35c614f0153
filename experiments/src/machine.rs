//! Facts about this machine and its processes from the operating system.

pub mod disk;
pub mod host;
pub mod proc;
pub mod usage;
