//! Messages of workers.

use std::net::SocketAddr;

use api::{WireError, shorten, wire};
use model::{Epoch, FunctionId, MAX_CONCURRENCY, NodeName, NodeSpec, Resources, Revision, SandboxId};

use super::{MAX_TIME_US, check_name, is_name, non_empty, non_zero};
use crate::registry::Knowledge;

/// Most CPU and memory of a node: a million cores, a million GiB.
const MAX_CPU_MILLICORES: u64 = 1_000_000_000;
/// See [`MAX_CPU_MILLICORES`].
const MAX_MEMORY_MIB: u64 = 1 << 30;
/// Nodes of one worker: as many as one with modelled nodes may have.
const MAX_NODES: usize = 10_000;
/// Most sandboxes of one worker, on all of its nodes. Placement gives it no further one, so that its hello may name all that
/// it has: half of what a first message holds, far more than any worker has had, and a sum of what they reserve stays in its
/// type.
pub(crate) const MAX_SANDBOXES: usize = 1 << 18;
/// Steps of a creation, and the longest name of one.
const MAX_STEPS: usize = 16;
/// Reason of a failure for which the worker gives none.
const NO_REASON: &str = "its worker gives no reason";
/// See [`MAX_STEPS`].
const MAX_STEP_BYTES: usize = 32;

/// The first message of a worker.
#[derive(Debug)]
pub(crate) struct WorkerHello {
    pub(crate) name: String,
    /// Random number of its process; `None` from older programs.
    pub(crate) instance: Option<u64>,
    pub(crate) runtime: String,
    /// Address of its admin port.
    pub(crate) admin: Option<SocketAddr>,
    /// The cluster it belongs to; `None` before its first handshake.
    pub(crate) cluster: Option<String>,
    /// The newest epoch it was in. What its sandboxes are of is checked against the log one by one.
    pub(crate) known: Knowledge,
    /// The newest command that it received of those with which a data plane joined or was removed; 0 for none.
    pub(crate) data_plane_index: u64,
    pub(crate) nodes: Vec<NodeSpec>,
    pub(crate) sandboxes: Vec<HeldSandbox>,
}

/// A sandbox that exists when its worker connects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldSandbox {
    pub(crate) id: SandboxId,
    /// The place of its node in the hello.
    pub(crate) node: usize,
    pub(crate) function: FunctionId,
    pub(crate) revision: Revision,
    pub(crate) resources: Resources,
    pub(crate) concurrency: u32,
    pub(crate) state: HeldState,
}

/// The state of a sandbox at its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeldState {
    /// Its creation waits for others of the worker.
    Queued,
    Creating,
    Ready(SocketAddr),
}

/// An event of one sandbox.
#[derive(Debug)]
pub(crate) struct SandboxReport {
    pub(crate) id: SandboxId,
    pub(crate) event: SandboxEvent,
    /// Time at which the creation was passed to the worker's connection, in microseconds of the control plane's clock.
    /// Filled in by the stream, which alone knows it, for the first event of a creation.
    pub(crate) dispatched_us: Option<u64>,
}

/// Change of a sandbox, as its worker reports it.
#[derive(Debug)]
pub(crate) enum SandboxEvent {
    Progress(CreationProgress),
    Ready(SandboxReady),
    /// It never became ready, and does not exist any more.
    Failed {
        message: String,
        /// Another attempt cannot succeed.
        is_permanent: bool,
    },
    /// It does not exist any more.
    Ended {
        reason: EndReason,
        message: String,
    },
}

/// Progress of a creation that could not begin at once.
#[derive(Clone, Debug)]
pub(crate) enum CreationProgress {
    /// It waits for others of its worker, or for the resource that is named.
    Queued {
        cause: Option<String>,
    },
    Begun,
}

/// A creation that succeeded.
#[derive(Debug)]
pub(crate) struct SandboxReady {
    pub(crate) address: Result<SocketAddr, WireError>,
    /// From the command to the start of the sandbox, in microseconds.
    pub(crate) create_us: u64,
    /// From the start to the first successful probe, in microseconds.
    pub(crate) probe_us: u64,
    /// From reading the command to writing this event, in microseconds.
    pub(crate) own_us: u64,
    /// The parts of `create_us`, as the runtime sees fit.
    pub(crate) steps: Vec<Step>,
}

/// A part of a creation.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) us: u64,
}

/// Reason for the end of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// As commanded.
    Deleted,
    /// Deleted before it was ready.
    Cancelled,
    /// By itself.
    Exited,
    /// It did not respond to its probes.
    Unhealthy,
    /// Its worker shuts down.
    Stopped,
}

impl WorkerHello {
    /// # Errors
    /// The reason why no worker can have sent this.
    pub(crate) fn check(hello: wire::WorkerHello) -> Result<Self, String> {
        check_name("worker", &hello.worker)?;
        if hello.nodes.len() > MAX_NODES {
            return Err(format!("a worker has {MAX_NODES} nodes at most, this one {}", hello.nodes.len()));
        }
        if hello.sandboxes.len() > MAX_SANDBOXES {
            return Err(format!("a worker has {MAX_SANDBOXES} sandboxes at most, this one {}", hello.sandboxes.len()));
        }
        Ok(Self {
            name: hello.worker,
            instance: non_zero(hello.instance),
            runtime: hello.runtime,
            admin: hello.admin.parse().ok(),
            cluster: non_empty(hello.cluster),
            known: Knowledge { epoch: Epoch(hello.epoch), nonce: hello.epoch_nonce, index: 0 },
            data_plane_index: hello.known,
            nodes: hello.nodes.iter().map(check_node).collect::<Result<_, _>>()?,
            sandboxes: hello.sandboxes.iter().map(HeldSandbox::of).collect(),
        })
    }
}

fn check_node(node: &wire::NodeAnnouncement) -> Result<NodeSpec, String> {
    check_name("node", &node.name)?;
    let capacity = Resources {
        cpu_millicores: node.cpu_millicores.min(MAX_CPU_MILLICORES),
        memory_mib: node.memory_mib.min(MAX_MEMORY_MIB),
    };
    Ok(NodeSpec { name: NodeName(node.name.as_str().into()), capacity })
}

impl HeldSandbox {
    fn of(held: &wire::HeldSandbox) -> Self {
        // An address that is none counts as none.
        let state = match api::optional_address(&held.address) {
            Ok(Some(address)) => HeldState::Ready(address),
            _ if held.queued => HeldState::Queued,
            _ => HeldState::Creating,
        };
        Self {
            id: SandboxId::from_wire(held.sandbox),
            node: held.node as usize,
            function: FunctionId(held.function),
            revision: Revision(held.revision),
            resources: Resources { cpu_millicores: held.cpu_millicores.into(), memory_mib: held.memory_mib.into() },
            concurrency: held.concurrency.clamp(1, MAX_CONCURRENCY),
            state,
        }
    }
}

impl SandboxReport {
    /// `None` for an event that this version does not know.
    pub(crate) fn of(report: wire::SandboxEvent) -> Option<Self> {
        let id = SandboxId::from_wire(report.sandbox);
        Some(Self { id, event: SandboxEvent::of(report.event?), dispatched_us: None })
    }

    /// Returns false while the creation continues.
    pub(crate) fn ends_creation(&self) -> bool {
        !matches!(self.event, SandboxEvent::Progress(_))
    }
}

impl SandboxEvent {
    fn of(event: wire::sandbox_event::Event) -> Self {
        use wire::sandbox_event::Event;
        match event {
            Event::Ready(ready) => Self::Ready(SandboxReady::of(ready)),
            Event::Failed(failed) => {
                // Towards data planes an empty message says that sandboxes can be created again.
                let message = non_empty(shorten(failed.message)).unwrap_or_else(|| NO_REASON.to_owned());
                Self::Failed { message, is_permanent: failed.permanent }
            }
            Event::Ended(ended) => {
                Self::Ended { reason: EndReason::of(ended.reason()), message: shorten(ended.message) }
            }
            Event::Progress(progress) if progress.queued => {
                Self::Progress(CreationProgress::Queued { cause: non_empty(shorten(progress.cause)) })
            }
            Event::Progress(_) => Self::Progress(CreationProgress::Begun),
        }
    }
}

impl SandboxReady {
    fn of(ready: wire::SandboxReady) -> Self {
        let steps = ready.steps.into_iter().take(MAX_STEPS).filter(|step| is_name(&step.name, MAX_STEP_BYTES));
        Self {
            address: api::parse_address(&ready.address),
            create_us: ready.create_us.min(MAX_TIME_US),
            probe_us: ready.ready_us.min(MAX_TIME_US),
            own_us: ready.own_us.min(MAX_TIME_US),
            steps: steps.map(|step| Step { name: step.name, us: step.us.min(MAX_TIME_US) }).collect(),
        }
    }
}

impl EndReason {
    fn of(reason: wire::sandbox_ended::Reason) -> Self {
        use wire::sandbox_ended::Reason;
        match reason {
            Reason::Deleted => Self::Deleted,
            Reason::Cancelled => Self::Cancelled,
            Reason::Exited => Self::Exited,
            Reason::Unhealthy => Self::Unhealthy,
            Reason::Stopped => Self::Stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::MAX_NAME_BYTES, *};

    #[test]
    fn names_are_checked_and_capacities_and_addresses_bounded() {
        let node = wire::NodeAnnouncement { name: "n".to_owned(), cpu_millicores: u64::MAX, memory_mib: u64::MAX };
        let held = wire::HeldSandbox { concurrency: u32::MAX, ..Default::default() };
        let hello = |worker: &str, admin: &str| wire::WorkerHello {
            worker: worker.to_owned(),
            admin: admin.to_owned(),
            nodes: vec![node.clone()],
            sandboxes: vec![held.clone(), wire::HeldSandbox::default()],
            ..Default::default()
        };
        let checked = WorkerHello::check(hello("w-1.example_x", "evil.example:80/x")).unwrap();
        assert_eq!((checked.nodes[0].capacity.cpu_millicores, checked.admin), (MAX_CPU_MILLICORES, None));
        assert_eq!((checked.instance, checked.cluster), (None, None), "it does not say");
        let concurrencies: Vec<u32> = checked.sandboxes.iter().map(|held| held.concurrency).collect();
        assert_eq!(concurrencies, [MAX_CONCURRENCY, 1]);
        for name in ["", "a b", "a\u{1b}[2J", "../x", &"x".repeat(254)] {
            assert!(WorkerHello::check(hello(name, "")).is_err(), "{name:?}");
        }
        let mut many = hello("w", "");
        many.nodes = vec![node.clone(); MAX_NODES + 1];
        assert!(WorkerHello::check(many).unwrap_err().contains("10000 nodes at most"));
        let mut most = hello("w", "");
        most.sandboxes = vec![held.clone(); MAX_SANDBOXES];
        assert_eq!(WorkerHello::check(most.clone()).unwrap().sandboxes.len(), MAX_SANDBOXES);
        most.sandboxes.push(held.clone());
        assert!(WorkerHello::check(most).unwrap_err().contains("262144 sandboxes at most"));
    }

    #[test]
    fn the_largest_hello_fits_into_a_first_message() {
        let held = wire::HeldSandbox {
            sandbox: u64::MAX,
            node: u32::MAX,
            function: u64::MAX,
            revision: u64::MAX,
            address: "[2001:db8:1111:2222:3333:4444:5555:6666]:65535".to_owned(),
            cpu_millicores: u32::MAX,
            memory_mib: u32::MAX,
            concurrency: u32::MAX,
            queued: true,
        };
        let node =
            wire::NodeAnnouncement { name: "n".repeat(MAX_NAME_BYTES), cpu_millicores: u64::MAX, memory_mib: u64::MAX };
        let bytes_of = |hello: wire::WorkerHello| prost::Message::encoded_len(&hello);
        let of_one = bytes_of(wire::WorkerHello { sandboxes: vec![held], ..Default::default() }) * MAX_SANDBOXES
            + bytes_of(wire::WorkerHello { nodes: vec![node], ..Default::default() }) * MAX_NODES;
        assert!(of_one < api::MAX_FIRST_MESSAGE_BYTES / 3 * 2, "{of_one} bytes");
    }

    #[test]
    fn the_state_of_a_sandbox_is_ready_only_with_an_address() {
        let held = |address: &str, queued| {
            HeldSandbox::of(&wire::HeldSandbox { address: address.to_owned(), queued, ..Default::default() }).state
        };
        assert_eq!(held("127.0.0.1:80", false), HeldState::Ready("127.0.0.1:80".parse().unwrap()));
        assert_eq!(held("", true), HeldState::Queued);
        assert_eq!((held("", false), held("nowhere", false)), (HeldState::Creating, HeldState::Creating));
    }

    #[test]
    fn times_and_steps_of_a_creation_are_bounded() {
        let step = |name: &str| wire::Step { name: name.to_owned(), us: u64::MAX };
        let mut steps = vec![step("spawn"), step("a=1\n")];
        steps.extend((0..100).map(|_| step("x")));
        let ready =
            wire::SandboxReady { create_us: u64::MAX, ready_us: 3, own_us: u64::MAX, steps, ..Default::default() };
        let event = Some(wire::sandbox_event::Event::Ready(ready));
        let report = SandboxReport::of(wire::SandboxEvent { sandbox: 1, event }).unwrap();
        assert!(report.ends_creation());
        let SandboxEvent::Ready(ready) = report.event else { panic!("{report:?}") };
        assert_eq!((ready.create_us, ready.probe_us, ready.own_us), (MAX_TIME_US, 3, MAX_TIME_US));
        assert!(ready.steps.len() == MAX_STEPS - 1 && ready.steps.iter().all(|step| step.us == MAX_TIME_US));
    }

    #[test]
    fn progress_does_not_end_a_creation() {
        let progress = wire::CreationProgress { queued: true, cause: String::new() };
        let event = Some(wire::sandbox_event::Event::Progress(progress));
        let report = SandboxReport::of(wire::SandboxEvent { sandbox: 1, event }).unwrap();
        assert!(!report.ends_creation());
        assert!(matches!(report.event, SandboxEvent::Progress(CreationProgress::Queued { cause: None })));
        assert!(SandboxReport::of(wire::SandboxEvent::default()).is_none(), "of a newer version");
    }
}
