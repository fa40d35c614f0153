//! The first message of a worker on a stream: its identity, the leader it obeyed last and the sandboxes it holds.

use std::{net::SocketAddr, sync::Arc};

use api::wire;
use model::{NodeSpec, SandboxId};

use crate::messages::{Leader, SandboxSpec};

/// The first message on a stream. Converted to the wire by [`From`].
#[derive(Clone, Debug)]
pub(crate) struct Hello {
    pub(crate) identity: Identity,
    pub(crate) state: HeldState,
}

/// The properties of a worker that do not change while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) worker: String,
    /// Drawn at random by each process: distinguishes processes of the same name.
    pub(crate) instance: u64,
    /// Name of the runtime.
    pub(crate) runtime: &'static str,
    /// Address of its admin API.
    pub(crate) admin: SocketAddr,
    /// A node's index in this list is its name in commands.
    pub(crate) nodes: Vec<NodeSpec>,
}

/// The state that a worker keeps from one stream to the next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HeldState {
    /// `None` before the first welcome.
    pub(crate) leader: Option<Leader>,
    /// As in the newest [`Commands::known`](crate::messages::Commands::known).
    pub(crate) known: u64,
    pub(crate) sandboxes: Vec<HeldSandbox>,
}

/// A sandbox that exists when a stream opens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HeldSandbox {
    pub(crate) sandbox: SandboxId,
    /// Index of its node.
    pub(crate) node: usize,
    pub(crate) spec: Arc<SandboxSpec>,
    /// `None` while it is being created.
    pub(crate) address: Option<SocketAddr>,
    /// Its creation waits for others.
    pub(crate) queued: bool,
}

impl From<Hello> for wire::WorkerHello {
    fn from(hello: Hello) -> Self {
        let Hello { identity, state } = hello;
        let announce = |node: &NodeSpec| wire::NodeAnnouncement {
            name: node.name.to_string(),
            cpu_millicores: node.capacity.cpu_millicores,
            memory_mib: node.capacity.memory_mib,
        };
        let leader = state.leader;
        Self {
            protocol_version: api::PROTOCOL_VERSION,
            worker: identity.worker,
            runtime: identity.runtime.to_owned(),
            admin: identity.admin.to_string(),
            epoch: leader.map_or(0, |leader| leader.epoch.0),
            epoch_nonce: leader.map_or(0, |leader| leader.nonce),
            known: state.known,
            nodes: identity.nodes.iter().map(announce).collect(),
            sandboxes: state.sandboxes.into_iter().map(Into::into).collect(),
            cluster: leader.and_then(|leader| leader.cluster).map(|cluster| cluster.to_string()).unwrap_or_default(),
            instance: identity.instance,
        }
    }
}

impl From<HeldSandbox> for wire::HeldSandbox {
    fn from(held: HeldSandbox) -> Self {
        let HeldSandbox { sandbox, node, spec, address, queued } = held;
        Self {
            sandbox: sandbox.to_wire(),
            node: u32::try_from(node).expect("the number of nodes is bounded by the configuration"),
            function: spec.function.0,
            revision: spec.revision.0,
            address: address.map(|address| address.to_string()).unwrap_or_default(),
            cpu_millicores: spec.cpu_millicores,
            memory_mib: spec.memory_mib,
            concurrency: spec.concurrency,
            queued,
        }
    }
}

#[cfg(test)]
impl Hello {
    /// The hello of a worker that has never been welcomed.
    pub(crate) fn example() -> Self {
        let identity = Identity {
            worker: "w".to_owned(),
            instance: 1,
            runtime: "hollow",
            admin: SocketAddr::from(([127, 0, 0, 1], 10_015)),
            nodes: Vec::new(),
        };
        Self { identity, state: HeldState { leader: None, known: 0, sandboxes: Vec::new() } }
    }
}

#[cfg(test)]
mod tests {
    use model::{ClusterId, Epoch};

    use super::*;

    #[test]
    fn absent_values_have_their_empty_form_on_the_wire() {
        let mut hello = Hello::example();
        let wire = wire::WorkerHello::from(hello.clone());
        assert_eq!((wire.cluster.as_str(), wire.epoch, wire.epoch_nonce, wire.known), ("", 0, 0, 0));
        let leader = Leader { cluster: Some(ClusterId(12)), epoch: Epoch(3), nonce: 7 };
        let held = |address| HeldSandbox {
            sandbox: SandboxId::new(Epoch(3), 1).unwrap(),
            node: 1,
            spec: Arc::new(SandboxSpec::example(5, "builtin:function")),
            address,
            queued: false,
        };
        let sandboxes = vec![held(None), held(Some(SocketAddr::from(([127, 1, 0, 0], 80))))];
        hello.state = HeldState { leader: Some(leader), known: 9, sandboxes };
        let wire = wire::WorkerHello::from(hello);
        assert_eq!((wire.cluster, wire.epoch, wire.epoch_nonce, wire.known), (ClusterId(12).to_string(), 3, 7, 9));
        assert_eq!(wire.sandboxes.iter().map(|held| held.address.as_str()).collect::<Vec<_>>(), ["", "127.1.0.0:80"]);
        assert_eq!((wire.sandboxes[0].function, wire.sandboxes[0].revision, wire.sandboxes[0].node), (1, 5, 1));
    }
}
