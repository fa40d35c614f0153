//! The target of invocations: profile, addresses, protocol, use of connections, and time-out.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::Duration,
};

use clap::ValueEnum;
use serde::Serialize;

use crate::target_profile::{HeaderTemplate, TargetProfile};

/// The protocol spoken to the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// HTTP/1.1: one invocation at a time per connection.
    Http1,
    /// HTTP/2 without TLS and with prior knowledge: many invocations per connection.
    H2c,
}

/// Use of connections: a factor of an experiment, never a cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Connections {
    /// Kept and used again, the last one used first; a new one whenever none is idle.
    Pooled,
    /// One per invocation; connecting is part of its latency.
    Fresh,
}

/// Spread of invocations over several addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Spread {
    /// In turn.
    RoundRobin,
    /// By a hash of the function's name, so that a function stays at one address.
    Function,
}

/// The target of invocations.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Addresses, resolved once; at least one.
    pub(crate) addresses: Vec<SocketAddr>,
    /// The first of them as the user typed it, for templates.
    pub(crate) first_address: String,
    /// How the system is addressed, and which signals its responses have.
    pub(crate) profile: TargetProfile,
    /// The protocol.
    pub(crate) protocol: Protocol,
    /// Use of connections.
    pub(crate) connections: Connections,
    /// Connections that are open before the first invocation is due; they are used round-robin.
    pub(crate) open: u32,
    /// Spread of invocations over the addresses.
    pub(crate) spread: Spread,
    /// Headers added to each invocation.
    pub(crate) headers: Vec<HeaderTemplate>,
    /// Time-out of an invocation, from when it was sent.
    pub(crate) timeout: Duration,
}

impl Target {
    /// The address for one invocation, as a position in `addresses`.
    pub(crate) fn address_of(&self, index: usize, function: &str) -> usize {
        let spread = match self.spread {
            Spread::RoundRobin => index,
            Spread::Function => usize::try_from(stable_hash(function) >> 32).unwrap_or(0),
        };
        spread % self.addresses.len().max(1)
    }

    /// Explains why nothing succeeded, if a request to one of the addresses tells.
    pub(crate) fn diagnose(&self) -> Option<String> {
        self.addresses.iter().take(MAX_PROBED).find_map(|address| self.profile.signals.diagnose(address, "--address"))
    }

    /// The time-out in nanoseconds.
    pub(crate) fn timeout_ns(&self) -> u64 {
        u64::try_from(self.timeout.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Most addresses that are probed after a failure: one wrong address explains enough, and each probe may take a second.
const MAX_PROBED: usize = 4;

/// Longest wait for a connection to an address of a name; after it, the address counts as one that accepts none.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Resolves `host:port` to its first address, as [`resolve_all`] orders them.
///
/// # Errors
/// If the name is unknown or the port missing.
pub(crate) fn resolve(address: &str) -> anyhow::Result<SocketAddr> {
    resolve_all(address).map(|found| found[0])
}

/// Resolves `host:port` once, so that no invocation waits for a name; to all addresses of one family, at least one.
///
/// # Errors
/// If the name is unknown or the port missing.
pub(crate) fn resolve_all(address: &str) -> anyhow::Result<Vec<SocketAddr>> {
    if let Some((scheme, _)) = address.split_once("://") {
        anyhow::bail!("expected HOST:PORT, such as 127.0.0.1:8080, without {scheme}://, found {address:?}");
    }
    let found = address.to_socket_addrs().map_err(|error| match error.kind() {
        ErrorKind::InvalidInput => {
            anyhow::anyhow!("expected HOST:PORT, such as 127.0.0.1:8080, found {address:?}: {error}")
        }
        _ => anyhow::anyhow!("{address}: {error}"),
    })?;
    let found = of_one_family(found.collect(), |address| TcpStream::connect_timeout(address, PROBE_TIMEOUT).is_ok());
    if found.is_empty() {
        return Err(anyhow::anyhow!("{address}: the name resolves to nothing"));
    }
    Ok(found)
}

/// The addresses of the first family that accepts connections; of IPv4 when neither does. A system on loopback commonly
/// listens in one family only, while `localhost` is a name in both.
fn of_one_family(mut found: Vec<SocketAddr>, accepts: impl Fn(&SocketAddr) -> bool) -> Vec<SocketAddr> {
    found.sort_by_key(SocketAddr::is_ipv6);
    found.dedup();
    let (ipv4, ipv6): (Vec<_>, Vec<_>) = found.into_iter().partition(SocketAddr::is_ipv4);
    let only_ipv6 = || !ipv4.iter().any(&accepts) && ipv6.iter().any(&accepts);
    if ipv4.is_empty() || (!ipv6.is_empty() && only_ipv6()) { ipv6 } else { ipv4 }
}

/// FNV-1a, finished as MurmurHash3 finishes so that every bit depends on every byte: the same on every machine and in
/// every version, unlike the standard library's hasher.
fn stable_hash(text: &str) -> u64 {
    let fnv1a = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, fnv1a);
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(spread: Spread) -> Target {
        Target {
            addresses: vec![SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 2))],
            first_address: String::new(),
            profile: TargetProfile::default(),
            protocol: Protocol::Http1,
            connections: Connections::Pooled,
            open: 0,
            spread,
            headers: Vec::new(),
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn round_robin_alternates_and_functions_stay() {
        let turns: Vec<usize> = (0..4).map(|n| target(Spread::RoundRobin).address_of(n, "f")).collect();
        assert_eq!(turns, [0, 1, 0, 1]);
        let by_function = target(Spread::Function);
        let of = |name: &str| by_function.address_of(0, name);
        assert!((0..9).all(|n| by_function.address_of(n, "f-1") == of("f-1")));
        let used: std::collections::BTreeSet<usize> = (0..32).map(|n| of(&format!("f-{n}"))).collect();
        assert_eq!(used.len(), 2, "32 functions must not all go to one address");
    }

    #[test]
    fn a_name_gives_all_addresses_of_the_family_that_accepts_connections() {
        let all: Vec<SocketAddr> =
            ["[::1]:1", "127.0.0.1:1", "127.0.0.2:1", "[::2]:1"].map(|address| address.parse().unwrap()).to_vec();
        let texts = |accepts: fn(&SocketAddr) -> bool| -> Vec<String> {
            of_one_family(all.clone(), accepts).iter().map(ToString::to_string).collect()
        };
        let (ipv4, ipv6) = (["127.0.0.1:1", "127.0.0.2:1"], ["[::1]:1", "[::2]:1"]);
        assert_eq!(texts(|_| true), ipv4);
        assert_eq!(texts(|_| false), ipv4, "what a system that is not there would most likely have");
        assert_eq!(texts(|address| *address == "127.0.0.2:1".parse().unwrap()), ipv4, "one that fails stays in use");
        assert_eq!(texts(SocketAddr::is_ipv6), ipv6, "a system on ::1 only is found as localhost");
        let single = vec![all[0]];
        assert_eq!(of_one_family(single.clone(), |_| panic!("a single family is not tried")), single);
    }

    #[test]
    fn an_address_without_a_port_is_refused() {
        for text in ["127.0.0.1", "", "host:port", ":"] {
            let error = resolve(text).unwrap_err().to_string();
            assert!(error.contains("HOST:PORT") && error.contains(&format!("{text:?}")), "{text:?}: {error}");
        }
        assert_eq!(resolve("127.0.0.1:80").unwrap(), SocketAddr::from(([127, 0, 0, 1], 80)));
    }
}
