//! Ports for sandboxes: each is kept by a bound socket for as long as its sandbox lives.
//!
//! The socket does not listen and allows reuse, so the sandbox's own program can bind beside it, while the kernel
//! gives the port to no other worker and to no outgoing connection, not even the probe's own. A port that a sandbox had
//! is given to no other one for a while: a data plane that has not heard of its end finds nobody there, and not another
//! function.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api::PORT_REST;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::Instant;

/// Ports that rest at once, at most: half of those that the kernel gives out by default, so that a free one is found soon.
/// With so many the one that has rested longest is free sooner.
const MAX_RESTING: usize = 14_000;
/// Free ports that are looked at for one that does not rest. By chance alone more are never needed.
const MAX_LOOKED_AT: usize = 64;

/// Gives out the ports of one address.
#[derive(Debug)]
pub(super) struct Ports {
    address: IpAddr,
    resting: Arc<Mutex<Resting>>,
}

/// Ports whose sandboxes have ended.
#[derive(Debug, Default)]
struct Resting {
    /// With when they did, the first first.
    order: VecDeque<(Instant, u16)>,
    ports: BTreeSet<u16>,
}

/// A port on one address, kept until dropped; then it rests.
#[derive(Debug)]
pub(super) struct Port {
    address: SocketAddr,
    /// `None` when given up for a program that does not allow reuse.
    socket: Option<Socket>,
    resting: Arc<Mutex<Resting>>,
}

impl Ports {
    /// Those of `address`.
    pub(super) fn of(address: IpAddr) -> Self {
        Self { address, resting: Arc::default() }
    }

    /// Any free port that does not rest; where the kernel has no other one, any.
    pub(super) fn reserve(&self) -> io::Result<Port> {
        let mut port = self.bind()?;
        // Kept until another one is found, or they would be given out again.
        let mut passed_over = Vec::new();
        while passed_over.len() < MAX_LOOKED_AT && lock(&self.resting).has(port.1.port()) {
            let Ok(other) = self.bind() else { break };
            passed_over.push(std::mem::replace(&mut port, other));
        }
        let (socket, address) = port;
        Ok(Port { address, socket: Some(socket), resting: self.resting.clone() })
    }

    fn bind(&self) -> io::Result<(Socket, SocketAddr)> {
        let any_port = SocketAddr::new(self.address, 0);
        let socket = Socket::new(Domain::for_address(any_port), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&any_port.into())?;
        let local = socket.local_addr()?;
        let address = local.as_socket().ok_or_else(|| io::Error::other("a TCP socket without an internet address"))?;
        Ok((socket, address))
    }
}

impl Resting {
    fn has(&mut self, port: u16) -> bool {
        let now = Instant::now();
        while let Some(&(since, rested)) = self.order.front()
            && (now.duration_since(since) >= PORT_REST || self.order.len() > MAX_RESTING)
        {
            self.order.pop_front();
            self.ports.remove(&rested);
        }
        self.ports.contains(&port)
    }

    fn add(&mut self, port: u16) {
        if self.ports.insert(port) {
            self.order.push_back((Instant::now(), port));
        }
    }
}

/// Every change leaves it whole, so a panic elsewhere does not make it unusable.
fn lock(resting: &Mutex<Resting>) -> MutexGuard<'_, Resting> {
    resting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Port {
    fn drop(&mut self) {
        // First, or another one may get it in between.
        lock(&self.resting).add(self.address.port());
        self.socket = None;
    }
}

impl Port {
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_kept_port_can_be_listened_on_and_is_given_to_nobody_else() {
        let ports = Ports::of(IpAddr::from([127, 0, 0, 1]));
        let reserve = || ports.reserve().unwrap();
        let port = reserve();
        let others: Vec<Port> = (0..200).map(|_| reserve()).collect();
        assert!(others.iter().all(|other| other.address() != port.address()));
        assert!(std::net::TcpStream::connect(port.address()).is_err(), "nobody listens yet");
        let listener = std::net::TcpListener::bind(port.address()).expect("its program can listen");
        std::net::TcpStream::connect(port.address()).expect("and be reached");
        drop(listener);
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_is_given_to_no_other_sandbox_until_it_has_rested() {
        let ports = Ports::of(IpAddr::from([127, 0, 0, 1]));
        let mut given = BTreeSet::new();
        for number in 0..3000 {
            let port = ports.reserve().unwrap().address().port();
            assert!(given.insert(port), "{port} is given a second time, after {number} sandboxes");
        }
        let first = *given.first().unwrap();
        tokio::time::advance(PORT_REST - Duration::from_millis(1)).await;
        assert!(lock(&ports.resting).has(first));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!lock(&ports.resting).has(first));
        assert_eq!(lock(&ports.resting).order.len(), 0, "they are forgotten");
    }

    #[test]
    fn no_more_ports_rest_than_leave_others_to_give() {
        let mut resting = Resting::default();
        for port in 1..=u16::MAX {
            resting.add(port);
        }
        assert!(!resting.has(1) && resting.has(u16::MAX));
        assert_eq!((resting.order.len(), resting.ports.len()), (MAX_RESTING, MAX_RESTING));
    }
}
