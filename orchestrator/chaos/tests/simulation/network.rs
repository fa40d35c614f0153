//! The simulated network as the parts take it, with taps where the harness must see what happens on the wire.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
};

use api::{Accepted, Io, Listener, Network};
use turmoil::net::{TcpListener, TcpStream};

use super::{
    host::Host,
    ledger::Ledger,
    tap::{CallerTap, SandboxTap, Tapped},
};
use crate::simulation::event::Event;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The network as one machine sees it.
pub(crate) struct SimulatedNetwork {
    host: Host,
    ledger: Ledger,
}

/// The address of the machine whose program is running.
pub(crate) fn own_address(host: Host) -> IpAddr {
    turmoil::lookup(host.name())
}

impl SimulatedNetwork {
    /// What `host` sees; its dealings with sandboxes go into `ledger`.
    pub(crate) fn new(host: Host, ledger: Ledger) -> Self {
        Self { host, ledger }
    }

    async fn dial(&self, address: SocketAddr) -> io::Result<Io> {
        match Host::of_address(address.ip()) {
            Some(worker @ Host::Worker(_)) => {
                let (from, ledger) = (self.host, self.ledger.clone());
                ledger.record(Event::Dialed { from, worker });
                let stream = TcpStream::connect(address).await?;
                Ok(Box::new(Tapped::new(stream, CallerTap { from, worker, ledger })))
            }
            _ => Ok(Box::new(TcpStream::connect(address).await?)),
        }
    }
}

impl Network for SimulatedNetwork {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            // The simulation binds all addresses of a machine at once; there is only one.
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await?;
            let local = SocketAddr::new(own_address(self.host), listener.local_addr()?.port());
            // Sandboxes are what takes any free port: the pages of a worker have one of their own.
            let is_sandbox = matches!(self.host, Host::Worker(_)) && address.port() == 0;
            let tap = is_sandbox.then(|| (self.host, self.ledger.clone()));
            Ok(Box::new(SimulatedListener { listener, local, tap }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Io>> {
        Box::pin(async move { Ok(Box::new(TcpStream::connect(address).await?) as Io) })
    }

    fn connect_to(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Io>> {
        Box::pin(self.dial(address))
    }
}

struct SimulatedListener {
    listener: TcpListener,
    local: SocketAddr,
    /// For a sandbox: its worker, and where to write down what it does.
    tap: Option<(Host, Ledger)>,
}

impl Listener for SimulatedListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<Accepted>> {
        Box::pin(async {
            let (stream, peer) = self.listener.accept().await?;
            let local = self.local;
            let io: Io = match &self.tap {
                Some((worker, ledger)) => {
                    let tap = SandboxTap::new(*worker, local.port(), ledger.clone());
                    Box::new(Tapped::new(stream, tap))
                }
                None => Box::new(stream),
            };
            Ok(Accepted { io, local, peer })
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}
