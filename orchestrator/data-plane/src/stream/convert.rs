//! Messages of the control plane as checked domain types, so that sentinels of the wire (0, empty) end here.

use api::{WireError, parse_address, state_from_wire, wire};
use model::{DEFAULT_CONNECTION_IDLE, Endpoint, EndpointState, FunctionId, NameError, Protocol, SandboxId};
use policy::balance::{self, Balance};

use crate::{
    function::{CreationProblem, Delta, FunctionConfig, GrantCap, Stamp},
    table::Registration,
};
use service::micros;

/// The registration of a function. `default` balances functions that configure no policy.
///
/// # Errors
/// Returns an error if the name is not a function name.
pub(super) fn registration(
    config: &wire::FunctionConfig,
    default: &'static Balance,
) -> Result<Registration, NameError> {
    Ok(Registration {
        id: FunctionId(config.function),
        name: config.name.parse()?,
        config: function_config(config),
        balance: balance(config, default),
    })
}

fn function_config(config: &wire::FunctionConfig) -> FunctionConfig {
    let protocol = match config.protocol() {
        wire::Protocol::Http1 => Protocol::Http1,
        wire::Protocol::H2c => Protocol::H2c,
    };
    let connection_idle_us = config.connection_idle_ms.map(|ms| ms.saturating_mul(1000));
    FunctionConfig {
        timeout_us: config.timeout_ms.saturating_mul(1000),
        queue_deadline_us: config.queue_deadline_ms.saturating_mul(1000),
        queue_limit: config.queue_limit,
        protocol,
        concurrency: config.concurrency,
        retry_any: config.retry() == wire::Retry::Any,
        connection_idle_us: connection_idle_us.unwrap_or(micros(DEFAULT_CONNECTION_IDLE)),
    }
}

fn balance(config: &wire::FunctionConfig, default: &'static Balance) -> &'static Balance {
    if config.balance.is_empty() {
        return default;
    }
    balance::find(&config.balance).unwrap_or_else(|| {
        // The control plane validated the name, so it is of a newer version than this data plane.
        tracing::warn!(name = config.name, balance = config.balance, "unknown balancing policy, the default is taken");
        default
    })
}

/// An endpoint delta that came on `stream`.
///
/// # Errors
/// Returns an error if the state is unknown, or the address of a usable sandbox is invalid.
pub(super) fn delta(delta: &wire::EndpointDelta, stream: u64) -> Result<Delta, WireError> {
    let state = state_from_wire(delta.state)?;
    let address = match state {
        EndpointState::Active | EndpointState::Suspended => parse_address(&delta.address)?,
        // The address is not used any more and may be absent.
        EndpointState::Draining | EndpointState::Gone => service::ANY_LOOPBACK,
    };
    Ok(Delta {
        endpoint: Endpoint { sandbox: SandboxId::from_wire(delta.sandbox), address },
        slots: delta.slots,
        state,
        stamp: Stamp { stream, version: delta.version },
        ready_age_us: delta.ready_age_us,
    })
}

/// A cap, and the function that it applies to.
pub(super) fn cap(limit: &wire::GrantLimit) -> (FunctionId, GrantCap) {
    let wire::GrantLimit { function, version, slots, min_idle_ms, drain } = *limit;
    (FunctionId(function), GrantCap { slots, min_idle_ms, drain, version })
}

/// The creation problem of a function; `None` if there is none any more.
pub(super) fn creation_problem(problem: &wire::CreationProblem) -> Option<CreationProblem> {
    match (problem.message.is_empty(), problem.permanent) {
        (true, _) => None,
        (false, false) => Some(CreationProblem::Temporary),
        (false, true) => Some(CreationProblem::Permanent),
    }
}
