//! The address on which sandboxes take connections: given directly, or by the interface that has it.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    str::FromStr,
    time::Duration,
};

use nix::{ifaddrs::getifaddrs, sys::socket::SockaddrStorage};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use tracing::warn;

/// Longest name of an interface (`IFNAMSIZ` without the final NUL).
const MAX_INTERFACE_BYTES: usize = 15;

/// Longest wait for an address when a worker starts. At boot it can appear a moment later: from DHCP, or after the
/// duplicate address detection of IPv6 (a second by default, and the delay before it: RFC 4862, section 5.1).
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two attempts to find it.
const ADDRESS_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Address of sandboxes in a configuration: `10.0.0.5`, or `eth0` for the first address of that interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SandboxAddress {
    /// An address of this machine.
    Ip(IpAddr),
    /// Name of a network interface of this machine.
    Interface(String),
}

impl SandboxAddress {
    /// The address itself, or the first IPv4 address of the interface, or else its first IPv6 address that is not
    /// link-local. If it is missing, waits [`ADDRESS_TIMEOUT`] for it.
    ///
    /// # Errors
    /// If this machine has no such address or interface, or if the interface has no address.
    pub(crate) async fn find(&self) -> io::Result<IpAddr> {
        let deadline = Instant::now() + ADDRESS_TIMEOUT;
        let mut found = self.resolve();
        if let Err(cause) = &found {
            warn!(%cause, wait = ?ADDRESS_TIMEOUT, "waiting for the address of sandboxes");
        }
        while found.is_err() && Instant::now() < deadline {
            sleep(ADDRESS_POLL_INTERVAL).await;
            found = self.resolve();
        }
        found
    }

    /// As [`find`](Self::find), without waiting.
    fn resolve(&self) -> io::Result<IpAddr> {
        let name = match self {
            Self::Ip(address) => {
                // Only an address of this machine can be bound to.
                let bound = UdpSocket::bind((*address, 0));
                let foreign = |error| io::Error::other(format!("{address} is no address of this machine: {error}"));
                return bound.map(|_| *address).map_err(foreign);
            }
            Self::Interface(name) => name,
        };
        let found: Vec<_> = getifaddrs()?.collect();
        let addresses =
            found.iter().filter(|entry| entry.interface_name == *name).filter_map(|entry| ip(entry.address?));
        // A link-local address is of use only with the zone of the one who connects (RFC 4007).
        let usable = addresses.filter(|address| match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(address) => !address.is_unicast_link_local(),
        });
        usable.min_by_key(IpAddr::is_ipv6).ok_or_else(|| {
            let mut known: Vec<&str> = found.iter().map(|entry| entry.interface_name.as_str()).collect();
            known.sort_unstable();
            known.dedup();
            let has = if known.contains(&name.as_str()) { "has no address" } else { "is no interface of this machine" };
            io::Error::other(format!("{name:?} {has}; its interfaces: {}", known.join(", ")))
        })
    }
}

fn ip(address: SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

impl Default for SandboxAddress {
    fn default() -> Self {
        Self::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }
}

impl FromStr for SandboxAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<IpAddr>() {
            Ok(address) if address.is_unspecified() || address.is_multicast() => {
                Err(format!("{text:?}: expected one address that data planes can connect to"))
            }
            Ok(address) => Ok(Self::Ip(address)),
            Err(_) if text.is_empty() || text.len() > MAX_INTERFACE_BYTES || text.contains(['/', ' ', ':']) => {
                Err(format!("{text:?}: expected an IP address, or the name of a network interface"))
            }
            Err(_) => Ok(Self::Interface(text.to_owned())),
        }
    }
}

impl TryFrom<String> for SandboxAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<SandboxAddress> for String {
    fn from(address: SandboxAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for SandboxAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Interface(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_given_directly_or_by_its_interface() {
        let resolve = |text: &str| text.parse::<SandboxAddress>().unwrap().resolve();
        assert_eq!(resolve("127.1.2.3").unwrap(), IpAddr::from([127, 1, 2, 3]));
        let foreign = resolve("192.0.2.1").unwrap_err().to_string();
        assert!(foreign.contains("192.0.2.1 is no address of this machine"), "{foreign}");
        assert_eq!(resolve("lo").unwrap(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        let missing = resolve("nosuch0").unwrap_err().to_string();
        assert!(missing.contains("no interface") && missing.contains("lo"), "{missing}");
    }

    #[test]
    fn an_address_that_takes_no_connections_is_refused() {
        for text in ["", "0.0.0.0", "::", "224.0.0.1", "10.0.0.5:80", "10.0.0.0/8", "a name", "much-too-long-interface"]
        {
            assert!(text.parse::<SandboxAddress>().is_err(), "{text:?}");
        }
    }
}
