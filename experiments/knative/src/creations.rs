//! Every creation of a sandbox, as the system itself tells of it: the life of a pod from its Deployment's scaling up to
//! its place among the endpoints, taken from watches, and written as `coldstarts.csv`.
//!
//! Times are those at which an event arrived here, on the clock of this machine: the API server's own times have whole
//! seconds only.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Endpoints, Pod},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, watcher},
    },
};
use record::{ColdStart, CreationOutcome, TableWriter};

/// Label with the function's name.
pub const FUNCTION: &str = "serving.knative.dev/service";
/// Label with the revision's name.
const REVISION: &str = "serving.knative.dev/revision";
/// Most creations under way that are remembered: pods that never become ready must not pile up.
const OPEN_MAX: usize = 100_000;

/// Follows creations and writes each once it is complete.
#[derive(Clone)]
pub struct Recorder(Arc<Mutex<Creations>>);

impl Recorder {
    /// Begins to follow Deployments and Endpoints; pods are told by [`pod`](Self::pod).
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn start(client: &Client, folder: &Path) -> anyhow::Result<Self> {
        let writer = TableWriter::create(&folder.join("coldstarts.csv"))?;
        let recorder = Self(Arc::new(Mutex::new(Creations::new(writer))));
        let own = recorder.clone();
        follow(Api::<Deployment>::all(client.clone()), "deployments", move |deployment| {
            let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
            if let Some(revision) = deployment.labels().get(REVISION) {
                own.with(|creations| creations.scaled(revision, replicas, now_ns()));
            }
        });
        let own = recorder.clone();
        follow(Api::<Endpoints>::all(client.clone()), "endpoints", move |endpoints| {
            let subsets = endpoints.subsets.iter().flatten();
            let ready: Vec<&str> = subsets
                .flat_map(|subset| subset.addresses.iter().flatten())
                .map(|address| address.ip.as_str())
                .collect();
            own.with(|creations| creations.published(&ready, now_ns()));
        });
        Ok(recorder)
    }

    /// A pod as it is now.
    pub fn pod(&self, pod: &Pod) {
        let Some((function, revision)) = pod.labels().get(FUNCTION).zip(pod.labels().get(REVISION)) else { return };
        let status = pod.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let seen = Seen {
            pod: pod.name_any(),
            function: function.clone(),
            revision: revision.clone(),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            address: status.and_then(|status| status.pod_ip.clone()),
            ready: conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        };
        self.with(|creations| creations.pod(seen, now_ns()));
    }

    /// A pod that is there no more.
    pub fn gone(&self, pod: &str) {
        self.with(|creations| creations.gone(pod, now_ns()));
    }

    /// Writes what is under way and has an address: the load has ended, and an invocation may have been answered by a
    /// pod that is not among the endpoints yet.
    pub fn finish(&self) {
        self.with(|creations| creations.finish(now_ns()));
    }

    fn with(&self, act: impl FnOnce(&mut Creations)) {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Follows every object of a kind for as long as the process lives.
fn follow<K>(api: Api<K>, what: &'static str, mut act: impl FnMut(K) + Send + 'static)
where
    K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let mut events = watcher(api, watcher::Config::default()).default_backoff().applied_objects().boxed();
    tokio::spawn(async move {
        loop {
            match events.try_next().await {
                Ok(Some(object)) => act(object),
                Ok(None) => return,
                Err(error) => terminal::note!("watching {what}: {error}"),
            }
        }
    });
}

fn now_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// A pod at one moment.
#[derive(Clone, Debug, Default)]
struct Seen {
    pod: String,
    function: String,
    revision: String,
    node: Option<String>,
    address: Option<String>,
    ready: bool,
}

/// A creation under way: when each step was first seen, in nanoseconds since the Unix epoch.
#[derive(Clone, Debug)]
struct Open {
    function: String,
    requested_ns: i64,
    created_ns: i64,
    node: Option<(String, i64)>,
    address: Option<(String, i64)>,
    ready_ns: Option<i64>,
}

/// All creations.
struct Creations {
    writer: TableWriter,
    /// Replicas last seen of each revision, and when they last rose from none.
    scaled: HashMap<String, (i32, i64)>,
    open: HashMap<String, Open>,
    /// Names of pods under creation, by address.
    by_address: HashMap<String, String>,
}

impl Creations {
    fn new(writer: TableWriter) -> Self {
        Self { writer, scaled: HashMap::new(), open: HashMap::new(), by_address: HashMap::new() }
    }

    fn scaled(&mut self, revision: &str, replicas: i32, now_ns: i64) {
        let known = self.scaled.entry(revision.to_owned()).or_insert((0, now_ns));
        if replicas > known.0 {
            known.1 = now_ns;
        }
        known.0 = replicas;
    }

    fn pod(&mut self, seen: Seen, now_ns: i64) {
        if !self.open.contains_key(&seen.pod) {
            // One that has an address when it is seen first was written already, or began before this program.
            if seen.address.is_some() || self.open.len() >= OPEN_MAX {
                return;
            }
            // Two watches: that of pods may be ahead, and when the one before was asked for says nothing of this one.
            let scaled = self.scaled.get(&seen.revision).filter(|(replicas, _)| *replicas > 0);
            let requested_ns = scaled.map_or(now_ns, |(_, at)| *at);
            let open = Open {
                function: seen.function,
                requested_ns,
                created_ns: now_ns,
                node: None,
                address: None,
                ready_ns: None,
            };
            self.open.insert(seen.pod.clone(), open);
        }
        let Some(open) = self.open.get_mut(&seen.pod) else { return };
        if open.node.is_none() {
            open.node = seen.node.map(|node| (node, now_ns));
        }
        if let (None, Some(address)) = (&open.address, seen.address) {
            self.by_address.insert(address.clone(), seen.pod);
            open.address = Some((address, now_ns));
        }
        if seen.ready && open.ready_ns.is_none() {
            open.ready_ns = Some(now_ns);
        }
    }

    /// Addresses that stand among a function's endpoints: what began there is complete.
    fn published(&mut self, addresses: &[&str], now_ns: i64) {
        for address in addresses {
            let Some(pod) = self.by_address.remove(*address) else { continue };
            let Some(open) = self.open.remove(&pod) else { continue };
            self.write_or_say(&pod, open, Some(now_ns), now_ns);
        }
    }

    /// A pod was deleted: one that was ready was created, one that never was is no creation.
    fn gone(&mut self, pod: &str, now_ns: i64) {
        let Some(open) = self.open.remove(pod) else { return };
        if let Some((address, _)) = &open.address
            && self.by_address.get(address).is_some_and(|holder| holder == pod)
        {
            self.by_address.remove(address);
        }
        if open.ready_ns.is_some() {
            self.write_or_say(pod, open, None, now_ns);
        }
    }

    fn finish(&mut self, now_ns: i64) {
        for (_, pod) in std::mem::take(&mut self.by_address) {
            if let Some(open) = self.open.remove(&pod) {
                self.write_or_say(&pod, open, None, now_ns);
            }
        }
    }

    fn write_or_say(&mut self, pod: &str, open: Open, published_ns: Option<i64>, now_ns: i64) {
        if let Err(error) = self.write(pod, open, published_ns, now_ns) {
            terminal::note!("writing a creation: {error:#}");
        }
    }

    fn write(&mut self, pod: &str, open: Open, published_ns: Option<i64>, now_ns: i64) -> anyhow::Result<()> {
        let (node, bound_ns) = open.node.context("a pod with an address is bound")?;
        let (_, address_ns) = open.address.context("a pod among the endpoints has an address")?;
        // Two watches: that of endpoints may be ahead of that of pods. Nothing earlier than now is known otherwise.
        let ready_ns = open.ready_ns.unwrap_or(now_ns);
        let between = |from: i64, to: i64| Some(u64::try_from((to - from).max(0) / 1000).unwrap_or(0));
        let row = ColdStart {
            function: open.function,
            sandbox: pod.to_owned(),
            node,
            requested_ns: open.requested_ns,
            decide_us: between(open.requested_ns, open.created_ns),
            place_us: between(open.created_ns, bound_ns),
            dispatch_us: None,
            create_us: between(bound_ns, address_ns),
            ready_us: between(address_ns, ready_ns),
            publish_us: published_ns.and_then(|published_ns| between(ready_ns, published_ns)),
            net_worker_us: None,
            net_dataplane_us: None,
            outcome: CreationOutcome::Ready,
            create_steps: None,
        };
        self.writer.write(&row)?;
        Ok(self.writer.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_life_becomes_one_row_of_phases() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coldstarts.csv");
        let mut creations = Creations::new(TableWriter::create(&path).unwrap());
        let ms = |ms: i64| ms * 1_000_000;
        let base =
            Seen { pod: "f-1".to_owned(), function: "f".to_owned(), revision: "f-00001".to_owned(), ..Seen::default() };
        let bound = Seen { node: Some("hollow-1".to_owned()), ..base.clone() };
        let runs = Seen { address: Some("10.200.0.2".to_owned()), ..bound.clone() };
        creations.scaled("f-00001", 0, ms(1));
        creations.scaled("f-00001", 1, ms(10));
        creations.pod(base, ms(25));
        creations.pod(bound, ms(30));
        creations.pod(runs.clone(), ms(70));
        creations.published(&["10.200.9.9"], ms(71));
        creations.pod(Seen { ready: true, ..runs.clone() }, ms(75));
        creations.published(&["10.200.0.2"], ms(90));
        creations.pod(Seen { ready: true, ..runs }, ms(95));
        creations.published(&["10.200.0.2"], ms(99));
        let last =
            Seen { pod: "g-1".to_owned(), node: Some("n".to_owned()), revision: "g".to_owned(), ..Seen::default() };
        creations.scaled("g", 1, ms(2));
        creations.scaled("g", 0, ms(80));
        creations.pod(last.clone(), ms(100));
        creations.scaled("g", 1, ms(101));
        creations.pod(Seen { address: Some("10.200.0.3".to_owned()), ..last }, ms(110));
        creations.finish(ms(130));
        let rows: Vec<ColdStart> = record::read_table(&path).unwrap();
        let cut = &rows[1];
        assert_eq!(
            (cut.create_us, cut.ready_us, cut.publish_us),
            (Some(10_000), Some(20_000), None),
            "cut off by the end"
        );
        assert_eq!((cut.requested_ns, cut.decide_us), (ms(100), Some(0)), "seen before its Deployment was");
        assert_eq!(rows.len(), 2, "a pod that is told of again is no new creation");
        let row = &rows[0];
        assert_eq!((row.requested_ns, row.sandbox.as_str(), row.node.as_str()), (ms(10), "f-1", "hollow-1"));
        let phases = [row.decide_us, row.place_us, row.create_us, row.ready_us, row.publish_us];
        assert_eq!(phases, [15, 5, 40, 5, 15].map(|ms| Some(ms * 1000)));
    }

    #[test]
    fn a_pod_that_ends_before_it_is_ready_is_no_creation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coldstarts.csv");
        let mut creations = Creations::new(TableWriter::create(&path).unwrap());
        let seen = |pod: &str, ready: bool| Seen {
            pod: pod.to_owned(),
            node: Some("n".to_owned()),
            address: Some("10.200.0.2".to_owned()),
            ready,
            ..Seen::default()
        };
        for (pod, ready) in [("never", false), ("ready", true)] {
            creations.pod(Seen { address: None, ready: false, ..seen(pod, ready) }, 1_000_000);
            creations.pod(seen(pod, ready), 2_000_000);
            creations.gone(pod, 3_000_000);
        }
        creations.gone("unknown", 4_000_000);
        creations.published(&["10.200.0.2"], 5_000_000);
        creations.finish(6_000_000);
        let rows: Vec<ColdStart> = record::read_table(&path).unwrap();
        let written: Vec<_> = rows.iter().map(|row| (row.sandbox.as_str(), row.ready_us, row.publish_us)).collect();
        assert_eq!(written, [("ready", Some(0), None)]);
    }
}
