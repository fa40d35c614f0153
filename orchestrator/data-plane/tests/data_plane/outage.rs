//! Outages of the control plane, or of the link to it: warm invocations go on, and what nobody says is found out.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use api::{Io, Listener, Network, OsNetwork, wire};
use futures::future::{BoxFuture, ready};
use tokio::time::{advance, pause, resume};

use super::{
    client::get,
    control_plane::{ControlPlane, Session},
    sandbox::Sandbox,
    world::{World, active, function, until},
};

/// A network on which sandboxes can be out of reach.
#[derive(Default)]
struct Switch {
    is_cut: AtomicBool,
    /// Connections to sandboxes that were tried.
    tried: AtomicUsize,
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
            true => Box::pin(ready(Err(io::ErrorKind::TimedOut.into()))),
            false => OsNetwork.connect_to(address),
        }
    }
}

/// A data plane that loses its control plane, with a warm sandbox.
struct Outage {
    world: World,
    network: Arc<Switch>,
    sandbox: Sandbox,
}

impl Outage {
    async fn begin() -> Self {
        let (outage, session) = Self::before().await;
        outage.lose(session).await;
        outage
    }

    /// The control plane is still there.
    async fn before() -> (Self, Session) {
        let network = Arc::new(Switch::default());
        let mut world = World::on(network.clone(), |_| {}).await;
        let brief = wire::FunctionConfig { queue_deadline_ms: 200, ..function() };
        let mut session: Session = world.greeted(vec![brief]).await;
        let sandbox = Sandbox::start().await;
        session.delta(active(1, &sandbox, 1));
        session.ack(1, |ack| ack.slots == 1).await;
        assert_eq!(get(world.data_plane, "f", "/").await.status, 200);
        (Self { world, network, sandbox }, session)
    }

    async fn lose(&self, mut session: Session) {
        session.close();
        drop(session);
        self.world.control_plane.stop();
        until("the stream ends", async || self.metric("stream_connected").await == 0).await;
    }

    /// A look at the sandbox is due, and has been taken.
    async fn pass(&self) {
        let tried = self.network.tried.load(Ordering::SeqCst);
        jump(11).await;
        until("the data plane looks", async || self.network.tried.load(Ordering::SeqCst) > tried).await;
    }

    async fn metric(&self, name: &str) -> u64 {
        let metrics = get(self.world.admin, "admin", "/metrics").await;
        let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("dirigent_data_plane_{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
    }

    /// The address of the sandbox is one of another function's by now, which gets nothing.
    async fn assert_is_not_used(&self) {
        let other = Sandbox::start_at(self.sandbox.address).await;
        assert_eq!(get(self.world.data_plane, "f", "/").await.refusal(), (504, "queue-deadline"));
        assert_eq!(other.state.served.load(Ordering::SeqCst), 0);
    }
}

async fn jump(seconds: u64) {
    pause();
    advance(Duration::from_secs(seconds)).await;
    resume();
}

#[tokio::test]
async fn warm_invocations_go_on_for_as_long_as_the_control_plane_is_away() {
    let outage = Outage::begin().await;
    for _ in 0..12 {
        outage.pass().await;
    }
    assert_eq!(get(outage.world.data_plane, "f", "/").await.status, 200);
    assert_eq!(outage.metric("sandboxes_failed_total").await, 0);
    assert_eq!(outage.metric("slots_held").await, 1);
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
async fn a_sandbox_that_cannot_be_reached_either_is_given_back_before_its_port_may_be_given_to_another() {
    let mut outage = Outage::begin().await;
    outage.network.is_cut.store(true, Ordering::SeqCst);
    for _ in 0..4 {
        outage.pass().await;
    }
    assert_eq!(outage.metric("slots_held").await, 1, "a short while proves nothing");
    outage.pass().await;
    until("it is given back", async || outage.metric("slots_held").await == 0).await;
    outage.network.is_cut.store(false, Ordering::SeqCst);
    outage.sandbox.kill();
    outage.assert_is_not_used().await;
    outage.world.control_plane = ControlPlane::start(outage.world.control_plane.address).await;
    let session = outage.world.control_plane.session().await;
    assert_eq!((session.hello.epoch, session.hello.held.len()), (1, 0));
}

#[tokio::test]
async fn a_data_plane_that_stood_still_is_sure_of_no_sandbox() {
    let (outage, session) = Outage::before().await;
    jump(61).await;
    outage.lose(session).await;
    // That it is used until it is noticed proves nothing: it may be another one.
    get(outage.world.data_plane, "f", "/").await;
    jump(11).await;
    until("it is given back", async || outage.metric("slots_held").await == 0).await;
    assert_eq!(outage.metric("sandboxes_failed_total").await, 0, "nothing was wrong with it");
}
