//! A simulated worker on the real stream: announces nodes, sends heartbeats, and reports sandboxes that are only an
//! address.

use std::{collections::BTreeMap, net::SocketAddr, ops::Range, sync::Arc, time::Duration};

use anyhow::Context;
use api::{
    Batch, Heartbeats, Outbox, PROTOCOL_VERSION, TokenSource,
    wire::{self, orchestrator_client::OrchestratorClient, sandbox_event::Event},
};
use futures::{StreamExt, TryStreamExt, stream};
use service::OsNetwork;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::{Streaming, transport::Channel};

use super::options::Options;

/// The default period of real workers.
const HEARTBEAT_PERIOD: Duration = Duration::from_millis(250);
/// Workers that connect concurrently.
const MAX_CONNECTING: usize = 64;
/// Capacity of a node: room for thousands of the driver's sandboxes.
const NODE_CPU_MILLICORES: u64 = 64_000;
const NODE_MEMORY_MIB: u64 = 256 * 1024;

/// The unsent messages of a worker.
#[derive(Default)]
struct Events {
    hello: Option<wire::WorkerHello>,
    newest: BTreeMap<u64, SandboxChange>,
}

/// A change of a sandbox.
enum SandboxChange {
    /// It is ready; its command was read at this time.
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
        let events = events.map(|(sandbox, change)| {
            let event = match change {
                SandboxChange::Ready(read) => Event::Ready(ready(sandbox, read.elapsed())),
                SandboxChange::Ended => Event::Ended(wire::SandboxEnded::default()),
            };
            wire::SandboxEvent { sandbox, event: Some(event) }
        });
        Some(wire::FromWorker { events: events.collect(), ..Default::default() })
    }
}

fn ready(sandbox: u64, own: Duration) -> wire::SandboxReady {
    wire::SandboxReady {
        // Two sandboxes may have the same address: nobody connects to either.
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

/// Connects every worker and serves them as `tasks`.
///
/// # Errors
/// If one cannot connect.
pub(crate) async fn start_all(
    options: &Options,
    stream: SocketAddr,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let connect = |number| async move { connect(number, options, stream).await };
    let mut connected = stream::iter((0..options.workers()).map(connect)).buffer_unordered(MAX_CONNECTING);
    while let Some((heartbeats, commands, outbox)) = connected.try_next().await? {
        tasks.spawn(execute(commands, outbox, options.delay));
        tasks.spawn(async move {
            heartbeats.run().await;
            anyhow::bail!("the control plane stopped acknowledging heartbeats")
        });
    }
    Ok(())
}

/// Numbers of the nodes of a worker; the last worker has fewer.
fn nodes_of(worker: u32, options: &Options) -> Range<u32> {
    let first = worker * options.nodes_per_worker;
    first..options.nodes.min(first.saturating_add(options.nodes_per_worker))
}

type Connected = (Heartbeats, Streaming<wire::ToWorker>, Outbox<Events>);

async fn connect(number: u32, options: &Options, stream: SocketAddr) -> anyhow::Result<Connected> {
    let nodes = nodes_of(number, options).map(|node| wire::NodeAnnouncement {
        name: format!("n{node}"),
        cpu_millicores: NODE_CPU_MILLICORES,
        memory_mib: NODE_MEMORY_MIB,
    });
    let name = format!("w{number}");
    let instance = api::random_instance();
    let hello = wire::WorkerHello {
        protocol_version: PROTOCOL_VERSION,
        worker: name.clone(),
        runtime: "nothing".to_owned(),
        nodes: nodes.collect(),
        instance,
        ..Default::default()
    };
    let (outbox, messages) = Outbox::new(Events { hello: Some(hello), ..Events::default() });
    // Without keep-alive pings, like real workers: their heartbeats detect a lost control plane.
    let channel = api::connect_with_slow_pings(Arc::new(OsNetwork), &stream.to_string()).await?;
    let commands = orchestrator(channel).connect_worker(messages).await.context("opening a worker's stream")?;
    let mut commands = commands.into_inner();
    let first = commands.message().await?.context("the control plane closed a worker's stream")?;
    let port = first.welcome.context("a worker was not welcomed")?.heartbeat_port;
    let (network, address) = (Arc::new(OsNetwork), stream.to_string());
    Ok((
        Heartbeats {
            network,
            address,
            port,
            worker: name,
            instance,
            period: HEARTBEAT_PERIOD,
            token: TokenSource::default(),
        },
        commands,
        outbox,
    ))
}

/// A client on a new connection.
pub(crate) async fn client(stream: SocketAddr) -> anyhow::Result<OrchestratorClient<Channel>> {
    api::connect(Arc::new(OsNetwork), &stream.to_string()).await.map(orchestrator).map_err(Into::into)
}

fn orchestrator(channel: Channel) -> OrchestratorClient<Channel> {
    OrchestratorClient::new(channel).max_decoding_message_size(api::MAX_FIRST_MESSAGE_BYTES)
}

/// Executes the commands: a sandbox is ready after `delay`, and ends at once.
async fn execute(
    mut commands: Streaming<wire::ToWorker>,
    outbox: Outbox<Events>,
    delay: Duration,
) -> anyhow::Result<()> {
    while let Some(batch) = commands.message().await? {
        let read = Instant::now();
        let made = batch.create.into_iter().map(|create| create.sandbox);
        // Without a timer, which takes a millisecond at least.
        if delay.is_zero() {
            report(&outbox, made, || SandboxChange::Ready(read));
        } else if made.len() > 0 {
            let (made, outbox): (Vec<_>, _) = (made.collect(), outbox.clone());
            tokio::spawn(async move {
                sleep(delay).await;
                report(&outbox, made.into_iter(), || SandboxChange::Ready(read));
            });
        }
        report(&outbox, batch.delete.into_iter(), || SandboxChange::Ended);
    }
    Ok(())
}

fn report(outbox: &Outbox<Events>, sandboxes: impl ExactSizeIterator<Item = u64>, change: impl Fn() -> SandboxChange) {
    if sandboxes.len() > 0 {
        outbox.update(|events| events.newest.extend(sandboxes.map(|sandbox| (sandbox, change()))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use clap::Parser;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn every_node_belongs_to_exactly_one_worker() {
        for (nodes, each) in [("7", "3"), ("6", "3"), ("1", "5")] {
            let arguments = ["driver", "--nodes", nodes, "--nodes-per-worker", each];
            let options = CommandLine::parse_from(arguments).options;
            let all: Vec<u32> = (0..options.workers()).flat_map(|worker| nodes_of(worker, &options)).collect();
            assert_eq!(all, (0..options.nodes).collect::<Vec<_>>(), "{nodes} nodes, {each} per worker");
        }
    }

    #[test]
    fn the_hello_is_sent_alone_and_then_the_newest_change_of_each_sandbox() {
        let mut events = Events { hello: Some(wire::WorkerHello::default()), ..Events::default() };
        events.newest.extend([(1, SandboxChange::Ready(Instant::now())), (2, SandboxChange::Ended)]);
        events.newest.insert(1, SandboxChange::Ended);
        let hello = events.take().unwrap();
        assert!(hello.hello.is_some() && hello.events.is_empty(), "{hello:?}");
        let sent = events.take().unwrap().events;
        assert_eq!(sent.iter().map(|event| event.sandbox).collect::<Vec<_>>(), [1, 2]);
        assert!(sent.iter().all(|event| matches!(event.event, Some(Event::Ended(_)))), "{sent:?}");
        assert_eq!(events.take(), None);
    }

    #[test]
    fn a_ready_sandbox_has_an_address_that_the_control_plane_accepts() {
        for sandbox in [0, 255, 256, u64::MAX] {
            let ready = ready(sandbox, Duration::from_micros(7));
            let address: SocketAddr = ready.address.parse().unwrap();
            assert!(address.ip().is_loopback() && address.port() == 8000, "{address}");
            assert_eq!((ready.create_us, ready.own_us), (7, 7));
        }
    }
}
