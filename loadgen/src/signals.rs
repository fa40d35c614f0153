//! Signals of a response about its invocation beyond its status: cold start, sandbox, times. Systems report them in
//! different ways, and each way is an adapter that a table of `targets.toml` names.
//!
//! To add one, write a file of this folder that implements [`SignalAdapter`], and list it in [`ADAPTERS`].

mod dirigent_headers;
mod machine_name;
mod none;

use std::{fmt::Debug, net::SocketAddr};

use dirigent_headers::DirigentHeaders;
use machine_name::MachineName;
use none::NoSignals;

/// The values a response reported; all are absent where the system does not report them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signals {
    /// Wait for a slot, in microseconds.
    pub(crate) queue_us: Option<u64>,
    /// Wait for a new sandbox, in microseconds.
    pub(crate) cold_us: Option<u64>,
    /// Time in the sandbox, in microseconds.
    pub(crate) exec_us: Option<u64>,
    /// 1 for a cold start, 0 for none.
    pub(crate) cold: Option<u8>,
    /// The sandbox that served it.
    pub(crate) sandbox: Option<Box<str>>,
    /// Attempts the system made.
    pub(crate) attempts: Option<u32>,
    /// The kind of error the system names.
    pub(crate) error: Option<Box<str>>,
}

/// Reads signals from responses. Called for each header of each response, so an adapter neither blocks nor allocates for
/// what it does not record.
pub(crate) trait SignalAdapter: Debug + Sync {
    /// The name by which `signals` of `targets.toml` and `--signals` choose it.
    fn name(&self) -> &'static str;

    /// Records a header, if it is a signal; a malformed value counts as absent.
    fn read_header(&self, _signals: &mut Signals, _name: &str, _value: &[u8]) {}

    /// Records what the body reports.
    fn read_body(&self, _signals: &mut Signals, _body: &[u8]) {}

    /// Explains why nothing succeeded at an address that the option `option` named, if a request to it tells. Called
    /// after a run only: a system that works is sent nothing but invocations.
    fn diagnose(&self, _address: &SocketAddr, _option: &str) -> Option<String> {
        None
    }
}

/// Every adapter.
pub(crate) const ADAPTERS: [&dyn SignalAdapter; 3] = [NONE, &DirigentHeaders, &MachineName];

/// The adapter of systems that report nothing.
pub(crate) const NONE: &dyn SignalAdapter = &NoSignals;

/// The adapter of that name.
///
/// # Errors
/// If there is none; those that exist are named.
pub(crate) fn adapter(name: &str) -> Result<&'static dyn SignalAdapter, String> {
    let names = || ADAPTERS.map(SignalAdapter::name).join(", ");
    let found = ADAPTERS.into_iter().find(|adapter| adapter.name() == name);
    found.ok_or_else(|| format!("expected one of {}, found {name:?}", names()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_are_found_by_their_names_and_an_unknown_one_is_refused_with_them() {
        for known in ADAPTERS {
            assert_eq!(adapter(known.name()).unwrap().name(), known.name());
        }
        let error = adapter("pods").unwrap_err();
        assert_eq!(error, "expected one of none, dirigent-headers, machine-name, found \"pods\"");
    }
}
