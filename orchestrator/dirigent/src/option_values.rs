//! Values of options, read with messages that say what is expected instead of what a parser met.

use std::net::SocketAddr;

/// A whole number.
pub(crate) fn count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("expected a whole number, 0 to {}", u32::MAX))
}

/// A share of a processor.
pub(crate) fn millicores(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "expected millicores as a whole number, like 500 for half a core".to_owned())
}

/// A port that can be connected to.
pub(crate) fn port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| "expected a port as a whole number, 1 to 65535".to_owned())
}

/// An address to listen on.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected IP:PORT, like 127.0.0.1:8085 or 0.0.0.0:0".to_owned())
}
