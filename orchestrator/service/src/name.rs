//! The default name of a component.

use std::fs;

/// Returns the host's name and `port`, which no two components of a host share; `component` replaces an unknown host.
#[must_use]
pub fn default_name(component: &str, port: u16) -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { component } else { host.trim() };
    format!("{host}-{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_name_is_of_this_host_and_port() {
        assert!(default_name("worker", 10_015).ends_with("-10015") && default_name("worker", 1).len() > 2);
    }
}
