//! Opening the connection that carries a part's streams to the control plane.

use std::{net::IpAddr, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use thiserror::Error;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::Network;

/// A connection could not be opened.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The address is not `host:port`.
    #[error("{address:?} is no address: expected host:port")]
    Address {
        /// What was given.
        address: String,
    },
    /// Nobody answered there.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where.
        address: String,
        /// What went wrong.
        source: tonic::transport::Error,
    },
}

/// Longest wait for a connection: on one network round trips are under a millisecond.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A silent peer is pinged this often, so that a cut link is noticed.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// The same where heartbeats tell who is gone long before: these pings only end a connection that broke alone. With
/// thousands of workers they would cost more than the signs themselves.
const QUIET_PING_INTERVAL: Duration = Duration::from_secs(5);
/// A ping unanswered for this long ends the connection.
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// Flow-control windows: a full snapshot chunk goes out without waiting for the reader.
pub(crate) const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Connects to `address` (`host:port`) over `network`. The connection notices within seconds when its link is cut.
///
/// # Errors
/// When the address is malformed or nobody answers within two seconds.
pub async fn connect(network: Arc<dyn Network>, address: &str) -> Result<Channel, ConnectError> {
    open(network, address, PING_INTERVAL).await
}

/// Connects to `address`, for who learns by other means that the control plane is gone.
///
/// # Errors
/// When the address is malformed or nobody answers within two seconds.
pub async fn connect_quietly(network: Arc<dyn Network>, address: &str) -> Result<Channel, ConnectError> {
    open(network, address, QUIET_PING_INTERVAL).await
}

/// Returns true if `address` (`host:port`) surely is of this machine alone, so that its peer is on this machine too.
#[must_use]
pub fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Returns true if `text` is `host:port`, where a control plane may be.
#[must_use]
pub fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let is_host = !host.is_empty() && (is_bracketed || !host.contains([':', '/', '@', ' ', '?', '#']));
    is_host && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

async fn open(network: Arc<dyn Network>, address: &str, ping_interval: Duration) -> Result<Channel, ConnectError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| ConnectError::Address { address: address.to_owned() })?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(ping_interval)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    let connector = service_fn(move |uri: Uri| {
        let network = network.clone();
        async move {
            let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
            network.connect(&authority).await.map(TokioIo::new)
        }
    });
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|source| ConnectError::Connect { address: address.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_host_and_port() {
        for address in ["127.0.0.1:9090", "[::1]:9090", "control-plane:1", "a.b.example:65535"] {
            assert!(is_address(address), "{address}");
        }
        for other in ["foo", "", ":9090", "h:", "h:0", "h:+1", "h:65536", "http://127.0.0.1:9090", "::1:9090", "a/b:1"]
        {
            assert!(!is_address(other), "{other}");
        }
    }

    #[test]
    fn an_address_of_this_machine_alone_is_known() {
        for address in ["127.0.0.1:9090", "127.9.9.9:1", "[::1]:9090", "localhost:9090"] {
            assert!(is_loopback(address), "{address}");
        }
        for address in ["10.0.0.1:9090", "[fd00::1]:9090", "control-plane:9090", "localhost.example:9090"] {
            assert!(!is_loopback(address), "{address}");
        }
    }
}
