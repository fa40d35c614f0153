//! What answers for every pod: the same function server as in our own hollow sandboxes, behind one wildcard listener
//! for all pods' addresses. A watch of pods says which address is whose; the same watch records each pod's life.
//!
//! It also ends pods, as a kubelet does: one that is to be deleted drains first, because scaling down must not break
//! invocations that still run, and is gone once nothing runs in it or its grace is over.

use std::{collections::HashMap, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use function::{Function, FunctionConfig, Mode};
use futures::{StreamExt, TryStreamExt};
use hollow::{Network, Sandboxes, WildcardListener};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Preconditions},
    runtime::watcher::{self, Event},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    creations::Recorder,
    topology::{POD_PORTS, PODS, PODS_PREFIX},
};

/// Most memory that one request may have touched: none, as the memory of thousands of pods is not there.
const MAX_MEMORY_MIB: u32 = 0;

/// Time between two looks at whether a pod that drains still runs something.
const LOOK: Duration = Duration::from_millis(20);
/// What a pod may drain for when it does not say.
const GRACE: Duration = Duration::from_secs(30);

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
    let pods: Api<Pod> = Api::all(client.clone());
    let mut kubelet = Kubelet { client, sandboxes, function, pods: HashMap::new() };
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
                kubelet.follow(&pod);
            }
            Event::Delete(pod) => kubelet.gone(&pod),
            Event::InitDone => {
                std::fs::write(folder.join("pods.up"), "").context("saying that pods are watched")?;
            }
            Event::Init => {}
        }
    }
}

/// Begins and ends what answers on the addresses of pods.
struct Kubelet {
    client: Client,
    sandboxes: Arc<Sandboxes>,
    function: Arc<Function>,
    /// Pods with an address, by their unique ids; `None`: it is being deleted.
    pods: HashMap<String, Option<Arc<Function>>>,
}

impl Kubelet {
    /// A pod as it is now.
    fn follow(&mut self, pod: &Pod) {
        let Some(uid) = pod.uid() else { return };
        if pod.metadata.deletion_timestamp.is_some() {
            match self.pods.insert(uid, None) {
                Some(None) => {}
                Some(Some(function)) => {
                    tokio::spawn(drain(self.client.clone(), Arc::clone(&self.sandboxes), function, pod.clone()));
                }
                None => drop(tokio::spawn(delete(self.client.clone(), pod.clone()))),
            }
            return;
        }
        let Some(addresses) = addresses(pod) else { return };
        // Told again of a pod that lives: its connections must not break.
        if self.pods.contains_key(&uid) {
            return;
        }
        let function = self.function.as_pod(&pod.name_any());
        for address in addresses {
            self.sandboxes.begin(address, Arc::clone(&function));
        }
        self.pods.insert(uid, Some(function));
    }

    /// A pod that is no more; somebody may have deleted it without asking.
    fn gone(&mut self, pod: &Pod) {
        if pod.uid().and_then(|uid| self.pods.remove(&uid)).flatten().is_some() {
            end(&self.sandboxes, pod);
        }
    }
}

/// Waits until nothing runs in a pod, at most for its grace, ends it, and says so.
async fn drain(client: Client, sandboxes: Arc<Sandboxes>, function: Arc<Function>, pod: Pod) {
    let grace = pod.metadata.deletion_grace_period_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let deadline = Instant::now() + grace.map_or(GRACE, Duration::from_secs);
    while function.running() > 0 && Instant::now() < deadline {
        sleep(LOOK).await;
    }
    end(&sandboxes, &pod);
    delete(client, pod).await;
}

/// Removes a pod that has ended, this one and no other of its name.
async fn delete(client: Client, pod: Pod) {
    let pods: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
    let this = Preconditions { uid: pod.uid(), ..Preconditions::default() };
    let parameters =
        DeleteParams { grace_period_seconds: Some(0), preconditions: Some(this), ..DeleteParams::default() };
    match pods.delete(&pod.name_any(), &parameters).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => eprintln!("removing the pod {}: {error}", pod.name_any()),
        Ok(_) => {}
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
