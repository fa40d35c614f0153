//! The network as a trait object that every component receives from its caller, so that the same code runs on sockets
//! and in a simulated network.

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

/// A bound socket for datagrams, which may be lost. It is polled: an arriving datagram wakes no task.
pub trait Datagrams: Send + Sync + 'static {
    /// Sends `bytes` without waiting.
    ///
    /// # Errors
    /// If the operating system refuses the datagram, for example because its buffer is full.
    fn send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()>;

    /// Receives one datagram without waiting: its length, at most that of `buffer`, and its sender. `None` if there is
    /// none.
    ///
    /// # Errors
    /// If the operating system cannot receive.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>>;

    /// Returns the bound address, with the port that was chosen for port 0.
    ///
    /// # Errors
    /// If the operating system does not return it.
    fn local_address(&self) -> io::Result<SocketAddr>;
}

/// The future of an object-safe async method.
type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A byte stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Returns the operating system's socket, or `None` in a simulated network. Needed for what reading and writing
    /// cannot do, such as detecting a closed connection that nobody reads.
    fn socket(&self) -> Option<&TcpStream>;
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for T {
    fn socket(&self) -> Option<&TcpStream> {
        (self as &dyn Any).downcast_ref()
    }
}

/// A connection of a real or simulated network.
pub type Io = Box<dyn Duplex>;

/// A connection accepted by a listener.
pub struct Accepted {
    /// The connection.
    pub io: Io,
    /// The address to which the peer connected; for a wildcard listener, the actual one.
    pub local: SocketAddr,
    /// The peer's address.
    pub peer: SocketAddr,
}

/// A bound, listening address.
pub trait Listener: Send + Sync + 'static {
    /// Accepts the next connection. Cancel-safe.
    fn accept(&self) -> BoxFuture<'_, io::Result<Accepted>>;

    /// Returns the bound address, with the port that was chosen for port 0.
    ///
    /// # Errors
    /// If the operating system does not return it.
    fn local_address(&self) -> io::Result<SocketAddr>;
}

/// A network in which addresses can be bound and connected to.
pub trait Network: Send + Sync + 'static {
    /// Listens on `address`; port 0 chooses a free port.
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;

    /// Connects to `address`, written `ip:port` or `host:port`.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Io>>;

    /// Connects to a socket address without parsing one.
    fn connect_to(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Io>>;

    /// Binds `address` for datagrams; port 0 chooses a free port.
    ///
    /// # Errors
    /// If the address is in use, or this network has no datagrams; callers then use connections only.
    fn datagrams(&self, _address: SocketAddr) -> io::Result<Box<dyn Datagrams>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The operating system's TCP and UDP.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsNetwork;

/// Maximum number of connections that wait to be accepted: a burst of a thousand first requests in one millisecond must
/// fit.
const BACKLOG: i32 = 4096;

/// Receive buffer for datagrams: holds thousands of small ones between two polls.
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
        // Not a tokio socket, which would wake a thread for each datagram.
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        // The kernel caps the size at its own limit, and a smaller buffer also works.
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
    // On Linux accepted connections inherit the option, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Turns a stream to `peer` into a connection, and refuses one that is connected to itself: if nothing listens on an
/// ephemeral port of this machine, the kernel may choose that very port as the local one, and every request would come
/// back as its response.
fn connected(stream: TcpStream, peer: SocketAddr) -> io::Result<Io> {
    let own = stream.local_addr()?;
    if (own.ip(), own.port()) == (peer.ip(), peer.port()) {
        return Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            "nothing listens, the port is connected to itself",
        ));
    }
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

/// Loopback address with port 0, which tests bind to get a free port.
pub const ANY_LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn accepted_connections_do_not_delay_small_writes() {
        let listener = listen(ANY_LOOPBACK).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(!client.nodelay().unwrap(), "the option was not set on this end");
        assert!(listener.accept().await.unwrap().0.nodelay().unwrap());
    }

    #[tokio::test]
    async fn a_port_that_is_connected_to_itself_refuses_the_connection() {
        for any in [ANY_LOOPBACK, SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 0))] {
            // The machine may have no IPv6.
            let Ok(socket) = Socket::new(Domain::for_address(any), Type::STREAM, Some(Protocol::TCP)) else { continue };
            let Ok(()) = socket.bind(&any.into()) else { continue };
            let address = socket.local_addr().unwrap().as_socket().unwrap();
            // The kernel does this by itself about once in 14,000 connections.
            socket.connect(&address.into()).unwrap();
            socket.set_nonblocking(true).unwrap();
            let stream = TcpStream::from_std(socket.into()).unwrap();
            let refused = connected(stream, address).map(drop).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "{refused}");
        }
        let listener = listen(ANY_LOOPBACK).unwrap();
        OsNetwork.connect_to(listener.local_addr().unwrap()).await.expect("a listening port accepts");
        OsNetwork.connect(&listener.local_addr().unwrap().to_string()).await.expect("also by name");
    }
}
