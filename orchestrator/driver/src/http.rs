//! The HTTP client for the operators' API on this machine.

/// A client without a proxy: one of the user's environment could not reach a port of this machine.
pub(crate) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().proxy(None).max_redirects(0).build().into()
}
