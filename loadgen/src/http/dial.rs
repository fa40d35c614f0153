//! Opens connections. On loopback they come from many addresses, as those of many clients would.
//!
//! All connections from one address to one endpoint share 28,000 ports, and the kernel searches for a free one linearly: with
//! half of them in use, because a saturated system keeps invocations waiting, that takes longer than everything else the
//! load generator does, and it becomes late. Every address of 127/8 is this machine's, so that loopback need not have
//! this limit.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering},
};

use tokio::net::{TcpSocket, TcpStream};

/// Addresses that connections come from, round-robin: each has then few enough that its ports are found at once.
const ADDRESSES: u32 = 128;

/// Numbers the connections of one replay.
#[derive(Debug, Default)]
pub(crate) struct Dialler(AtomicU32);

impl Dialler {
    /// Opens one.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub(crate) async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let stream = match source(to.ip(), self.0.fetch_add(1, Ordering::Relaxed)) {
            None => TcpStream::connect(to).await?,
            Some(from) => {
                let socket = TcpSocket::new_v4()?;
                socket.bind(SocketAddr::from((from, 0)))?;
                socket.connect(to).await?
            }
        };
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// The address that a connection comes from; the system's choice anywhere but on loopback.
fn source(to: IpAddr, number: u32) -> Option<Ipv4Addr> {
    /// The last address of 127/8 that is used, so that none of those that servers usually have is among them.
    const LAST: u32 = u32::from_be_bytes([127, 255, 255, 254]);
    match to {
        IpAddr::V4(to) if to.is_loopback() => Some(Ipv4Addr::from(LAST - number % ADDRESSES)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_alternate_over_addresses_of_loopback_only() {
        let from = |to: &str, number| source(to.parse().unwrap(), number).map(|address| address.to_string());
        assert_eq!(from("127.0.0.1", 0).unwrap(), "127.255.255.254");
        assert_eq!(from("127.0.0.1", ADDRESSES + 1).unwrap(), "127.255.255.253");
        assert_eq!((from("10.0.0.1", 0), from("::1", 0)), (None, None));
    }
}
