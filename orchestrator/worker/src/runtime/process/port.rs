//! Ports for sandboxes. A bound socket reserves each for as long as its sandbox lives.
//!
//! The socket does not listen and sets SO_REUSEADDR, so the sandbox's program can bind the port too; the kernel
//! meanwhile gives the port to no other worker and to no outgoing connection, on any address, because many programs
//! listen on all.
//!
//! A data plane may still connect to the port of a sandbox that has just ended, and must not reach another function
//! there. So the port whose last sandbox ended first comes next, where the kernel would choose at random among a part
//! of the range.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::sleep;

use super::{port_history::PortHistory, port_queue::PortQueue};
use crate::runtime::{CreationFailure, CreationRequest};

/// Time between two searches while a creation waits for a port.
const SEARCH_PAUSE: Duration = Duration::from_millis(100);

/// The cause of that wait, for the control plane.
pub(super) const NO_PORT: &str =
    "every port of its worker's range is in use, or its connections have ended within a minute";

/// The ports for sandboxes on one address.
#[derive(Debug)]
pub(super) struct Ports {
    address: IpAddr,
    /// The wildcard address: of IPv6 if the machine has it, which includes IPv4.
    any: IpAddr,
    free: Arc<Mutex<PortQueue>>,
    history: Arc<PortHistory>,
}

/// A port on one address, reserved until dropped. Afterwards it is unused for as long as the queue has others.
#[derive(Debug)]
pub(super) struct Port {
    address: SocketAddr,
    /// `None` after [`unbind`](Self::unbind).
    socket: Option<Socket>,
    free: Arc<Mutex<PortQueue>>,
    history: Arc<PortHistory>,
}

impl Ports {
    /// The kernel's range of local ports, for sandboxes on `address`. With the `history` file of an earlier worker,
    /// that worker's ports are given out last.
    pub(super) fn open(address: IpAddr, history: &Path) -> io::Result<Self> {
        Self::with_queue(PortQueue::shared(), address, history)
    }

    pub(super) fn with_queue(free: Arc<Mutex<PortQueue>>, address: IpAddr, history: &Path) -> io::Result<Self> {
        let history = PortHistory::open(history)?;
        lock(&free).apply_history(&history.used()?);
        Ok(Self { address, any: any_address(), free, history: Arc::new(history) })
    }

    /// Takes the port whose last sandbox ended first, of those that are not in use otherwise.
    ///
    /// If there is none, the creation waits until it is cancelled. That is no failure of the function or the node: the
    /// kernel holds the ports of closed connections for a minute (TIME_WAIT). The control plane gets the cause and
    /// moves the creation to another node if that is sooner.
    pub(super) async fn take(&self, request: &CreationRequest) -> Result<Port, CreationFailure> {
        let found = match self.reserve() {
            Ok(None) => request.wait(Some(NO_PORT), self.search()).await?,
            Ok(Some(port)) => Ok(port),
            Err(error) => Err(error),
        };
        found.map_err(|error| CreationFailure::transient(format!("cannot find a free port: {error}")))
    }

    async fn search(&self) -> io::Result<Port> {
        loop {
            // By polling, because the kernel reports no end of TIME_WAIT.
            sleep(SEARCH_PAUSE).await;
            if let Some(port) = self.reserve()? {
                return Ok(port);
            }
        }
    }

    /// As [`Self::take`], but returns `None` instead of waiting.
    fn reserve(&self) -> io::Result<Option<Port>> {
        let socket = socket(self.any)?;
        let found = lock(&self.free).find(|port| try_bind(&socket, SocketAddr::new(self.any, port)))?;
        Ok(found.map(|port| {
            // At once, because a worker that is killed has no other chance.
            self.history.record_use(port);
            let (free, history) = (Arc::clone(&self.free), Arc::clone(&self.history));
            Port { address: SocketAddr::new(self.address, port), socket: Some(socket), free, history }
        }))
    }
}

/// The wildcard address of IPv6 if the machine has it, which includes IPv4, or else of IPv4.
fn any_address() -> IpAddr {
    let both = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let has_ipv6 = socket(both).and_then(|socket| socket.bind(&SocketAddr::new(both, 0).into())).is_ok();
    if has_ipv6 { both } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) }
}

/// A socket that can be bound to the wildcard address `any`.
fn socket(any: IpAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(SocketAddr::new(any, 0)), Type::STREAM, Some(Protocol::TCP))?;
    if any.is_ipv6() {
        // Explicitly, because the system's default (`net.ipv6.bindv6only`) may be the opposite.
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

/// Binds `socket`. Returns false if the port is in use. SO_REUSEADDR is set only afterwards: set before, it would let
/// the socket share the port that another worker reserves for a sandbox.
fn try_bind(socket: &Socket, address: SocketAddr) -> io::Result<bool> {
    match socket.bind(&address.into()) {
        Ok(()) => socket.set_reuse_address(true).map(|()| true),
        // PermissionDenied is a privileged port, in a range that was widened to below `ip_unprivileged_port_start`.
        Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Every change leaves the value consistent, so a panic of another holder does not make it unusable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Port {
    fn drop(&mut self) {
        // Closed first: the next sandbox must be able to bind the port once the queue has it.
        self.socket = None;
        let (port, mut free) = (self.address.port(), lock(&self.free));
        let ended = free.now();
        // Recorded before the port is available again, so that a later use cannot be overwritten.
        self.history.record_end(port, ended);
        free.put_back(port, ended);
    }
}

impl Port {
    /// Unbinds the socket, for a program that does not set SO_REUSEADDR. No other sandbox gets the port until it is
    /// dropped.
    pub(super) fn unbind(&mut self) {
        self.socket = None;
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fs::File,
        io::Read,
        net::{TcpListener, TcpStream},
        os::unix::fs::FileExt,
        path::PathBuf,
        sync::atomic::{AtomicU16, Ordering},
    };

    use model::{Epoch, SandboxId};
    use tokio::{sync::mpsc, time::timeout};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        messages::SandboxSpec,
        runtime::{Progress, process::port_range::in_order},
    };

    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// `count` consecutive unused ports outside the kernel's range, and the first of them.
    fn unused_ports(count: u16) -> (Ports, u16) {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let base = 12_000 + u16::try_from(std::process::id() % 200).unwrap() * 100;
        let any = any_address();
        let is_free = |port| socket(any).unwrap().bind(&SocketAddr::new(any, port).into()).is_ok();
        loop {
            let low = base + NEXT.fetch_add(count, Ordering::Relaxed);
            let range = low..=low + count - 1;
            if range.clone().all(is_free) {
                let queue = PortQueue::new(in_order(range, 0));
                return (without_history(LOCALHOST, Arc::new(Mutex::new(queue))), low);
            }
        }
    }

    /// With an empty history in a directory that is removed at once.
    fn without_history(address: IpAddr, free: Arc<Mutex<PortQueue>>) -> Ports {
        let dir = tempfile::tempdir().unwrap();
        Ports::with_queue(free, address, &dir.path().join("ports")).unwrap()
    }

    fn port_of(ports: &Ports) -> Port {
        ports.reserve().unwrap().expect("a port is unused")
    }

    fn is_exhausted(ports: &Ports) -> bool {
        ports.reserve().unwrap().is_none()
    }

    #[test]
    fn a_reserved_port_can_be_listened_on_and_is_given_to_no_other_sandbox() {
        let ports = without_history(LOCALHOST, PortQueue::shared());
        let port = port_of(&ports);
        let others: Vec<Port> = (0..200).map(|_| port_of(&ports)).collect();
        assert!(others.iter().all(|other| other.address() != port.address()));
        assert!(TcpStream::connect(port.address()).is_err(), "no program listens yet");
        let number = port.address().port();
        for listen_on in [port.address().ip(), Ipv4Addr::UNSPECIFIED.into(), ports.any] {
            let listener = TcpListener::bind((listen_on, number)).expect("its program can listen");
            TcpStream::connect(port.address()).expect("and be reached");
            drop(listener);
        }
    }

    #[test]
    fn no_port_is_given_a_second_time_before_all_others_over_all_workers_of_the_process() {
        let workers = [1, 2].map(|last| without_history(IpAddr::from([127, 77, 1, last]), PortQueue::shared()));
        let mut given = BTreeSet::new();
        for number in 0..12_000 {
            let port = port_of(&workers[number % 2]).address().port();
            assert!(given.insert(port), "{port} is given a second time, after {number} sandboxes");
        }
    }

    #[test]
    fn the_port_whose_last_sandbox_ended_first_is_next() {
        let (ports, _) = unused_ports(4);
        let [a, b, c, d] = std::array::from_fn(|_| port_of(&ports));
        assert!(is_exhausted(&ports));
        let ended = [c, a, d].map(|port| port.address());
        let next: Vec<_> = (0..6).map(|_| port_of(&ports).address()).collect();
        assert_eq!(
            next,
            [ended, ended].concat(),
            "each is unused as long as the others allow, also after its second sandbox"
        );
        drop(b);
    }

    #[test]
    fn a_restarted_worker_gives_out_the_ports_of_the_one_before_last() {
        let ((_, low), dir) = (unused_ports(6), tempfile::tempdir().unwrap());
        let start = || {
            let free = Arc::new(Mutex::new(PortQueue::new((low..low + 6).collect())));
            Ports::with_queue(free, LOCALHOST, &dir.path().join("ports")).unwrap()
        };
        let before = start();
        let [mut first, second, mut third] = std::array::from_fn(|_| port_of(&before));
        drop(second);
        // The worker is killed, and the kernel closes its sockets.
        for port in [&mut first, &mut third] {
            port.unbind();
        }
        std::mem::forget((first, third));
        let after = start();
        let given: Vec<u16> = (0..6).map(|_| port_of(&after).address().port() - low).collect();
        assert_eq!(given, [3, 4, 5, 1, 0, 2], "first the unused ones, last those of sandboxes that were killed");
    }

    /// A history in which sandboxes ended at these times.
    fn history_of(ended: &[(u16, u32)]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ports");
        let file = File::create(&path).unwrap();
        for (port, time) in ended {
            file.write_all_at(&time.to_le_bytes(), u64::from(*port) * 4).unwrap();
        }
        (dir, path)
    }

    #[test]
    fn a_second_worker_does_not_bring_forward_a_port_that_a_sandbox_of_the_first_has_just_left() {
        let (first, low) = unused_ports(3);
        let (_dir, history) = history_of(&[(low, 1000), (low + 1, 2000)]);
        assert_eq!(port_of(&first).address().port(), low + 1);
        assert_eq!(port_of(&first).address().port(), low, "both have just been left");
        let second = Ports::with_queue(Arc::clone(&first.free), LOCALHOST, &history).unwrap();
        let given: Vec<u16> = (0..3).map(|_| port_of(&second).address().port() - low).collect();
        assert_eq!(given, [2, 1, 0]);
    }

    #[test]
    fn a_port_that_is_left_while_the_clock_is_behind_comes_after_those_that_were_left_before() {
        let (ports, low) = unused_ports(3);
        let (_dir, history) = history_of(&[(low, u32::MAX - 9)]);
        let start = || {
            let free = Arc::new(Mutex::new(PortQueue::new((low..low + 3).collect())));
            Ports::with_queue(free, LOCALHOST, &history).unwrap()
        };
        drop(ports);
        let before = start();
        assert_eq!(port_of(&before).address().port(), low + 1);
        drop(before);
        let after = start();
        let given: Vec<u16> = (0..3).map(|_| port_of(&after).address().port() - low).collect();
        assert_eq!(given, [2, 0, 1]);
    }

    #[test]
    fn ports_in_use_are_skipped_on_whatever_address_they_are_used() {
        let (ports, low) = unused_ports(10);
        let at = |last, port: u16| SocketAddr::new(IpAddr::from([127, 0, 0, last]), low + port);
        // Programs, and a port that a worker in another process reserves: bound, with SO_REUSEADDR, and not listening.
        let programs = [at(1, 1), at(2, 2)].map(|address| TcpListener::bind(address).unwrap());
        let other = socket(ports.any).unwrap();
        assert!(try_bind(&other, SocketAddr::new(ports.any, low + 3)).unwrap());
        // And outgoing connections, one of them closed and in TIME_WAIT.
        let [outgoing, ended] = [at(1, 5), at(2, 6)].map(|from| {
            let outgoing = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
            outgoing.bind(&from.into()).unwrap();
            outgoing.connect(&programs[0].local_addr().unwrap().into()).unwrap();
            (outgoing, programs[0].accept().unwrap().0)
        });
        let (ended, mut accepted) = ended;
        drop(ended);
        assert_eq!(accepted.read(&mut [0]).unwrap(), 0);
        drop(accepted);
        let given: Vec<_> = (0..5).map(|_| port_of(&ports)).collect();
        assert_eq!(given.iter().map(|port| port.address().port() - low).collect::<Vec<_>>(), [7, 9, 0, 4, 8]);
        assert!(is_exhausted(&ports));
        for port in given {
            TcpListener::bind(("0.0.0.0", port.address().port())).expect("a program can listen on all addresses");
        }
        drop((programs, other, outgoing));
    }

    #[test]
    fn an_unbound_port_is_given_to_no_other_sandbox_before_its_own_ends() {
        let (ports, _) = unused_ports(2);
        let mut port = port_of(&ports);
        port.unbind();
        let other = port_of(&ports);
        assert_ne!(port.address(), other.address());
        assert!(is_exhausted(&ports), "there is no other");
        let unbound = port.address();
        drop(port);
        assert_eq!(port_of(&ports).address(), unbound);
    }

    #[test]
    fn an_ipv6_address_has_ports_too() {
        let ports = without_history(IpAddr::V6(Ipv6Addr::LOCALHOST), PortQueue::shared());
        let port = port_of(&ports);
        let is_there = TcpListener::bind("[::1]:0").is_ok();
        assert_eq!(
            TcpListener::bind(port.address()).is_ok(),
            is_there,
            "its program can listen if the machine has IPv6"
        );
    }

    /// A request, and the receiver of its progress.
    fn request() -> (CreationRequest, mpsc::Receiver<(SandboxId, Progress)>) {
        let (progress, progressed) = mpsc::channel(4);
        let sandbox = SandboxId::new(Epoch(1), 1).unwrap();
        let spec = Arc::new(SandboxSpec::example(1, "builtin:function"));
        (CreationRequest { sandbox, node: 0, spec, cancel: CancellationToken::new(), progress }, progressed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_creation_without_a_port_waits_for_one_and_reports_that() {
        let (ports, _) = unused_ports(1);
        let (request, mut progressed) = request();
        let first = ports.take(&request).await.unwrap();
        let (address, mut taken) = (first.address(), Box::pin(ports.take(&request)));
        let queued = tokio::select! {
            biased;
            _ = &mut taken => panic!("there was no port"),
            progress = progressed.recv() => progress,
        };
        assert_eq!(queued, Some((request.sandbox, Progress::Queued(Some(NO_PORT)))), "it waits and has not failed");
        drop(first);
        let second = taken.await.unwrap();
        assert_eq!((second.address(), progressed.recv().await), (address, Some((request.sandbox, Progress::Started))));

        let hour = Duration::from_secs(3600);
        let waits = timeout(hour, ports.take(&request)).await.is_err();
        assert!(waits, "a long wait is no failure of the function or the node");
        request.cancel.cancel();
        assert_eq!(
            ports.take(&request).await.err(),
            Some(CreationFailure::cancelled()),
            "a cancelled creation stops waiting"
        );
    }
}
