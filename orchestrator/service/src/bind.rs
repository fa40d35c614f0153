//! Binds the addresses of a component's configuration.

use std::{io, net::SocketAddr};

use thiserror::Error;

use crate::{Listener, Network};

/// An address of a configuration cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {address} ({key})")]
pub struct BindError {
    /// The configuration key.
    pub key: &'static str,
    /// The configured address.
    pub address: SocketAddr,
    /// The error of the operating system.
    pub source: io::Error,
}

/// Listens on `address`, the value of the configuration key `key`. Returns the address that is bound, too, with the port
/// that was chosen for port 0.
///
/// # Errors
/// If the address is in use, or no address of this machine.
pub async fn bind(
    network: &dyn Network,
    key: &'static str,
    address: SocketAddr,
) -> Result<(Box<dyn Listener>, SocketAddr), BindError> {
    let fail = |source| BindError { key, address, source };
    let listener = network.bind(address).await.map_err(fail)?;
    let bound = listener.local_address().map_err(fail)?;
    Ok((listener, bound))
}
