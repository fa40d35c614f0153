//! Ports for sandboxes: each is kept by a bound socket for as long as its sandbox lives.
//!
//! The socket does not listen and allows reuse, so the sandbox's own program can bind beside it, while the kernel
//! gives the port to no other worker and to no outgoing connection, not even the probe's own, on whatever address: many
//! programs listen on all.
//!
//! A data plane that has not heard of the end of a sandbox may still connect to its port, and is to find nobody there, not
//! another function. So which port comes next is decided here: always the one whose last sandbox ended first. The kernel
//! would choose at random, and only among a part of the range.

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
use crate::runtime::{Failure, Order};

/// Time between two searches of a creation that waits for a port.
const SEARCH_PAUSE: Duration = Duration::from_millis(100);

/// What a creation waits for then, in words.
pub(super) const NO_PORT: &str =
    "every port of its worker's range is in use, or its connections have ended within a minute";

/// Gives out ports, for sandboxes on one address.
#[derive(Debug)]
pub(super) struct Ports {
    address: IpAddr,
    /// Where they are kept: every address of this machine, of both versions of the protocol if it has both.
    any: IpAddr,
    free: Arc<Mutex<PortQueue>>,
    history: Arc<PortHistory>,
}

/// A port on one address, kept until dropped; then it rests for as long as there are others.
#[derive(Debug)]
pub(super) struct Port {
    address: SocketAddr,
    /// `None` when given up for a program that does not allow reuse.
    socket: Option<Socket>,
    free: Arc<Mutex<PortQueue>>,
    history: Arc<PortHistory>,
}

impl Ports {
    /// Those from which the kernel chooses, too, for sandboxes on `address`. A worker that is started again with the same
    /// `history` file lets its ports rest from where the one before ended.
    pub(super) fn open(address: IpAddr, history: &Path) -> io::Result<Self> {
        Self::of(PortQueue::shared(), address, history)
    }

    pub(super) fn of(free: Arc<Mutex<PortQueue>>, address: IpAddr, history: &Path) -> io::Result<Self> {
        let history = PortHistory::open(history)?;
        lock(&free).let_rest(&history.used()?);
        Ok(Self { address, any: any_address(), free, history: Arc::new(history) })
    }

    /// The port whose last sandbox ended first, of those that nobody else has. Where none is found the creation waits until
    /// it is cancelled, as it does for others: programs that end connections leave their ports to the kernel for a minute,
    /// and that says nothing of the function or the node. The control plane knows, and has the creation made elsewhere where
    /// that is sooner.
    pub(super) async fn take(&self, order: &Order) -> Result<Port, Failure> {
        let found = match self.reserve() {
            Ok(None) => order.wait(NO_PORT, self.search()).await?,
            Ok(Some(port)) => Ok(port),
            Err(error) => Err(error),
        };
        found.map_err(|error| Failure::passing(format!("cannot find a free port: {error}")))
    }

    async fn search(&self) -> io::Result<Port> {
        loop {
            sleep(SEARCH_PAUSE).await;
            if let Some(port) = self.reserve()? {
                return Ok(port);
            }
        }
    }

    /// As [`Self::take`], without a wait.
    fn reserve(&self) -> io::Result<Option<Port>> {
        let socket = socket(self.any)?;
        let found = lock(&self.free).find(|port| keep(&socket, SocketAddr::new(self.any, port)))?;
        Ok(found.map(|port| {
            self.history.begun(port);
            let (free, history) = (Arc::clone(&self.free), Arc::clone(&self.history));
            Port { address: SocketAddr::new(self.address, port), socket: Some(socket), free, history }
        }))
    }
}

/// Every address of this machine. The one of the newer protocol stands for both.
fn any_address() -> IpAddr {
    let both = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let is_there = socket(both).and_then(|socket| socket.bind(&SocketAddr::new(both, 0).into())).is_ok();
    if is_there { both } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) }
}

/// A socket that can be bound to `any` address.
fn socket(any: IpAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(SocketAddr::new(any, 0)), Type::STREAM, Some(Protocol::TCP))?;
    if any.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

/// Binds `socket`, unless somebody has this port. Only then it allows reuse: before, it would be bound beside the one that
/// keeps the port of another worker's sandbox.
fn keep(socket: &Socket, address: SocketAddr) -> io::Result<bool> {
    match socket.bind(&address.into()) {
        Ok(()) => socket.set_reuse_address(true).map(|()| true),
        Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Every change leaves what it locks whole, so a panic elsewhere does not make it unusable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Port {
    fn drop(&mut self) {
        self.socket = None;
        let (port, mut free) = (self.address.port(), lock(&self.free));
        let ended = free.now();
        // Before anybody can have it again.
        self.history.ended(port, ended);
        free.put_back(port, ended);
    }
}

impl Port {
    /// Stops keeping it, for a program that can bind only a port that nobody has. No other sandbox gets it until dropped.
    pub(super) fn give_up(&mut self) {
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
    use crate::runtime::{Progress, process::port_range::in_order};

    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// So many ports from the first one on, which nobody uses and the kernel gives to nobody.
    fn few(count: u16) -> (Ports, u16) {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let base = 12_000 + u16::try_from(std::process::id() % 200).unwrap() * 100;
        let any = any_address();
        let is_free = |port| socket(any).unwrap().bind(&SocketAddr::new(any, port).into()).is_ok();
        loop {
            let low = base + NEXT.fetch_add(count, Ordering::Relaxed);
            let range = low..=low + count - 1;
            if range.clone().all(is_free) {
                let queue = PortQueue::new(in_order(range, 0));
                return (on(LOCALHOST, Arc::new(Mutex::new(queue))), low);
            }
        }
    }

    /// With a history that begins, and that nobody finds again.
    fn on(address: IpAddr, free: Arc<Mutex<PortQueue>>) -> Ports {
        let dir = tempfile::tempdir().unwrap();
        Ports::of(free, address, &dir.path().join("ports")).unwrap()
    }

    /// A port that is there.
    fn port_of(ports: &Ports) -> Port {
        ports.reserve().unwrap().expect("there is a port")
    }

    fn has_none(ports: &Ports) -> bool {
        ports.reserve().unwrap().is_none()
    }

    #[test]
    fn a_kept_port_can_be_listened_on_and_is_given_to_nobody_else() {
        let ports = on(LOCALHOST, PortQueue::shared());
        let port = port_of(&ports);
        let others: Vec<Port> = (0..200).map(|_| port_of(&ports)).collect();
        assert!(others.iter().all(|other| other.address() != port.address()));
        assert!(TcpStream::connect(port.address()).is_err(), "nobody listens yet");
        let number = port.address().port();
        for listen_on in [port.address().ip(), Ipv4Addr::UNSPECIFIED.into(), ports.any] {
            let listener = TcpListener::bind((listen_on, number)).expect("its program can listen");
            TcpStream::connect(port.address()).expect("and be reached");
            drop(listener);
        }
    }

    #[test]
    fn no_port_is_given_a_second_time_before_all_others_whichever_worker_of_the_process_asks() {
        let workers = [1, 2].map(|last| on(IpAddr::from([127, 77, 1, last]), PortQueue::shared()));
        let mut given = BTreeSet::new();
        for number in 0..12_000 {
            let port = port_of(&workers[number % 2]).address().port();
            assert!(given.insert(port), "{port} is given a second time, after {number} sandboxes");
        }
    }

    #[test]
    fn the_port_whose_last_sandbox_ended_first_is_next() {
        let (ports, _) = few(4);
        let [a, b, c, d] = std::array::from_fn(|_| port_of(&ports));
        assert!(has_none(&ports));
        let ended = [c, a, d].map(|port| port.address());
        let next: Vec<_> = (0..6).map(|_| port_of(&ports).address()).collect();
        assert_eq!(
            next,
            [ended, ended].concat(),
            "each rests as long as the others allow, also after its second sandbox"
        );
        drop(b);
    }

    #[test]
    fn a_worker_that_is_started_again_lets_the_ports_of_the_one_before_rest() {
        let ((_, low), dir) = (few(6), tempfile::tempdir().unwrap());
        let start = || {
            let free = Arc::new(Mutex::new(PortQueue::new((low..low + 6).collect())));
            Ports::of(free, LOCALHOST, &dir.path().join("ports")).unwrap()
        };
        let before = start();
        let [mut first, second, mut third] = std::array::from_fn(|_| port_of(&before));
        drop(second);
        // The worker is killed, and the kernel closes its sockets.
        for port in [&mut first, &mut third] {
            port.give_up();
        }
        std::mem::forget((first, third));
        let after = start();
        let given: Vec<u16> = (0..6).map(|_| port_of(&after).address().port() - low).collect();
        assert_eq!(given, [3, 4, 5, 1, 0, 2], "first those that nobody had, last those of sandboxes that were killed");
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
    fn a_worker_that_opens_later_puts_no_port_in_front_that_another_ones_sandbox_has_just_left() {
        let (first, low) = few(3);
        let (_dir, history) = history_of(&[(low, 1000), (low + 1, 2000)]);
        assert_eq!(port_of(&first).address().port(), low + 1);
        assert_eq!(port_of(&first).address().port(), low, "both have just been left");
        let second = Ports::of(Arc::clone(&first.free), LOCALHOST, &history).unwrap();
        let given: Vec<u16> = (0..3).map(|_| port_of(&second).address().port() - low).collect();
        assert_eq!(given, [2, 1, 0]);
    }

    #[test]
    fn a_port_that_is_left_while_the_clock_is_behind_comes_after_those_that_were_left_before() {
        let (ports, low) = few(3);
        let (_dir, history) = history_of(&[(low, u32::MAX - 9)]);
        let start = || {
            let free = Arc::new(Mutex::new(PortQueue::new((low..low + 3).collect())));
            Ports::of(free, LOCALHOST, &history).unwrap()
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
    fn ports_of_others_are_passed_over_whatever_address_they_have_them_on() {
        let (ports, low) = few(10);
        let at = |last, port: u16| SocketAddr::new(IpAddr::from([127, 0, 0, last]), low + port);
        // Programs, and the sandbox of a worker in another process: kept, with reuse, but nobody listens.
        let programs = [at(1, 1), at(2, 2)].map(|address| TcpListener::bind(address).unwrap());
        let other = socket(ports.any).unwrap();
        assert!(keep(&other, SocketAddr::new(ports.any, low + 3)).unwrap());
        // And outgoing connections, of which one is over but for the time that the kernel remembers it.
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
        assert!(has_none(&ports));
        for port in given {
            TcpListener::bind(("0.0.0.0", port.address().port())).expect("a program can listen on all addresses");
        }
        drop((programs, other, outgoing));
    }

    #[test]
    fn a_port_given_up_for_a_program_is_given_to_nobody_else_while_that_lives() {
        let (ports, _) = few(2);
        let mut port = port_of(&ports);
        port.give_up();
        let other = port_of(&ports);
        assert_ne!(port.address(), other.address());
        assert!(has_none(&ports), "there is no other");
        let given_up = port.address();
        drop(port);
        assert_eq!(port_of(&ports).address(), given_up);
    }

    #[test]
    fn an_address_of_the_newer_protocol_has_ports_too() {
        let ports = on(IpAddr::V6(Ipv6Addr::LOCALHOST), PortQueue::shared());
        let port = port_of(&ports);
        let is_there = TcpListener::bind("[::1]:0").is_ok();
        assert_eq!(TcpListener::bind(port.address()).is_ok(), is_there, "its program can listen where there is one");
    }

    /// The order of a sandbox, and what becomes known of its progress.
    fn order() -> (Order, mpsc::Receiver<(SandboxId, Progress)>) {
        let (progress, progressed) = mpsc::channel(4);
        let (sandbox, spec) = (SandboxId::new(Epoch(1), 1).unwrap(), Arc::default());
        (Order { sandbox, node: 0, spec, cancel: CancellationToken::new(), progress }, progressed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_creation_without_a_port_waits_for_one_and_says_so() {
        let (ports, _) = few(1);
        let (order, mut progressed) = order();
        let first = ports.take(&order).await.unwrap();
        let (address, mut taken) = (first.address(), Box::pin(ports.take(&order)));
        let queued = tokio::select! {
            biased;
            _ = &mut taken => panic!("there was no port"),
            progress = progressed.recv() => progress,
        };
        assert_eq!(queued, Some((order.sandbox, Progress::Queued(NO_PORT))), "it begins to wait, and has not failed");
        drop(first);
        let second = taken.await.unwrap();
        assert_eq!((second.address(), progressed.recv().await), (address, Some((order.sandbox, Progress::Begun))));

        let hour = Duration::from_secs(3600);
        let waits = timeout(hour, ports.take(&order)).await.is_err();
        assert!(waits, "however long that is, it is no failure of the function or the node");
        order.cancel.cancel();
        assert_eq!(ports.take(&order).await.err(), Some(Failure::cancelled()), "and waits no longer than it is wanted");
    }
}
