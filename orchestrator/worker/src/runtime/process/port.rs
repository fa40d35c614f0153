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
    collections::VecDeque,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Where the kernel says from which ports it chooses (of both versions of the protocol).
const RANGE_FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Where it says which of these it leaves out, for programs that expect to find theirs free.
const RESERVED_FILE: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
/// The kernel's own default, where it does not say.
const DEFAULT_RANGE: RangeInclusive<u16> = 32_768..=60_999;

/// The ports of this process, which its workers share: one that a sandbox of one had rests for all, also where they have
/// different addresses, since a program that listens on all of them is found on each.
static SHARED: LazyLock<Free> = LazyLock::new(|| Arc::new(Mutex::new(usable_ports())));

/// Ports that no sandbox of this process has, the one that is next first. Each port of the range is here once, or is kept.
type Free = Arc<Mutex<VecDeque<u16>>>;

/// Gives out ports, for sandboxes on one address.
#[derive(Debug)]
pub(super) struct Ports {
    address: IpAddr,
    /// Where they are kept: every address of this machine, of both versions of the protocol if it has both.
    any: IpAddr,
    free: Free,
}

/// A port on one address, kept until dropped; then it rests for as long as there are others.
#[derive(Debug)]
pub(super) struct Port {
    address: SocketAddr,
    /// `None` when given up for a program that does not allow reuse.
    socket: Option<Socket>,
    free: Free,
}

impl Ports {
    /// Those from which the kernel chooses, too, for sandboxes on `address`.
    pub(super) fn of(address: IpAddr) -> Self {
        Self { address, any: any_address(), free: Arc::clone(&SHARED) }
    }

    /// The port whose last sandbox ended first, of those that nobody else has.
    ///
    /// # Errors
    /// When no port can be had: sandboxes and other programs have all of the range.
    pub(super) fn reserve(&self) -> io::Result<Port> {
        let socket = socket(self.any)?;
        let mut free = lock(&self.free);
        for _ in 0..free.len() {
            let Some(port) = free.pop_front() else { break };
            match keep(&socket, SocketAddr::new(self.any, port)) {
                Ok(()) => {
                    let address = SocketAddr::new(self.address, port);
                    return Ok(Port { address, socket: Some(socket), free: Arc::clone(&self.free) });
                }
                Err(error) => {
                    // Whatever had it may end now, like a sandbox.
                    free.push_back(port);
                    if !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) {
                        return Err(error);
                    }
                }
            }
        }
        let message = format!("every port of {RANGE_FILE} is in use");
        Err(io::Error::new(io::ErrorKind::AddrInUse, message))
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

/// Binds `socket`. Only then it allows reuse: before, it would be bound beside the one that keeps the port of another
/// worker's sandbox.
fn keep(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.bind(&address.into())?;
    socket.set_reuse_address(true)
}

/// The ports from which the kernel chooses, in the order in which they are given out at first.
fn usable_ports() -> VecDeque<u16> {
    let range = fs::read_to_string(RANGE_FILE).ok().and_then(|text| read_range(&text)).unwrap_or(DEFAULT_RANGE);
    let reserved = fs::read_to_string(RESERVED_FILE).map(|text| read_reserved(&text)).unwrap_or_default();
    let mut ports = in_order(range, api::draw_instance());
    ports.retain(|port| !reserved.iter().any(|reserved| reserved.contains(port)));
    ports
}

/// All of `range`, beginning somewhere: a worker that is started again, or another one on the same machine, begins
/// elsewhere. Every second port first: the kernel takes the others for outgoing connections, and searches for longer where
/// many in a row are kept.
fn in_order(range: RangeInclusive<u16>, somewhere: u64) -> VecDeque<u16> {
    let (low, high) = (*range.start(), *range.end());
    let mut ports = VecDeque::with_capacity(range.len());
    for first in [low.saturating_add(1), low] {
        let mut half: VecDeque<u16> = (first..=high).step_by(2).collect();
        let length = u64::try_from(half.len()).unwrap_or(u64::MAX).max(1);
        half.rotate_left(usize::try_from(somewhere % length).unwrap_or(0));
        ports.extend(half);
    }
    ports
}

/// Two numbers, both within the range.
fn read_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(str::parse::<u16>);
    let (low, high) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (0 < low && low < high).then_some(low..=high)
}

/// Numbers and ranges with commas between them.
fn read_reserved(text: &str) -> Vec<RangeInclusive<u16>> {
    let read = |entry: &str| {
        let (low, high) = entry.split_once('-').unwrap_or((entry, entry));
        Some(low.parse().ok()?..=high.parse().ok()?)
    };
    text.trim().split(',').filter_map(read).collect()
}

/// Every change leaves what it locks whole, so a panic elsewhere does not make it unusable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Port {
    fn drop(&mut self) {
        self.socket = None;
        lock(&self.free).push_back(self.address.port());
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
        io::Read,
        net::{TcpListener, TcpStream},
        sync::atomic::{AtomicU16, Ordering},
    };

    use super::*;

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
                let free = Arc::new(Mutex::new(in_order(range, 0)));
                return (Ports { address: LOCALHOST, any, free }, low);
            }
        }
    }

    #[test]
    fn a_kept_port_can_be_listened_on_and_is_given_to_nobody_else() {
        let ports = Ports::of(LOCALHOST);
        let reserve = || ports.reserve().unwrap();
        let port = reserve();
        let others: Vec<Port> = (0..200).map(|_| reserve()).collect();
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
        let workers = [1, 2].map(|last| Ports::of(IpAddr::from([127, 77, 1, last])));
        let mut given = BTreeSet::new();
        for number in 0..12_000 {
            let port = workers[number % 2].reserve().unwrap().address().port();
            assert!(given.insert(port), "{port} is given a second time, after {number} sandboxes");
        }
    }

    #[test]
    fn the_port_whose_last_sandbox_ended_first_is_next() {
        let (ports, _) = few(4);
        let [a, b, c, d] = std::array::from_fn(|_| ports.reserve().unwrap());
        let error = ports.reserve().unwrap_err();
        assert!(error.to_string().contains("every port"), "{error}");
        let ended = [c, a, d].map(|port| port.address());
        let next: Vec<_> = (0..6).map(|_| ports.reserve().unwrap().address()).collect();
        assert_eq!(
            next,
            [ended, ended].concat(),
            "each rests as long as the others allow, also after its second sandbox"
        );
        drop(b);
    }

    #[test]
    fn ports_of_others_are_passed_over_whatever_address_they_have_them_on() {
        let (ports, low) = few(10);
        let on = |last, port: u16| SocketAddr::new(IpAddr::from([127, 0, 0, last]), low + port);
        // Programs, and the sandbox of a worker in another process: kept, with reuse, but nobody listens.
        let programs = [on(1, 1), on(2, 2)].map(|address| TcpListener::bind(address).unwrap());
        let other = socket(ports.any).unwrap();
        keep(&other, SocketAddr::new(ports.any, low + 3)).unwrap();
        // And outgoing connections, of which one is over but for the time that the kernel remembers it.
        let [outgoing, ended] = [on(1, 5), on(2, 6)].map(|from| {
            let outgoing = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
            outgoing.bind(&from.into()).unwrap();
            outgoing.connect(&programs[0].local_addr().unwrap().into()).unwrap();
            (outgoing, programs[0].accept().unwrap().0)
        });
        let (ended, mut accepted) = ended;
        drop(ended);
        assert_eq!(accepted.read(&mut [0]).unwrap(), 0);
        drop(accepted);
        let given: Vec<_> = (0..5).map(|_| ports.reserve().unwrap()).collect();
        assert_eq!(given.iter().map(|port| port.address().port() - low).collect::<Vec<_>>(), [7, 9, 0, 4, 8]);
        assert!(ports.reserve().is_err());
        for port in given {
            TcpListener::bind(("0.0.0.0", port.address().port())).expect("a program can listen on all addresses");
        }
        drop((programs, other, outgoing));
    }

    #[test]
    fn a_port_given_up_for_a_program_is_given_to_nobody_else_while_that_lives() {
        let (ports, _) = few(2);
        let mut port = ports.reserve().unwrap();
        port.give_up();
        let other = ports.reserve().unwrap();
        assert_ne!(port.address(), other.address());
        assert!(ports.reserve().is_err(), "there is no other");
        let given_up = port.address();
        drop(port);
        assert_eq!(ports.reserve().unwrap().address(), given_up);
    }

    #[test]
    fn an_address_of_the_newer_protocol_has_ports_too() {
        let ports = Ports::of(IpAddr::V6(Ipv6Addr::LOCALHOST));
        let port = ports.reserve().unwrap();
        let is_there = TcpListener::bind("[::1]:0").is_ok();
        assert_eq!(TcpListener::bind(port.address()).is_ok(), is_there, "its program can listen where there is one");
    }

    #[test]
    fn what_the_kernel_says_of_its_ports_is_read() {
        assert_eq!(read_range("32768\t60999\n"), Some(DEFAULT_RANGE));
        assert_eq!(
            (read_range(""), read_range("9 8"), read_range("x 9"), read_range("1 65536")),
            (None, None, None, None)
        );
        assert_eq!(read_reserved("\n"), []);
        assert_eq!(read_reserved("8080,40000-40010,65535\n"), [8080..=8080, 40_000..=40_010, 65_535..=65_535]);
        assert_eq!(in_order(10..=16, 1), [13, 15, 11, 12, 14, 16, 10]);
        assert_eq!(in_order(65_534..=65_535, 7), [65_535, 65_534]);
    }
}
