//! The simulated network as components use it, with probes on the connections that the harness observes.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
};

use service::{Accepted, Io, Listener, Network};
use turmoil::net::{TcpListener, TcpStream};

use super::{
    event_log::EventLog,
    host::Host,
    probe::{CallerProbe, Probed, SandboxProbe},
};
use crate::simulation::event::Event;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The network as one machine sees it.
pub(crate) struct SimulatedNetwork {
    host: Host,
    event_log: EventLog,
}

/// The address of the machine whose program is running.
pub(crate) fn own_address(host: Host) -> IpAddr {
    turmoil::lookup(host.name())
}

impl SimulatedNetwork {
    /// The network as `host` sees it. Its connections to sandboxes are recorded in `event_log`.
    pub(crate) fn new(host: Host, event_log: EventLog) -> Self {
        Self { host, event_log }
    }

    async fn dial(&self, address: SocketAddr) -> io::Result<Io> {
        match Host::of_address(address.ip()) {
            Some(worker @ Host::Worker(_)) => {
                let (from, event_log) = (self.host, self.event_log.clone());
                // Before it connects, because an attempt counts as traffic to the worker.
                event_log.record(Event::Dialed { from, worker });
                let stream = TcpStream::connect(address).await?;
                Ok(Box::new(Probed::new(stream, CallerProbe { from, worker, event_log })))
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
            // Only sandboxes take any free port: the admin API has a fixed one.
            let is_sandbox = matches!(self.host, Host::Worker(_)) && address.port() == 0;
            let probe = is_sandbox.then(|| (self.host, self.event_log.clone()));
            Ok(Box::new(SimulatedListener { listener, local, probe }) as Box<dyn Listener>)
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
    /// For a sandbox: its worker, and the log of its events.
    probe: Option<(Host, EventLog)>,
}

impl Listener for SimulatedListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<Accepted>> {
        Box::pin(async {
            let (stream, peer) = self.listener.accept().await?;
            let local = self.local;
            let io: Io = match &self.probe {
                Some((worker, event_log)) => {
                    let probe = SandboxProbe::new(*worker, local.port(), event_log.clone());
                    Box::new(Probed::new(stream, probe))
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
