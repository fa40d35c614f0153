//! Opens the connection that carries a component's streams to the control plane.

use std::{net::IpAddr, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use service::Network;
use thiserror::Error;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// A connection could not be opened.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The address is not `host:port`.
    #[error("{address:?} is no address: expected host:port")]
    Address {
        /// The text that was given.
        address: String,
    },
    /// No connection was established within the time-out.
    #[error("cannot connect to {address}")]
    Connect {
        /// The address tried, `host:port`.
        address: String,
        /// The cause.
        source: tonic::transport::Error,
    },
}

/// Maximum time to establish a connection. Within one network a round trip takes less than a millisecond.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval of HTTP/2 pings, which detect a broken link while nothing else is sent.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// The same for connections whose peer also sends heartbeats: those detect a failed peer first, and pings only end a
/// connection that broke alone. With thousands of workers, pings every second would cost more than the heartbeats.
const SLOW_PING_INTERVAL: Duration = Duration::from_secs(5);
/// Time without an acknowledgement of a ping after which the connection ends.
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// Flow-control windows: large enough for a chunk of a snapshot to be sent without waiting for the reader.
pub(crate) const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Connects to `address` (`host:port`) over `network`. The connection is pinged every second, so that it ends within
/// seconds of a broken link.
///
/// # Errors
/// If the address is malformed, or the connection is not established within two seconds.
pub async fn connect(network: Arc<dyn Network>, address: &str) -> Result<Channel, ConnectError> {
    connect_with_pings(network, address, PING_INTERVAL).await
}

/// Connects to `address` with a ping only every five seconds, for callers that detect a failed control plane by
/// heartbeats.
///
/// # Errors
/// If the address is malformed, or the connection is not established within two seconds.
pub async fn connect_with_slow_pings(network: Arc<dyn Network>, address: &str) -> Result<Channel, ConnectError> {
    connect_with_pings(network, address, SLOW_PING_INTERVAL).await
}

/// Returns true if `address` (`host:port`) is a loopback address, so that the peer is certainly on this machine.
#[must_use]
pub fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Returns true if `text` has the form `host:port`.
#[must_use]
pub fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let is_host = !host.is_empty() && (is_bracketed || !host.contains([':', '/', '@', ' ', '?', '#']));
    // Checked by digit, since parsing alone would accept a sign.
    is_host && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

async fn connect_with_pings(
    network: Arc<dyn Network>,
    address: &str,
    ping_interval: Duration,
) -> Result<Channel, ConnectError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| ConnectError::Address { address: address.to_owned() })?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(ping_interval)
        .keep_alive_timeout(PING_TIMEOUT)
        // Streams are idle for long times, in which a broken link has to be detected, too.
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    // Over the given network, which tests and simulations replace.
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
    fn loopback_addresses_are_recognised() {
        for address in ["127.0.0.1:9090", "127.9.9.9:1", "[::1]:9090", "localhost:9090"] {
            assert!(is_loopback(address), "{address}");
        }
        for address in ["10.0.0.1:9090", "[fd00::1]:9090", "control-plane:9090", "localhost.example:9090"] {
            assert!(!is_loopback(address), "{address}");
        }
    }
}
