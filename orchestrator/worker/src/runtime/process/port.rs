//! Ports for sandboxes: each is kept by a bound socket for as long as its sandbox lives.
//!
//! The socket does not listen and allows reuse, so the sandbox's own program can bind beside it, while the kernel
//! gives the port to no other worker and to no outgoing connection, not even the probe's own.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};

/// A port on one address, kept until dropped.
#[derive(Debug)]
pub(super) struct Port {
    address: SocketAddr,
    /// `None` when given up for a program that does not allow reuse.
    socket: Option<Socket>,
}

impl Port {
    /// Any free port.
    pub(super) fn reserve(address: IpAddr) -> io::Result<Self> {
        let any_port = SocketAddr::new(address, 0);
        let socket = Socket::new(Domain::for_address(any_port), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&any_port.into())?;
        let local = socket.local_addr()?;
        let address = local.as_socket().ok_or_else(|| io::Error::other("a TCP socket without an internet address"))?;
        Ok(Self { address, socket: Some(socket) })
    }

    /// Stops keeping it, for a program that can bind only a port that nobody has.
    pub(super) fn give_up(&mut self) {
        self.socket = None;
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_port_can_be_listened_on_and_is_given_to_nobody_else() {
        let reserve = || Port::reserve(IpAddr::from([127, 0, 0, 1])).unwrap();
        let port = reserve();
        let others: Vec<Port> = (0..200).map(|_| reserve()).collect();
        assert!(others.iter().all(|other| other.address() != port.address()));
        assert!(std::net::TcpStream::connect(port.address()).is_err(), "nobody listens yet");
        let listener = std::net::TcpListener::bind(port.address()).expect("its program can listen");
        std::net::TcpStream::connect(port.address()).expect("and be reached");
        drop(listener);
    }
}
