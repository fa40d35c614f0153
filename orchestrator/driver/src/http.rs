//! The HTTP client for operators' ports, which are on this machine: no proxy of the user's leads there.

/// A client that goes straight to the address.
pub(crate) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().proxy(None).max_redirects(0).build().into()
}
