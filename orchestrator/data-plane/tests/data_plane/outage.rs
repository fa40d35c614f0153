//! Outages of the control plane, or of the link to it: warm invocations continue, and deleted sandboxes are detected
//! without reports.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use api::{PROTOCOL_VERSION, wire};
use data_plane::Config;
use futures::future::{BoxFuture, pending, ready};
use service::{Io, Listener, Network, OsNetwork};
use sim::{ControlPlane, DataPlaneStream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::{advance, pause, resume},
};

use super::{
    client::get,
    sandbox::Sandbox,
    world::{World, active, delta, function, until},
};

/// An unresponsive machine.
const STUCK: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

/// A network on which sandboxes can be unreachable.
#[derive(Default)]
pub(super) struct Switch {
    is_cut: AtomicBool,
    /// Connections to sandboxes wait until this is released.
    pub(super) is_held: watch::Sender<bool>,
    /// Connections to [`STUCK`] are neither accepted nor refused.
    is_stuck: bool,
    /// Connection attempts to sandboxes.
    pub(super) tried: AtomicUsize,
    /// Those of them that were accepted or refused.
    pub(super) over: AtomicUsize,
}

impl Network for Switch {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        OsNetwork.bind(address)
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Io>> {
        OsNetwork.connect(address)
    }

    fn connect_to(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Io>> {
        self.tried.fetch_add(1, Ordering::SeqCst);
        match self.is_cut.load(Ordering::SeqCst) {
            _ if self.is_stuck && address.ip() == STUCK => Box::pin(pending()),
            true => Box::pin(ready(Err(io::ErrorKind::TimedOut.into()))),
            false => Box::pin(async move {
                let mut is_held = self.is_held.subscribe();
                is_held.wait_for(|is_held| !is_held).await.expect("its sender lives as long as this network");
                let connected = OsNetwork.connect_to(address).await;
                self.over.fetch_add(1, Ordering::SeqCst);
                connected
            }),
        }
    }
}

/// A data plane that loses its control plane, with a warm sandbox.
pub(super) struct Outage {
    pub(super) world: World,
    pub(super) network: Arc<Switch>,
    pub(super) sandbox: Sandbox,
}

impl Outage {
    pub(super) async fn begin() -> Self {
        let (outage, session) = Self::before().await;
        outage.lose(session).await;
        outage
    }

    pub(super) fn function() -> wire::FunctionConfig {
        wire::FunctionConfig { queue_deadline_ms: 200, timeout_ms: 3_600_000, ..function() }
    }

    /// The control plane is still reachable.
    pub(super) async fn before() -> (Self, DataPlaneStream) {
        Self::with(|_| {}).await
    }

    /// The same, with a configuration.
    pub(super) async fn with(change: impl FnOnce(&mut Config)) -> (Self, DataPlaneStream) {
        Self::of(Self::function(), change).await
    }

    /// The same, with a function.
    pub(super) async fn of(
        function: wire::FunctionConfig,
        change: impl FnOnce(&mut Config),
    ) -> (Self, DataPlaneStream) {
        let network = Arc::new(Switch::default());
        let mut world = World::on(network.clone(), change).await;
        let mut session: DataPlaneStream = world.accept_stream(vec![function]).await;
        let sandbox = Sandbox::start().await;
        session.delta(active(1, &sandbox, 1));
        session.ack(1, |ack| ack.slots == 1).await;
        assert_eq!(get(world.data_plane, "f", "/").await.status, 200);
        (Self { world, network, sandbox }, session)
    }

    pub(super) async fn lose(&self, mut session: DataPlaneStream) {
        session.close();
        drop(session);
        self.world.control_plane.stop();
        until("the stream ends", async || self.metric("stream_connected").await == 0).await;
    }

    /// Advances `seconds`, running what is due in each.
    pub(super) async fn go_on(&self, seconds: u64) {
        for _ in 0..seconds {
            jump(1).await;
            // The data plane has ticked meanwhile.
            self.metric("granted_slots").await;
        }
    }

    /// Advances until the sandbox was probed.
    async fn pass(&self) {
        let tried = self.network.tried.load(Ordering::SeqCst);
        jump(11).await;
        until("the data plane looks", async || self.network.tried.load(Ordering::SeqCst) > tried).await;
    }

    pub(super) async fn metric(&self, name: &str) -> u64 {
        let metrics = get(self.world.admin, "admin", "/metrics").await;
        let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("dirigent_data_plane_{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
    }

    /// The sandbox's address has been reused by another function, which must receive nothing.
    pub(super) async fn assert_is_not_used(&self) {
        let other = Sandbox::start_at(self.sandbox.address).await;
        assert_eq!(get(self.world.data_plane, "f", "/").await.refusal(), (504, "queue-deadline"));
        assert_eq!(other.state.served.load(Ordering::SeqCst), 0);
    }
}

pub(super) async fn jump(seconds: u64) {
    jump_by(Duration::from_secs(seconds)).await;
}

async fn jump_by(time: Duration) {
    pause();
    advance(time).await;
    resume();
}

#[tokio::test]
async fn warm_invocations_continue_for_as_long_as_there_is_no_control_plane() {
    let outage = Outage::begin().await;
    for _ in 0..12 {
        outage.pass().await;
    }
    assert_eq!(get(outage.world.data_plane, "f", "/").await.status, 200);
    assert_eq!(outage.metric("sandboxes_failed_total").await, 0);
    assert_eq!(outage.metric("granted_slots").await, 1);
}

#[tokio::test]
async fn the_address_of_a_sandbox_that_was_deleted_meanwhile_is_not_used() {
    let outage = Outage::begin().await;
    outage.sandbox.kill();
    outage.pass().await;
    until("its end is noticed", async || outage.metric("sandboxes_failed_total").await == 1).await;
    outage.assert_is_not_used().await;
}

#[tokio::test]
async fn the_grant_of_an_unreachable_sandbox_is_returned_before_its_port_may_be_reused() {
    let mut outage = Outage::begin().await;
    outage.network.is_cut.store(true, Ordering::SeqCst);
    for _ in 0..4 {
        outage.pass().await;
    }
    assert_eq!(outage.metric("granted_slots").await, 1, "a short while proves nothing");
    jump(11).await;
    until("it is given back", async || outage.metric("granted_slots").await == 0).await;
    outage.network.is_cut.store(false, Ordering::SeqCst);
    outage.sandbox.kill();
    outage.assert_is_not_used().await;
    outage.world.control_plane = ControlPlane::start_at(outage.world.control_plane.address, 1).await;
    let session = outage.world.control_plane.data_plane().await;
    assert_eq!((session.hello.epoch, session.hello.held.len()), (1, 0));
}

#[tokio::test]
async fn a_suspended_data_plane_opens_no_connection_before_it_has_new_evidence() {
    let (outage, session) = Outage::before().await;
    outage.sandbox.kill();
    // A request is the first event after resuming: the data plane has not even noticed that its stream is over.
    jump(61).await;
    outage.assert_is_not_used().await;
    outage.lose(session).await;
    assert_eq!(outage.metric("sandboxes_failed_total").await, 0, "it was not tried");
    assert_eq!(outage.metric("granted_slots").await, 0, "it is given back");
}

#[tokio::test]
async fn a_suspended_data_plane_without_a_stream_opens_no_connection_either() {
    let outage = Outage::begin().await;
    outage.pass().await;
    outage.sandbox.kill();
    jump(61).await;
    outage.assert_is_not_used().await;
    assert_eq!(outage.metric("sandboxes_failed_total").await, 0, "it was not tried");
}

#[tokio::test]
async fn after_a_suspension_a_new_stream_reports_which_sandboxes_are_there() {
    let (mut outage, _old) = Outage::before().await;
    jump(61).await;
    let mut session = outage.world.accept_stream(vec![Outage::function()]).await;
    assert_eq!(session.hello.held.len(), 1, "nothing was given back meanwhile");
    session.delta(active(1, &outage.sandbox, 1));
    session.ack(1, |ack| ack.slots == 1).await;
    outage.sandbox.end_connections().await;
    assert_eq!(get(outage.world.data_plane, "f", "/").await.status, 200, "a new connection is opened");
}

#[tokio::test]
async fn after_a_suspension_no_grant_is_returned_before_a_new_stream_can_report() {
    let (mut outage, _old) = Outage::before().await;
    jump(61).await;
    let mut session = outage.world.control_plane.data_plane().await;
    outage.go_on(3).await;
    assert_eq!(outage.metric("granted_slots").await, 1, "its snapshot may be on its way");
    session.welcome(1, vec![Outage::function()]);
    session.delta(active(1, &outage.sandbox, 1));
    session.ack(1, |ack| ack.slots == 1).await;
    outage.sandbox.end_connections().await;
    assert_eq!(get(outage.world.data_plane, "f", "/").await.status, 200, "a new connection is opened");
}

#[tokio::test]
async fn after_a_suspension_a_snapshot_that_never_completes_times_out() {
    let (mut outage, _old) = Outage::before().await;
    jump(61).await;
    let mut session = outage.world.control_plane.data_plane().await;
    let welcome = Some(wire::Welcome { protocol_version: PROTOCOL_VERSION, epoch: 1, ..Default::default() });
    session.send(wire::ToDataPlane { welcome, ..Default::default() });
    // Parts of it arrive, but not the end.
    session.send(wire::ToDataPlane { functions: vec![Outage::function()], sequence: 1, ..Default::default() });
    session.applied(1).await;
    outage.go_on(40).await;
    until("what nobody can know is given back", async || outage.metric("granted_slots").await == 0).await;
    session.ended().await;
    // Another stream is opened; its hello may have been written before that.
    outage.world.control_plane.data_plane().await;
}

#[tokio::test]
async fn after_a_suspension_untrusted_grants_are_returned_without_a_control_plane() {
    let (outage, _old) = Outage::before().await;
    outage.world.control_plane.stop();
    jump(61).await;
    until("it is given back", async || outage.metric("granted_slots").await == 0).await;
    assert_eq!(outage.metric("sandboxes_failed_total").await, 0);
}

#[tokio::test]
async fn probes_of_many_sandboxes_keep_up_despite_late_ticks() {
    const SANDBOXES: u64 = 10;
    let (outage, session) = Outage::before().await;
    for number in 2..=SANDBOXES {
        session.delta(active(number, &outage.sandbox, 1));
    }
    until("it has them", async || outage.metric("granted_slots").await == SANDBOXES).await;
    outage.lose(session).await;
    for _ in 0..20 {
        // Not late enough for a suspension.
        jump_by(Duration::from_millis(4800)).await;
        assert_eq!(outage.metric("granted_slots").await, SANDBOXES);
    }
    assert_eq!(outage.metric("sandboxes_failed_total").await, 0);
}

#[tokio::test]
async fn a_sandbox_in_use_is_kept_even_if_all_probes_of_it_fail() {
    let outage = Outage::begin().await;
    let address = outage.world.data_plane;
    // A request that waits for as long as it takes.
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /hold HTTP/1.1\r\nHost: f\r\n\r\n").await.unwrap();
    outage.sandbox.running(1).await;
    outage.network.is_cut.store(true, Ordering::SeqCst);
    for _ in 0..12 {
        jump(11).await;
        // As many ticks as a probe would need.
        jump(1).await;
        assert_eq!(outage.metric("granted_slots").await, 1);
    }
    outage.network.is_cut.store(false, Ordering::SeqCst);
    // Input right after a suspension would prove nothing.
    jump(3).await;
    outage.sandbox.state.gate.add_permits(1);
    let mut status = [0; 12];
    client.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    outage.sandbox.end_connections().await;
    assert_eq!(get(address, "f", "/").await.status, 200, "it has answered, so it is there");
}

#[tokio::test]
async fn a_sandbox_that_accepts_no_connection_while_it_is_in_use_is_not_broken() {
    let outage = Outage::begin().await;
    let mut client = TcpStream::connect(outage.world.data_plane).await.unwrap();
    client.write_all(b"GET /hold HTTP/1.1\r\nHost: f\r\n\r\n").await.unwrap();
    outage.sandbox.running(1).await;
    outage.sandbox.stop_listening();
    let tried = outage.network.tried.load(Ordering::SeqCst);
    outage.go_on(25).await;
    assert!(outage.network.tried.load(Ordering::SeqCst) > tried, "it is looked at");
    assert_eq!(outage.metric("sandboxes_failed_total").await, 0);
    outage.sandbox.state.gate.add_permits(1);
    let mut status = [0; 12];
    client.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
}

#[tokio::test]
async fn sandboxes_of_an_unresponsive_machine_delay_no_probe_of_others() {
    let network = Arc::new(Switch { is_stuck: true, ..Switch::default() });
    let mut world = World::on(network.clone(), |config| config.limits.connect_timeout = Duration::from_secs(600)).await;
    let mut session = world.accept_stream(vec![Outage::function()]).await;
    for number in 1..=100 {
        let address = SocketAddr::new(STUCK, 1024 + number);
        session.delta(delta(number.into(), address, 1, wire::EndpointState::Active, 1));
    }
    let sandbox = Sandbox::start().await;
    session.delta(active(101, &sandbox, 1));
    session.ack(101, |ack| ack.slots == 1).await;
    let outage = Outage { world, network, sandbox };
    outage.lose(session).await;
    let connections = || outage.sandbox.state.connections.load(Ordering::SeqCst);
    outage.go_on(40).await;
    assert!(connections() > 0, "the one that answers is looked at");
    outage.go_on(20).await;
    until("only the others are given back", async || outage.metric("granted_slots").await == 1).await;
    assert_eq!(get(outage.world.data_plane, "f", "/").await.status, 200);
}
