//! The network as a value that every part takes from its caller, so that the same code runs on sockets and in a
//! simulated network.

use std::{
    any::Any,
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    pin::Pin,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

/// A bound socket for datagrams: they may get lost, and one that comes wakes nobody. Who wants them looks.
pub trait Datagrams: Send + Sync + 'static {
    /// Sends `bytes`.
    ///
    /// # Errors
    /// When the operating system refuses; it also refuses when it has no room just now.
    fn send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()>;

    /// One that has come: its length, at most the buffer's, and its sender. `None` when there is none.
    ///
    /// # Errors
    /// When the operating system cannot receive.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>>;

    /// The address bound, with the port chosen when 0 was asked for.
    ///
    /// # Errors
    /// When the operating system cannot tell.
    fn local_address(&self) -> io::Result<SocketAddr>;
}

/// A future handed over a trait object.
type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A byte stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// The operating system's socket behind it; `None` in a simulated network. To ask what reading cannot tell: whether
    /// the peer is there while nobody reads.
    fn socket(&self) -> Option<&TcpStream>;
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for T {
    fn socket(&self) -> Option<&TcpStream> {
        (self as &dyn Any).downcast_ref()
    }
}

/// A connection of any network.
pub type Io = Box<dyn Duplex>;

/// A connection taken from a listener.
pub struct Accepted {
    /// The connection.
    pub io: Io,
    /// The address the peer connected to, also behind a wildcard listener.
    pub local: SocketAddr,
    /// The peer's address.
    pub peer: SocketAddr,
}

/// A bound, listening address.
pub trait Listener: Send + Sync + 'static {
    /// The next connection. Cancel-safe.
    fn accept(&self) -> BoxFuture<'_, io::Result<Accepted>>;

    /// The address bound, with the port chosen when 0 was asked for.
    ///
    /// # Errors
    /// When the operating system cannot tell.
    fn local_address(&self) -> io::Result<SocketAddr>;
}

/// A way to bind and connect.
pub trait Network: Send + Sync + 'static {
    /// Listens on `address`; port 0 takes any free one.
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;

    /// Connects to `address`, written `ip:port` or `host:port`.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Io>>;

    /// Connects to a socket address without parsing one.
    fn connect_to(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Io>>;

    /// Binds `address` for datagrams; port 0 takes any free one.
    ///
    /// # Errors
    /// When the address is taken, or this network has no datagrams: then everything goes over connections.
    fn datagrams(&self, _address: SocketAddr) -> io::Result<Box<dyn Datagrams>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The operating system's TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsNetwork;

/// Connections that may wait to be accepted: a burst of a thousand first requests in one millisecond must fit.
const BACKLOG: i32 = 4096;

/// Room for datagrams that nobody has looked at: thousands of small ones.
const DATAGRAM_BUFFER_BYTES: usize = 4 * 1024 * 1024;

struct OsListener(TcpListener);

impl Listener for OsListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<Accepted>> {
        Box::pin(async {
            let (stream, peer) = self.0.accept().await?;
            let local = stream.local_addr()?;
            Ok(Accepted { io: Box::new(stream), local, peer })
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Network for OsNetwork {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move { Ok(Box::new(OsListener(listen(address)?)) as Box<dyn Listener>) })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Io>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            let peer = stream.peer_addr()?;
            connected(stream, peer)
        })
    }

    fn connect_to(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Io>> {
        Box::pin(async move { connected(TcpStream::connect(address).await?, address) })
    }

    fn datagrams(&self, address: SocketAddr) -> io::Result<Box<dyn Datagrams>> {
        // Not tokio's, which would wake its thread for each of them.
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        // The kernel cuts it to its own limit; more room is better, and less works as well.
        let _ = SockRef::from(&socket).set_recv_buffer_size(DATAGRAM_BUFFER_BYTES);
        Ok(Box::new(socket))
    }
}

impl Datagrams for UdpSocket {
    fn send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        self.send_to(bytes, to).map(drop)
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
        match self.recv_from(buffer) {
            Ok(received) => Ok(Some(received)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    // Linux hands it on to the connections accepted, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A connection to `peer`. The kernel may choose the very port that nobody listens on as the one to connect from, and then
/// connects it to itself: what is sent would come back as the response.
fn connected(stream: TcpStream, peer: SocketAddr) -> io::Result<Io> {
    let own = stream.local_addr()?;
    if (own.ip(), own.port()) == (peer.ip(), peer.port()) {
        return Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            "nobody listens, the port is connected to itself",
        ));
    }
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

/// Loopback with any free port: what daemons bind in tests.
pub const ANY_LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn accepted_connections_do_not_delay_small_writes() {
        let listener = listen(ANY_LOOPBACK).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(!client.nodelay().unwrap(), "the end that connects was not asked for it");
        assert!(listener.accept().await.unwrap().0.nodelay().unwrap());
    }

    #[tokio::test]
    async fn a_port_that_is_connected_to_itself_refuses_the_connection() {
        for any in [ANY_LOOPBACK, SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 0))] {
            // Where a machine does not have the newer protocol, it has no such port either.
            let Ok(socket) = Socket::new(Domain::for_address(any), Type::STREAM, Some(Protocol::TCP)) else { continue };
            let Ok(()) = socket.bind(&any.into()) else { continue };
            let address = socket.local_addr().unwrap().as_socket().unwrap();
            // As the kernel may choose it by itself, once in some 14,000 connections.
            socket.connect(&address.into()).unwrap();
            socket.set_nonblocking(true).unwrap();
            let stream = TcpStream::from_std(socket.into()).unwrap();
            let refused = connected(stream, address).map(drop).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "{refused}");
        }
        let listener = listen(ANY_LOOPBACK).unwrap();
        OsNetwork.connect_to(listener.local_addr().unwrap()).await.expect("others are connected");
        OsNetwork.connect(&listener.local_addr().unwrap().to_string()).await.expect("by name, too");
    }
}
