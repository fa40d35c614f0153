//! Server of all pods: the same function server as in our own hollow sandboxes, behind one wildcard listener for the
//! addresses of all pods. A watch of pods maps addresses to pods, and records each pod's life.
//!
//! It also ends pods, as a kubelet and the queue-proxy in them do: one that is to be deleted drains first, because scaling
//! down must not break invocations that still run, nor those that the activator still sends it, and is gone once nothing has
//! come for a while or its grace is over.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use function::{Function, FunctionConfig, Mode};
use futures::StreamExt;
use hollow::{Network, Sandboxes, WildcardListener};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Preconditions},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
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

/// Time between two looks at whether a pod that drains still runs something, or got more.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// A pod that drains is gone when nothing has come for so long: the quiet period of Knative's queue-proxy
/// (`drainSleepDuration` in its `pkg/queue/sharedmain/main.go`).
const QUIET: Duration = Duration::from_secs(30);
/// Drain time of a pod that does not set one.
const GRACE: Duration = Duration::from_secs(30);
/// Requests to the API server to remove a pod, before the removal is left to it, and the time between them.
const ATTEMPTS: u32 = 30;
const RETRY: Duration = Duration::from_secs(1);

/// Serves all pods until SIGTERM; `folder` gets the record, and a file `pods.up` once pods are watched. While the API server
/// does not answer, pods go on as they are.
///
/// # Errors
/// If a port is taken or a file cannot be written.
pub async fn serve(client: Client, folder: &Path, mode: Mode) -> anyhow::Result<()> {
    // Every connection takes a descriptor, and the usual soft limit is for fewer pods than there may be.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("reading the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("raising the limit of open files")?;
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
    let mut listed = Vec::new();
    let mut events = watcher(pods, watcher::Config::default()).default_backoff().boxed();
    let mut terminate = signal(SignalKind::terminate()).context("listening to signals")?;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = terminate.recv() => None,
        };
        let Some(event) = event else {
            recorder.finish();
            return Ok(());
        };
        match event {
            Ok(Event::Apply(pod)) => {
                recorder.pod(&pod);
                kubelet.follow(&pod);
            }
            Ok(Event::Delete(pod)) => {
                recorder.gone(&pod.name_any());
                kubelet.gone(&pod.uid().unwrap_or_default());
            }
            // Listed when the watch begins, and again when it was broken for long.
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => {
                recorder.pod(&pod);
                listed.push(pod);
            }
            Ok(Event::InitDone) => {
                kubelet.list(&std::mem::take(&mut listed));
                std::fs::write(folder.join("pods.up"), "").context("saying that pods are watched")?;
            }
            Err(error) => terminal::note!("watching pods, to be tried again: {error}"),
        }
    }
}

/// Begins and ends what answers on the addresses of pods.
struct Kubelet {
    client: Client,
    sandboxes: Arc<Sandboxes>,
    function: Arc<Function>,
    /// Pods with an address, by their unique ids; `None`: it is being deleted.
    pods: HashMap<String, Option<Serving>>,
}

/// A pod that answers.
struct Serving {
    addresses: [SocketAddr; 2],
    function: Arc<Function>,
}

impl Kubelet {
    /// A pod as it is now.
    fn follow(&mut self, pod: &Pod) {
        let Some(uid) = pod.uid() else { return };
        if pod.metadata.deletion_timestamp.is_some() {
            match self.pods.insert(uid, None) {
                Some(None) => {}
                Some(Some(serving)) => {
                    tokio::spawn(drain(self.client.clone(), Arc::clone(&self.sandboxes), serving, pod.clone()));
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
        self.pods.insert(uid, Some(Serving { addresses, function }));
    }

    /// A pod that is no more; somebody may have deleted it without asking.
    fn gone(&mut self, uid: &str) {
        if let Some(serving) = self.pods.remove(uid).flatten() {
            end(&self.sandboxes, &serving);
        }
    }

    /// These and no others are there. Those that went while nobody looked end first: others may have their addresses now.
    fn list(&mut self, pods: &[Pod]) {
        let listed: HashSet<String> = pods.iter().filter_map(ResourceExt::uid).collect();
        let gone: Vec<String> = self.pods.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
        for uid in gone {
            self.gone(&uid);
        }
        for pod in pods {
            self.follow(pod);
        }
    }
}

/// Waits until nothing runs in a pod and nothing has come for a while, at most for its grace, ends it, and says so.
async fn drain(client: Client, sandboxes: Arc<Sandboxes>, serving: Serving, pod: Pod) {
    let grace = pod.metadata.deletion_grace_period_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let deadline = Instant::now() + grace.map_or(GRACE, Duration::from_secs);
    let (mut begun, mut since) = (serving.function.begun(), Instant::now());
    while since.elapsed() < QUIET && Instant::now() < deadline {
        sleep(POLL_INTERVAL).await;
        let now = serving.function.begun();
        if serving.function.running() > 0 || now != begun {
            (begun, since) = (now, Instant::now());
        }
    }
    end(&sandboxes, &serving);
    delete(client, pod).await;
}

/// Removes a pod that has ended, this one and no other of its name.
async fn delete(client: Client, pod: Pod) {
    let pods: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
    let this = Preconditions { uid: pod.uid(), ..Preconditions::default() };
    let parameters =
        DeleteParams { grace_period_seconds: Some(0), preconditions: Some(this), ..DeleteParams::default() };
    for _ in 0..ATTEMPTS {
        match pods.delete(&pod.name_any(), &parameters).await {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return,
            Err(error) => terminal::note!("removing the pod {}, to be tried again: {error}", pod.name_any()),
        }
        sleep(RETRY).await;
    }
}

fn end(sandboxes: &Sandboxes, serving: &Serving) {
    for address in serving.addresses {
        sandboxes.end(address);
    }
}

fn addresses(pod: &Pod) -> Option<[SocketAddr; 2]> {
    let ip = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    Some(POD_PORTS.map(|port| SocketAddr::new(ip, port)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, ip: &str) -> Pod {
        let pod = json!({ "metadata": { "name": uid, "uid": uid }, "status": { "podIP": ip } });
        serde_json::from_value(pod).unwrap()
    }

    /// One whose API server is not there.
    fn kubelet() -> Kubelet {
        let config = FunctionConfig { mode: Mode::Sleep, machine_name: "pod".to_owned(), max_memory_mib: 0 };
        let client = Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        let sandboxes = Arc::new(Sandboxes::default());
        Kubelet { client, sandboxes, function: Function::new(config), pods: HashMap::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_is_to_be_deleted_answers_for_its_quiet_period_but_no_longer_than_its_grace() {
        for (grace_s, answers_s) in [(300, QUIET.as_secs()), (10, 10)] {
            let mut kubelet = kubelet();
            let mut pod = pod("a", "10.0.0.1");
            kubelet.list(std::slice::from_ref(&pod));
            pod.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-11-27T08:00:00Z")).unwrap());
            pod.metadata.deletion_grace_period_seconds = Some(grace_s);
            kubelet.follow(&pod);
            let address = addresses(&pod).unwrap()[0];
            for second in 0..answers_s {
                assert!(kubelet.sandboxes.connection(address).is_ok(), "{second} s after it was to be deleted");
                pass(Duration::from_secs(1)).await;
            }
            pass(2 * POLL_INTERVAL).await;
            assert!(kubelet.sandboxes.connection(address).is_err());
        }
    }

    /// Lets time go by in steps in which others have their turns.
    async fn pass(time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            tokio::time::advance(POLL_INTERVAL).await;
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn after_a_broken_watch_only_listed_pods_answer_and_an_address_is_its_new_pods() {
        let mut kubelet = kubelet();
        let sandboxes = Arc::clone(&kubelet.sandboxes);
        let answers = |ip: &str| sandboxes.connection(SocketAddr::new(ip.parse().unwrap(), POD_PORTS[0])).is_ok();
        kubelet.list(&[pod("a", "10.0.0.1"), pod("b", "10.0.0.2"), pod("c", "10.0.0.3")]);
        let kept = Arc::clone(&kubelet.pods["a"].as_ref().unwrap().function);
        kubelet.list(&[pod("d", "10.0.0.2"), pod("a", "10.0.0.1")]);
        assert_eq!(["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(answers), [true, true, false]);
        assert!(Arc::ptr_eq(&kept, &kubelet.pods["a"].as_ref().unwrap().function), "its connections must not break");
        kubelet.gone("b");
        assert!(answers("10.0.0.2"), "b had lost its address");
        kubelet.gone("d");
        assert!(!answers("10.0.0.2"));
    }
}
