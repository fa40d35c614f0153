//! The adapter of systems that report nothing themselves, but whose functions answer with the name of their machine. In
//! Kubernetes and in containers that is the name of the pod or container, and so of the sandbox.

use std::borrow::Cow;

use serde::Deserialize;

use super::{SignalAdapter, Signals};

#[derive(Debug)]
pub(super) struct MachineName;

/// The part of the function program's response that names its machine.
#[derive(Debug, Deserialize)]
struct Machine<'a> {
    #[serde(rename = "MachineName", borrow)]
    name: Cow<'a, str>,
}

impl SignalAdapter for MachineName {
    fn name(&self) -> &'static str {
        "machine-name"
    }

    fn read_body(&self, signals: &mut Signals, body: &[u8]) {
        signals.sandbox = serde_json::from_slice::<Machine<'_>>(body).ok().map(|machine| machine.name.as_ref().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_named_by_the_response_of_its_function() {
        let sandbox = |body: &[u8]| {
            let mut signals = Signals::default();
            MachineName.read_body(&mut signals, body);
            signals.sandbox
        };
        let body = br#"{"Status":"OK","Function":"f","MachineName":"f-00001-deployment-x","ExecutionTime":1}"#;
        assert_eq!(sandbox(body).as_deref(), Some("f-00001-deployment-x"));
        assert_eq!(sandbox(b"no JSON"), None);
    }

    /// A header of that name comes from the function, and is no measurement of the system.
    #[test]
    fn headers_are_not_read() {
        let mut signals = Signals::default();
        MachineName.read_header(&mut signals, "x-dirigent-cold", b"1");
        MachineName.read_header(&mut signals, "server-timing", b"cold;dur=1");
        assert_eq!(signals, Signals::default());
    }
}
