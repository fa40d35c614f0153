//! Links, addresses and routes of network namespaces, set by netlink.

use std::{fs, net::Ipv4Addr, path::Path, time::Duration};

use anyhow::{Context, bail};
use futures::TryStreamExt;
use rtnetlink::{
    Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection,
    packet_route::{
        link::{LinkAttribute, LinkFlags},
        route::{RouteScope, RouteType},
    },
};
use tokio::time::{Instant, sleep};

use crate::topology::{BRIDGE, CONTROL_PLANE, CONTROLLER, NODES, PODS, PODS_PREFIX, PREFIX};

/// Time for a process to enter its own namespace, or for a link to arrive there.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The routing table of local addresses (`RT_TABLE_LOCAL`).
const LOCAL_TABLE: u32 = 255;
/// Time between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// The network namespace that this process is in.
pub struct Network {
    handle: Handle,
}

impl Network {
    /// Opens the namespace that this thread is in.
    ///
    /// # Errors
    /// If the kernel offers no netlink socket.
    pub fn here() -> anyhow::Result<Self> {
        let (connection, handle, _) = new_connection().context("opening a netlink socket")?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Names of the links by which this namespace reaches others: all that are up, without loopback and what testbeds left
    /// here. A namespace of one's own has none, since what the kernel puts into each, such as `tunl0`, is down.
    ///
    /// # Errors
    /// If the kernel does not list its links.
    pub async fn links_to_others(&self) -> anyhow::Result<Vec<String>> {
        let mut links = self.handle.link().get().execute();
        let mut found = Vec::new();
        while let Some(link) = links.try_next().await.context("listing links")? {
            let flags = link.header.flags;
            let name = link.attributes.into_iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            });
            let name = name.unwrap_or_else(|| format!("link {}", link.header.index));
            let is_own = name == BRIDGE || pairs().any(|near| near == name);
            if flags.contains(LinkFlags::Up) && !flags.contains(LinkFlags::Loopback) && !is_own {
                found.push(name);
            }
        }
        Ok(found)
    }

    /// Makes the bridge with the control plane's address on it, and the route to the pods.
    ///
    /// # Errors
    /// If the kernel refuses; without the right to make network devices the message says so.
    pub async fn make_bridge(&self) -> anyhow::Result<()> {
        self.remove_bridge().await?;
        self.up("lo").await?;
        let made = self.handle.link().add(LinkBridge::new(BRIDGE).build()).execute().await;
        made.with_context(|| format!("making the bridge {BRIDGE}"))?;
        self.address(BRIDGE, CONTROL_PLANE).await?;
        self.up(BRIDGE).await?;
        self.route_to_pods().await
    }

    /// Removes the bridge and the pairs of links attached to it: the kernel would remove those only some time after
    /// their namespaces have ended, and the next testbed would find their names taken.
    ///
    /// # Errors
    /// If the kernel refuses; that there are none is no error.
    pub async fn remove_bridge(&self) -> anyhow::Result<()> {
        for link in pairs().chain([BRIDGE.to_owned()]) {
            let Ok(index) = self.index(&link).await else { continue };
            let removed = self.handle.link().del(index).execute().await;
            // One whose namespace has just ended goes by itself, and may be gone by now.
            if removed.is_err() && self.index(&link).await.is_ok() {
                removed.with_context(|| format!("removing the link {link}"))?;
            }
        }
        Ok(())
    }

    /// Connects the namespace of a process to the bridge by a pair of links; the process configures its end itself
    /// ([`configure`](Self::configure)).
    ///
    /// # Errors
    /// If the process does not enter a namespace of its own in time, or the kernel refuses.
    pub async fn connect(&self, pid: u32, address: Ipv4Addr) -> anyhow::Result<()> {
        let own = namespace(Path::new("/proc/self/ns/net"))?;
        let theirs = format!("/proc/{pid}/ns/net");
        let apart = || namespace(Path::new(&theirs)).ok().filter(|theirs| *theirs != own);
        wait(apart).await.context("the process did not enter a network namespace of its own")?;
        let number = address.octets()[3];
        let (near, far) = (near(number), far(number));
        self.handle.link().add(LinkVeth::new(&near, &far).build()).execute().await.context("making a pair of links")?;
        let bridge = self.index(BRIDGE).await?;
        let near = LinkUnspec::new_with_index(self.index(&near).await?).controller(bridge).up().build();
        self.handle.link().set(near).execute().await.context("attaching a link to the bridge")?;
        let far = LinkUnspec::new_with_index(self.index(&far).await?).setns_by_pid(pid).build();
        self.handle.link().set(far).execute().await.context("handing a link over")
    }

    /// Configures this namespace once its link has arrived: address, way to the pods, or the pods' addresses
    /// themselves where the hollow nodes are.
    ///
    /// # Errors
    /// If the link does not arrive in time, or the kernel refuses.
    pub async fn configure(&self, address: Ipv4Addr) -> anyhow::Result<()> {
        self.up("lo").await?;
        let link = far(address.octets()[3]);
        let deadline = Instant::now() + TIMEOUT;
        while self.index(&link).await.is_err() {
            if Instant::now() >= deadline {
                bail!("no link arrived within {} s", TIMEOUT.as_secs());
            }
            sleep(POLL_INTERVAL).await;
        }
        self.address(&link, address).await?;
        self.up(&link).await?;
        if address == NODES { self.own_all_pods().await } else { self.route_to_pods().await }
    }

    async fn route_to_pods(&self) -> anyhow::Result<()> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(PODS, PODS_PREFIX).gateway(NODES).build();
        self.handle.route().add(route).execute().await.context("setting the route to the pods")
    }

    /// Every address of the pods' network is local here: one wildcard listener answers for all pods.
    async fn own_all_pods(&self) -> anyhow::Result<()> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(PODS, PODS_PREFIX)
            .output_interface(self.index("lo").await?)
            .table_id(LOCAL_TABLE)
            .scope(RouteScope::Host)
            .kind(RouteType::Local)
            .build();
        self.handle.route().add(route).execute().await.context("making the pods' addresses local")
    }

    async fn address(&self, link: &str, address: Ipv4Addr) -> anyhow::Result<()> {
        let added = self.handle.address().add(self.index(link).await?, address.into(), PREFIX).execute().await;
        added.with_context(|| format!("giving {link} the address {address}"))
    }

    async fn up(&self, link: &str) -> anyhow::Result<()> {
        let up = LinkUnspec::new_with_index(self.index(link).await?).up().build();
        self.handle.link().set(up).execute().await.with_context(|| format!("bringing {link} up"))
    }

    async fn index(&self, name: &str) -> anyhow::Result<u32> {
        let mut links = self.handle.link().get().match_name(name).execute();
        let link = links.try_next().await.with_context(|| format!("looking for the link {name}"))?;
        link.map(|link| link.header.index).with_context(|| format!("there is no link {name}"))
    }
}

/// The ends of all pairs of links that stay at the bridge.
fn pairs() -> impl Iterator<Item = String> {
    (CONTROLLER.octets()[3]..=NODES.octets()[3]).map(near)
}

/// The end of a pair of links that stays at the bridge.
fn near(number: u8) -> String {
    format!("kn{number}")
}

/// The end that goes to the part whose address ends in `number`.
fn far(number: u8) -> String {
    format!("kn{number}-far")
}

fn namespace(path: &Path) -> std::io::Result<std::path::PathBuf> {
    fs::read_link(path)
}

/// Looks until there is something, or it takes too long.
async fn wait<T>(mut poll: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match poll() {
            Some(found) => return Some(found),
            None if Instant::now() >= deadline => return None,
            None => sleep(POLL_INTERVAL).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn ends_of_links_have_names_of_their_own_that_the_kernel_takes() {
        const LONGEST_NAME: usize = 15; // IFNAMSIZ without its zero
        let near: Vec<String> = pairs().collect();
        assert_eq!(near, ["kn2", "kn3", "kn4", "kn5", "kn6"], "one for each component with a namespace of its own");
        for number in 0..=u8::MAX {
            assert!(far(number).len() <= LONGEST_NAME && far(number) != super::near(number));
        }
    }

    /// In a network namespace of its thread's own, which ends with the thread.
    #[test]
    fn only_links_to_others_tell_a_namespace_that_is_not_ones_own_root() {
        let apart = std::thread::spawn(|| {
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                return programs::say_skipped(
                    "only_links_to_others_tell_a_namespace_that_is_not_ones_own_root",
                    "no network namespace can be made here",
                );
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let network = Network::here().unwrap();
                assert_eq!(network.links_to_others().await.unwrap(), [""; 0], "a new one");
                network.make_bridge().await.unwrap();
                assert_eq!(network.links_to_others().await.unwrap(), [""; 0], "with what a testbed makes");
                let pair = LinkVeth::new("eth9", "eth8").build();
                network.handle.link().add(pair).execute().await.unwrap();
                assert_eq!(network.links_to_others().await.unwrap(), [""; 0], "what is down leads nowhere");
                network.up("eth9").await.unwrap();
                assert_eq!(network.links_to_others().await.unwrap(), ["eth9"]);
            });
        });
        apart.join().unwrap();
    }
}
