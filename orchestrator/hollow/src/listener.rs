//! One listener for the addresses of all sandboxes of a process: the wildcard address, on the loopback device only.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use nix::{libc, setsockopt_impl, sockopt_impl, sys::socket::setsockopt};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::Sandboxes;

/// Connections that may wait to be accepted. Has room for a burst of first requests to a thousand new sandboxes; the
/// kernel reduces it to its own limit.
const BACKLOG: i32 = 4096;
/// Pause after a failed accept, usually for lack of file descriptors, so that the loop does not spin.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(5);

/// Time after which a connection is accepted even without a request, in seconds.
const DEFER_S: i32 = 1;

sockopt_impl!(
    /// Accept connections once they have data to read (`TCP_DEFER_ACCEPT`, seconds).
    DeferAccept,
    SetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    i32
);

/// The listener could not be opened.
#[derive(Debug, Error)]
#[error("cannot listen for hollow sandboxes on port {port}")]
pub struct BindError {
    /// The requested port.
    pub port: u16,
    /// Error of the system.
    pub source: io::Error,
}

/// Accepts connections to any address of one network on one port.
#[derive(Debug)]
pub struct WildcardListener {
    listener: TcpListener,
    port: u16,
    network: Network,
}

/// A network of which every address belongs to this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its first address.
    pub first: Ipv4Addr,
    /// Length of its prefix, 0 to 32.
    pub prefix: u8,
}

impl Network {
    /// 127.0.0.0/8.
    pub const LOOPBACK: Self = Self { first: Ipv4Addr::new(127, 0, 0, 0), prefix: 8 };

    /// Returns true if `address` is in the network.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let IpAddr::V4(address) = address else { return false };
        // A shift by all 32 bits, for prefix 0, overflows.
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(0);
        address.to_bits() & mask == self.first.to_bits() & mask
    }
}

impl WildcardListener {
    /// Listens on `port`, 0 for any free one. Must be called within a tokio runtime.
    ///
    /// The socket is bound to the loopback device if the system permits it. In any case, a connection to an address
    /// outside of 127/8 is reset.
    ///
    /// # Errors
    /// If the port is in use.
    pub fn bind(port: u16) -> Result<Self, BindError> {
        Self::bind_network(port, Network::LOOPBACK)
    }

    /// Listens on `port` for the addresses of `network`; a connection to any other address is reset. Must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// If the port is in use.
    pub fn bind_network(port: u16, network: Network) -> Result<Self, BindError> {
        let listen = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.set_nonblocking(true)?;
            // A restarted worker gets its port back although connections of the one before are in TIME_WAIT.
            socket.set_reuse_address(true)?;
            // Linux copies the option to accepted connections, which saves a system call for each.
            socket.set_tcp_nodelay(true)?;
            // One wake-up per request, instead of a first one for its connection.
            setsockopt(&socket, DeferAccept, &DEFER_S)?;
            if network == Network::LOOPBACK {
                // Older kernels permit this to privileged processes only. `accept` checks each address in any case.
                let _ = socket.bind_device(Some(b"lo"));
            }
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
            socket.listen(BACKLOG)?;
            let listener = TcpListener::from_std(socket.into())?;
            let port = listener.local_addr()?.port();
            Ok(Self { listener, port, network })
        };
        listen().map_err(|source| BindError { port, source })
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The next connection and the address it was opened to. Cancel-safe.
    ///
    /// # Errors
    /// If the system cannot accept, for example without free file descriptors.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            // Fails if the client has closed the connection already.
            let Ok(local) = stream.local_addr() else { continue };
            if !self.network.contains(local.ip()) {
                reset(&stream);
                continue;
            }
            return Ok((stream, local));
        }
    }

    /// Serves the connections of `sandboxes` until `shutdown`. A connection to an address without a sandbox is reset.
    pub async fn serve(self, sandboxes: Arc<Sandboxes>, shutdown: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                accepted = self.accept() => accepted,
            };
            match accepted {
                Ok((stream, local)) => match sandboxes.connection(local) {
                    Ok(connection) => drop(tokio::spawn(connection.serve(ClosedByDrop(stream)))),
                    Err(_) => reset(&stream),
                },
                Err(error) => {
                    warn!(cause = %error, "cannot accept connections to hollow sandboxes");
                    tokio::time::sleep(ACCEPT_BACK_OFF).await;
                }
            }
        }
    }
}

/// Makes closing the stream a reset, so that the client knows at once that its request was not read.
fn reset(stream: &TcpStream) {
    // Fails only if the connection is closed already.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// A stream that is closed without a shutdown before, which saves a system call for each connection. No data is lost,
/// because the server has written everything by then.
struct ClosedByDrop(TcpStream);

impl AsyncRead for ClosedByDrop {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ClosedByDrop {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_its_own_addresses_only() {
        let pods = Network { first: Ipv4Addr::new(10, 200, 0, 0), prefix: 16 };
        assert!(pods.contains(IpAddr::from([10, 200, 255, 3])) && !pods.contains(IpAddr::from([10, 201, 0, 1])));
        assert!(Network::LOOPBACK.contains(IpAddr::from([127, 9, 9, 9])));
        assert!(!Network::LOOPBACK.contains(IpAddr::from([128, 0, 0, 1])));
        let all = Network { first: Ipv4Addr::UNSPECIFIED, prefix: 0 };
        assert!(all.contains(IpAddr::from([8, 8, 8, 8])) && !all.contains("::1".parse().unwrap()));
    }
}
