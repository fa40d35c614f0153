//! Conversion between wire messages and the model.

use std::net::SocketAddr;

use model::{EndpointState, Protocol, Registered, Retry};
use thiserror::Error;

use crate::wire;

/// A message violates the protocol.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WireError {
    /// An address is not `ip:port`.
    #[error("{0:?} is no address: expected ip:port")]
    Address(String),
    /// The number of an endpoint state is unknown to this version.
    #[error("{0} is no endpoint state")]
    State(i32),
    /// The first message has neither hello nor welcome.
    #[error("the first message must be a hello or welcome")]
    NoHello,
    /// A message after the first of its stream is larger than [`crate::MAX_LATER_MESSAGE_BYTES`].
    #[error("a message has {0} bytes, at most {limit} are allowed after the first one", limit = crate::MAX_LATER_MESSAGE_BYTES)]
    TooLarge(usize),
    /// The peer has another protocol version.
    #[error("the peer speaks protocol version {theirs}, this program {ours}: run the same version of both")]
    Version {
        /// The peer's version.
        theirs: u32,
        /// This program's version, [`crate::PROTOCOL_VERSION`].
        ours: u32,
    },
}

/// Parses an `ip:port` of a message.
///
/// # Errors
/// If the text has another form.
pub fn parse_address(text: &str) -> Result<SocketAddr, WireError> {
    text.parse().map_err(|_| WireError::Address(text.to_owned()))
}

/// Parses an `ip:port` of a message; an empty text is `None`.
///
/// # Errors
/// If the text has another form.
pub fn optional_address(text: &str) -> Result<Option<SocketAddr>, WireError> {
    if text.is_empty() { Ok(None) } else { parse_address(text).map(Some) }
}

/// Returns the configuration of a function for data planes.
#[must_use]
pub fn function_config(function: &Registered) -> wire::FunctionConfig {
    let spec = &function.spec;
    wire::FunctionConfig {
        function: function.id.0,
        revision: function.revision.0,
        name: spec.name.to_string(),
        protocol: protocol(spec.protocol).into(),
        concurrency: spec.concurrency,
        timeout_ms: millis(spec.timeout),
        queue_deadline_ms: millis(spec.queue.deadline),
        queue_limit: spec.queue.limit,
        balance: spec.balance.clone().unwrap_or_default(),
        retry: retry(spec.retry).into(),
        connection_idle_ms: Some(millis(spec.connection_idle)),
    }
}

/// Returns the specification of a function's revision for workers, which create its sandboxes.
#[must_use]
pub fn revision_spec(function: &Registered) -> wire::RevisionSpec {
    let spec = &function.spec;
    wire::RevisionSpec {
        function: function.id.0,
        revision: function.revision.0,
        name: spec.name.to_string(),
        image: spec.image.clone(),
        port: spec.port.into(),
        protocol: protocol(spec.protocol).into(),
        cpu_millicores: spec.cpu,
        memory_mib: spec.memory,
        concurrency: spec.concurrency,
        env: spec.env.clone(),
        args: spec.args.clone(),
    }
}

/// Converts an endpoint state to its wire form.
#[must_use]
pub fn state_to_wire(state: EndpointState) -> wire::EndpointState {
    match state {
        EndpointState::Active => wire::EndpointState::Active,
        EndpointState::Suspended => wire::EndpointState::Suspended,
        EndpointState::Draining => wire::EndpointState::Draining,
        EndpointState::Gone => wire::EndpointState::Gone,
    }
}

/// Converts the wire number of an endpoint state.
///
/// # Errors
/// If this version does not know the number.
pub fn state_from_wire(number: i32) -> Result<EndpointState, WireError> {
    match wire::EndpointState::try_from(number) {
        Ok(wire::EndpointState::Active) => Ok(EndpointState::Active),
        Ok(wire::EndpointState::Suspended) => Ok(EndpointState::Suspended),
        Ok(wire::EndpointState::Draining) => Ok(EndpointState::Draining),
        Ok(wire::EndpointState::Gone) => Ok(EndpointState::Gone),
        Err(_) => Err(WireError::State(number)),
    }
}

fn protocol(protocol: Protocol) -> wire::Protocol {
    match protocol {
        Protocol::Http1 => wire::Protocol::Http1,
        Protocol::H2c => wire::Protocol::H2c,
    }
}

fn retry(retry: Retry) -> wire::Retry {
    match retry {
        Retry::Idempotent => wire::Retry::Idempotent,
        Retry::Any => wire::Retry::Any,
    }
}

/// Rounds up, so that a bound below a millisecond does not become zero.
fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use model::{FunctionId, FunctionSpec, Revision};

    use super::*;

    #[test]
    fn states_survive_the_wire_and_unknown_ones_are_refused() {
        for state in [EndpointState::Active, EndpointState::Suspended, EndpointState::Draining, EndpointState::Gone] {
            assert_eq!(state_from_wire(state_to_wire(state).into()), Ok(state));
        }
        assert_eq!(state_from_wire(9), Err(WireError::State(9)));
    }

    #[test]
    fn addresses_are_checked() {
        assert_eq!(parse_address("127.0.0.1:80"), Ok("127.0.0.1:80".parse().unwrap()));
        assert_eq!(optional_address(""), Ok(None));
        assert_eq!(parse_address("localhost"), Err(WireError::Address("localhost".to_owned())));
    }

    #[test]
    fn a_function_keeps_its_limits_and_its_balancing_on_the_wire() {
        let mut spec = FunctionSpec::new("f".parse().unwrap(), "i");
        let mut registered = Registered { id: FunctionId(3), revision: Revision(4), spec: spec.clone() };
        assert_eq!(function_config(&registered).balance, "", "the default of the data plane");
        registered.spec.balance = Some("random".to_owned());
        assert_eq!(function_config(&registered).balance, "random");
        spec.timeout = std::time::Duration::from_micros(1);
        (spec.retry, spec.connection_idle) = (Retry::Any, std::time::Duration::ZERO);
        let config = function_config(&Registered { id: FunctionId(3), revision: Revision(4), spec });
        assert_eq!((config.function, config.revision, config.timeout_ms, config.queue_limit), (3, 4, 1, 10_000));
        assert_eq!((config.retry(), config.connection_idle_ms), (wire::Retry::Any, Some(0)));
    }
}
