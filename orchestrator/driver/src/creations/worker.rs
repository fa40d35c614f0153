//! A worker as the control plane sees it: announces nodes, makes and ends sandboxes that are nothing but an address,
//! and sends heartbeats.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use api::{
    Batch, Heartbeats, OsNetwork, Outbox, PROTOCOL_VERSION, TokenSource,
    wire::{self, orchestrator_client::OrchestratorClient, sandbox_event::Event},
};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::{Streaming, transport::Channel};

use super::options::Options;

/// As real workers do it.
const HEARTBEAT: Duration = Duration::from_millis(250);
/// Workers that connect at once.
const CONNECTING: usize = 64;
/// What a node has: room for thousands of the driver's sandboxes.
const NODE_CPU_MILLICORES: u64 = 64_000;
const NODE_MEMORY_MIB: u64 = 256 * 1024;

/// What a worker has to say.
#[derive(Default)]
struct Events {
    hello: Option<wire::WorkerHello>,
    newest: BTreeMap<u64, Happened>,
}

/// What happened to a sandbox, at some time.
enum Happened {
    /// Ready; its command was read then.
    Ready(Instant),
    Ended,
}

impl Batch for Events {
    type Message = wire::FromWorker;

    fn take(&mut self) -> Option<wire::FromWorker> {
        if self.hello.is_some() {
            return Some(wire::FromWorker { hello: self.hello.take(), ..Default::default() });
        }
        if self.newest.is_empty() {
            return None;
        }
        let events = std::mem::take(&mut self.newest).into_iter();
        let events = events.map(|(sandbox, happened)| {
            let event = match happened {
                Happened::Ready(read) => Event::Ready(ready(sandbox, read.elapsed())),
                Happened::Ended => Event::Ended(wire::SandboxEnded::default()),
            };
            wire::SandboxEvent { sandbox, event: Some(event) }
        });
        Some(wire::FromWorker { events: events.collect(), ..Default::default() })
    }
}

fn ready(sandbox: u64, own: Duration) -> wire::SandboxReady {
    wire::SandboxReady {
        address: format!("127.1.{}.{}:8000", sandbox >> 8 & 0xff, sandbox & 0xff),
        create_us: micros(own),
        own_us: micros(own),
        steps: vec![wire::Step { name: "nothing".to_owned(), us: 0 }],
        ..Default::default()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Connects every worker; they serve as `tasks`.
///
/// # Errors
/// When one cannot connect.
pub(crate) async fn start_all(
    options: &Options,
    stream: SocketAddr,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let connect = |number| async move { connect(number, options, stream).await };
    let mut connected = stream::iter((0..options.workers()).map(connect)).buffer_unordered(CONNECTING);
    while let Some((heartbeats, commands, outbox)) = connected.try_next().await? {
        tasks.spawn(obey(commands, outbox, options.delay));
        tasks.spawn(async move {
            heartbeats.run().await;
            anyhow::bail!("the control plane does not answer heartbeats any more")
        });
    }
    Ok(())
}

type Connected = (Heartbeats, Streaming<wire::ToWorker>, Outbox<Events>);

async fn connect(number: u32, options: &Options, stream: SocketAddr) -> anyhow::Result<Connected> {
    let first = number * options.nodes_per_worker;
    let nodes = (first..options.nodes.min(first + options.nodes_per_worker)).map(|node| wire::NodeAnnouncement {
        name: format!("n{node}"),
        cpu_millicores: NODE_CPU_MILLICORES,
        memory_mib: NODE_MEMORY_MIB,
    });
    let name = format!("w{number}");
    let instance = api::draw_instance();
    let hello = wire::WorkerHello {
        protocol_version: PROTOCOL_VERSION,
        worker: name.clone(),
        runtime: "nothing".to_owned(),
        nodes: nodes.collect(),
        instance,
        ..Default::default()
    };
    let (outbox, messages) = Outbox::new(Events { hello: Some(hello), ..Events::default() });
    // As real workers do, which learn from their heartbeats when nobody is there.
    let channel = api::connect_quietly(Arc::new(OsNetwork), &stream.to_string()).await?;
    let commands = orchestrator(channel).connect_worker(messages).await.context("opening a worker's stream")?;
    let mut commands = commands.into_inner();
    let first = commands.message().await?.context("the control plane closed a worker's stream")?;
    let port = first.welcome.context("a worker was not welcomed")?.heartbeat_port;
    let (network, address) = (Arc::new(OsNetwork), stream.to_string());
    Ok((
        Heartbeats { network, address, port, worker: name, instance, period: HEARTBEAT, token: TokenSource::default() },
        commands,
        outbox,
    ))
}

/// A client on a connection of its own.
pub(crate) async fn client(stream: SocketAddr) -> anyhow::Result<OrchestratorClient<Channel>> {
    api::connect(Arc::new(OsNetwork), &stream.to_string()).await.map(orchestrator).map_err(Into::into)
}

fn orchestrator(channel: Channel) -> OrchestratorClient<Channel> {
    OrchestratorClient::new(channel).max_decoding_message_size(api::MAX_MESSAGE_BYTES)
}

/// Makes and ends what is commanded.
async fn obey(mut commands: Streaming<wire::ToWorker>, outbox: Outbox<Events>, delay: Duration) -> anyhow::Result<()> {
    while let Some(batch) = commands.message().await? {
        let read = Instant::now();
        let made = batch.create.into_iter().map(|create| create.sandbox);
        if delay.is_zero() {
            report(&outbox, made, || Happened::Ready(read));
        } else if made.len() > 0 {
            let (made, outbox): (Vec<_>, _) = (made.collect(), outbox.clone());
            tokio::spawn(async move {
                sleep(delay).await;
                report(&outbox, made.into_iter(), || Happened::Ready(read));
            });
        }
        report(&outbox, batch.delete.into_iter(), || Happened::Ended);
    }
    Ok(())
}

fn report(outbox: &Outbox<Events>, sandboxes: impl ExactSizeIterator<Item = u64>, happened: impl Fn() -> Happened) {
    if sandboxes.len() > 0 {
        outbox.update(|events| events.newest.extend(sandboxes.map(|sandbox| (sandbox, happened()))));
    }
}
