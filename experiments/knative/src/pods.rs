//! What answers for every pod: the same function server as in our own hollow sandboxes, behind one wildcard listener
//! for all pods' addresses. A watch of pods says which address is whose; the same watch records each pod's life.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::Context;
use function::{Function, FunctionConfig, Mode};
use futures::{StreamExt, TryStreamExt};
use hollow::{Network, Sandboxes, WildcardListener};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    runtime::watcher::{self, Event},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    creations::Recorder,
    topology::{POD_PORTS, PODS, PODS_PREFIX},
};

/// Most memory that one request may have touched: none, as the memory of thousands of pods is not there.
const MAX_MEMORY_MIB: u32 = 0;

/// Serves all pods until SIGTERM; `folder` gets the record, and a file `pods.up` once pods are watched.
///
/// # Errors
/// When a port is taken, or the API server goes away for good.
pub async fn serve(client: Client, folder: &Path, mode: Mode) -> anyhow::Result<()> {
    let config = FunctionConfig { mode, machine_name: "pod".to_owned(), max_memory_mib: MAX_MEMORY_MIB };
    let function = Function::new(config);
    let sandboxes = Arc::new(Sandboxes::default());
    for port in POD_PORTS {
        let listener = WildcardListener::bind_network(port, Network { first: PODS, prefix: PODS_PREFIX })?;
        tokio::spawn(listener.serve(Arc::clone(&sandboxes), CancellationToken::new()));
    }
    let recorder = Recorder::start(&client, folder)?;
    let pods: Api<Pod> = Api::all(client);
    let mut events = watcher::watcher(pods, watcher::Config::default()).boxed();
    let mut terminate = signal(SignalKind::terminate()).context("listening to signals")?;
    loop {
        let event = tokio::select! {
            event = events.try_next() => event.context("watching pods")?,
            _ = terminate.recv() => None,
        };
        let Some(event) = event else {
            recorder.finish();
            return Ok(());
        };
        match event {
            Event::Apply(pod) | Event::InitApply(pod) => {
                recorder.pod(&pod);
                follow(&sandboxes, &function, &pod);
            }
            Event::Delete(pod) => end(&sandboxes, &pod),
            Event::InitDone => {
                std::fs::write(folder.join("pods.up"), "").context("saying that pods are watched")?;
            }
            Event::Init => {}
        }
    }
}

/// Begins or ends what answers on a pod's address. A pod that is being deleted answers no more, as if it had drained.
fn follow(sandboxes: &Sandboxes, function: &Arc<Function>, pod: &Pod) {
    if pod.metadata.deletion_timestamp.is_some() {
        return end(sandboxes, pod);
    }
    let Some(addresses) = addresses(pod) else { return };
    // Told again of a pod that lives: its connections must not break.
    if sandboxes.connection(addresses[0]).is_ok() {
        return;
    }
    let function = function.as_pod(&pod.name_any());
    for address in addresses {
        sandboxes.begin(address, Arc::clone(&function));
    }
}

fn end(sandboxes: &Sandboxes, pod: &Pod) {
    for address in addresses(pod).into_iter().flatten() {
        sandboxes.end(address);
    }
}

fn addresses(pod: &Pod) -> Option<[SocketAddr; 2]> {
    let ip = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    Some(POD_PORTS.map(|port| SocketAddr::new(ip, port)))
}
