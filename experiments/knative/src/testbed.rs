//! A running baseline, from etcd to the first hollow node: everything is started in the order in which it depends on
//! each other, and each step waits until the one before is ready.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, Service, ServiceAccount},
};
use kube::{Api, Client, ResourceExt, api::ListParams};
use record::Setting;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    anatomy::{self, Changes, Functions},
    api,
    cache::Built,
    components::{Component, ComponentBuilder},
    credentials::{Credentials, Identity},
    folder::{TestbedLock, clear, remove_data},
    objects::{manifests, nodes, services, stages},
    prepared::{Facts, Prepared},
    register,
    supervise::Supervisor,
    topology::{ACTIVATOR, ACTIVATOR_PORT, AUTOSCALER, CONTROLLER, ETCD_PORT, NODES, WEBHOOK, api as api_address},
    variant::Variant,
    versions,
};

/// Time for one component to be ready; on a busy machine the API server takes the longest.
const READY_TIMEOUT: Duration = Duration::from_secs(90);

/// Settings of a testbed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The programs.
    pub built: Built,
    /// Variant of the baseline.
    pub variant: Variant,
    /// Workers of each controller; `None`: as released.
    pub workers: Option<u32>,
    /// Folder of all its files; must be on a disk with durable writes.
    pub folder: PathBuf,
    /// Hollow nodes.
    pub nodes: u32,
    /// Modelled delay of a sandbox's creation.
    pub delay: Duration,
    /// Windows of the autoscaler; `None`: as released.
    pub windows: Option<manifests::Windows>,
    /// Mode of the functions: `sleep` or `spin`.
    pub mode: hollow::Mode,
    /// The state it begins from; `None`: nothing is registered.
    pub prepared: Option<Prepared>,
    /// True if every request to the API server and every change in the store are recorded.
    pub anatomy: bool,
}

impl Settings {
    /// Settings in ConfigMaps that differ from the release.
    #[must_use]
    pub fn config_maps(&self) -> Vec<Setting> {
        manifests::settings(self.windows.as_ref())
    }
}

/// A testbed that is ready.
pub struct Testbed {
    supervisor: Supervisor,
    folder: PathBuf,
    client: Client,
    changes: Option<Changes>,
    _only: TestbedLock,
}

impl Testbed {
    /// Starts everything and waits until it is ready. What was started is ended when it fails.
    ///
    /// # Errors
    /// If a part does not start, or is of another version than promised: with the end of its log.
    pub async fn start(settings: &Settings) -> anyhow::Result<Self> {
        settings.built.require()?;
        let only = TestbedLock::take(&settings.folder, &settings.built.running())?;
        clear(&settings.folder)?;
        let mut supervisor = Supervisor::new(&settings.folder).await.context("making the network")?;
        match start_all(settings, &mut supervisor).await {
            Ok((client, changes)) => {
                Ok(Self { supervisor, folder: settings.folder.clone(), client, changes, _only: only })
            }
            Err(error) => {
                if let Err(left) = supervisor.stop().await {
                    terminal::note!("while giving up: {left:#}");
                }
                Err(error)
            }
        }
    }

    /// A client that may do everything.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Writes where it is reached, and which processes it consists of; the runner waits for these files.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn announce(&self) -> anyhow::Result<()> {
        record::write_json(&self.folder.join("members.json"), &self.supervisor.members())?;
        let ports = json!({ "activator": format!("{ACTIVATOR}:{ACTIVATOR_PORT}"), "api": api_address() });
        Ok(record::write_json(&self.folder.join("ports.json"), &ports)?)
    }

    /// Fails when a part has ended.
    ///
    /// # Errors
    /// With its name and the end of its log.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.supervisor.check()
    }

    /// Ends everything, and writes down what was recorded; the data is removed.
    ///
    /// # Errors
    /// If a part does not end, the record cannot be written, or the data cannot be removed.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let names = if self.changes.is_some() { register::names(&self.client).await } else { Ok(Vec::new()) };
        self.end().await?;
        if let Some(changes) = self.changes {
            anatomy::write(&self.folder, &Functions::new(names?), changes)?;
        }
        remove_data(&self.folder)
    }

    /// Ends everything and keeps the data in `to`. The store is ended like the rest, without being asked: all that it
    /// acknowledged is on disk.
    ///
    /// # Errors
    /// If a part does not end, or the data cannot be copied or removed.
    pub async fn stop_keeping(mut self, to: &Prepared, facts: &Facts) -> anyhow::Result<()> {
        self.end().await?;
        to.save(&self.folder, facts)?;
        remove_data(&self.folder)
    }

    async fn end(&mut self) -> anyhow::Result<()> {
        self.supervisor.finish("pods").await?;
        self.supervisor.stop().await
    }
}

/// The whole order; a client that may do everything, and what follows the store if that is asked for.
async fn start_all(settings: &Settings, supervisor: &mut Supervisor) -> anyhow::Result<(Client, Option<Changes>)> {
    let folder = &settings.folder;
    let config_maps = settings.config_maps();
    let credentials = folder.join("credentials");
    let credentials = if let Some(prepared) = &settings.prepared {
        prepared.restore(folder, &config_maps, settings.nodes)?;
        Credentials::in_folder(&credentials)
    } else {
        Credentials::make(&credentials)?
    };
    record::write_json(&folder.join(anatomy::POLICY), &anatomy::policy())?;
    let Settings { built, variant, workers, anatomy: audit, .. } = settings;
    let (variant, workers, audit) = (*variant, *workers, *audit);
    let components = ComponentBuilder { built, credentials: &credentials, data: folder, variant, workers, audit };
    record::write_json(&folder.join("settings.json"), &[config_maps.clone(), components.settings()].concat())?;
    fs::copy(built.facts(), folder.join("built.json")).context("keeping what was built")?;
    let client = api::client(&credentials, Identity::Admin)?;
    let store = Store { client: &client, is_new: settings.prepared.is_none() };
    kubernetes(supervisor, &components, &store).await?;
    store.apply(&manifests::before_webhook(&settings.built.manifests(), &config_maps)?).await?;
    store.apply(&services::all()).await?;
    serving(supervisor, &components, &store).await?;
    hollow_nodes(settings, supervisor, &components, &store).await?;
    let changes = settings.anatomy.then(Changes::follow).transpose()?;
    Ok((client, changes))
}

/// The store behind the API server: a new one gets every object, a restored one has them.
struct Store<'a> {
    client: &'a Client,
    is_new: bool,
}

impl Store<'_> {
    async fn apply(&self, objects: &[Value]) -> anyhow::Result<()> {
        if self.is_new {
            for object in objects {
                api::apply(self.client, object).await?;
            }
        }
        Ok(())
    }

    /// Removes all leases: their holders ended with the testbed that the store comes from, and whoever starts now would
    /// wait for them to run out.
    async fn forget_leases(&self) -> anyhow::Result<()> {
        let leases: Api<Lease> = Api::all(self.client.clone());
        for lease in leases.list(&ListParams::default()).await.context("listing leases")? {
            let (name, namespace) = (lease.name_any(), lease.namespace().unwrap_or_default());
            let within: Api<Lease> = Api::namespaced(self.client.clone(), &namespace);
            // The API server itself removes those that have run out.
            api::remove(&within, &name).await?;
        }
        Ok(())
    }
}

/// etcd, API server (of the promised version), controller manager, scheduler.
async fn kubernetes(
    supervisor: &mut Supervisor,
    components: &ComponentBuilder<'_>,
    store: &Store<'_>,
) -> anyhow::Result<()> {
    let client = store.client;
    supervisor.start(&components.etcd()).await?;
    supervisor.wait("etcd", READY_TIMEOUT, async || connects(([127, 0, 0, 1], ETCD_PORT)).await).await?;
    supervisor.start(&components.api_server()).await?;
    let ready = async || {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        Ok(client.request_text(request).await.map(drop)?)
    };
    supervisor.wait("kube-apiserver", READY_TIMEOUT, ready).await?;
    let version = client.apiserver_version().await.context("asking for the API server's version")?.git_version;
    if version != versions::git_version() {
        bail!("the API server says it is {version}, expected {}", versions::git_version());
    }
    store.forget_leases().await?;
    supervisor.start(&components.controller_manager()).await?;
    supervisor.start(&components.scheduler()).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    let account = async || Ok(accounts.get("default").await.map(drop)?);
    supervisor.wait("kube-controller-manager", READY_TIMEOUT, account).await
}

/// Knative's own parts; its controller may act only when the controller manager has aggregated its role.
async fn serving(
    supervisor: &mut Supervisor,
    components: &ComponentBuilder<'_>,
    store: &Store<'_>,
) -> anyhow::Result<()> {
    let services: Api<Service> = Api::all(api::client(components.credentials, Identity::Controller)?);
    let allowed = async || Ok(services.list(&ListParams::default().limit(1)).await.map(drop)?);
    supervisor.wait("kube-controller-manager", READY_TIMEOUT, allowed).await?;
    supervisor.start(&components.webhook()).await?;
    supervisor.wait("webhook", READY_TIMEOUT, async || connects((WEBHOOK.octets(), 8443)).await).await?;
    store.apply(&manifests::webhooks(&components.built.manifests())?).await?;
    supervisor.start(&components.controller()).await?;
    supervisor.start(&components.autoscaler()).await?;
    supervisor.wait("autoscaler", READY_TIMEOUT, async || connects((AUTOSCALER.octets(), 8080)).await).await?;
    supervisor.start(&components.activator()).await?;
    supervisor.wait("controller", READY_TIMEOUT, async || connects((CONTROLLER.octets(), 8080)).await).await?;
    supervisor.wait("activator", READY_TIMEOUT, activator_ready).await
}

/// Nodes, their stand-in for kubelets, and what answers for every pod.
async fn hollow_nodes(
    settings: &Settings,
    supervisor: &mut Supervisor,
    components: &ComponentBuilder<'_>,
    store: &Store<'_>,
) -> anyhow::Result<()> {
    let pods = Component {
        name: "pods",
        address: Some(NODES),
        command: pods_command(settings, components.credentials)?,
        environment: Vec::new(),
    };
    supervisor.start(&pods).await?;
    let up = settings.folder.join("pods.up");
    let there = async || up.exists().then_some(()).context("it does not watch the pods yet");
    supervisor.wait("pods", READY_TIMEOUT, there).await?;
    store.apply(&nodes::names(settings.nodes).map(|name| nodes::node(&name)).collect::<Vec<_>>()).await?;
    let path = components.stages();
    fs::write(&path, stages::configuration(settings.delay)).with_context(|| format!("writing {}", path.display()))?;
    supervisor.start(&components.kwok()).await?;
    let nodes: Api<Node> = Api::all(store.client.clone());
    let leases: Api<Lease> = Api::namespaced(store.client.clone(), "kube-node-lease");
    let expected = settings.nodes as usize;
    let ready = async || {
        let listed = nodes.list(&ListParams::default()).await?;
        let ready = listed.iter().filter(|node| is_ready(node)).count();
        let renewed = leases.list(&ListParams::default()).await?.items.len();
        if ready.min(renewed) < expected {
            bail!("{ready} of {expected} nodes are ready, {renewed} have their lease")
        }
        Ok(())
    };
    supervisor.wait("kwok", READY_TIMEOUT, ready).await
}

fn pods_command(settings: &Settings, credentials: &Credentials) -> anyhow::Result<Vec<String>> {
    let own = std::env::current_exe().context("finding this program's own file")?;
    let mode = match settings.mode {
        hollow::Mode::Sleep => "sleep",
        hollow::Mode::Spin => "spin",
    };
    let text = |path: &Path| path.display().to_string();
    let folder = text(&settings.folder);
    Ok([&text(&own), "pods", "--credentials", &credentials.file(""), "--folder", &folder, "--mode", mode]
        .map(str::to_owned)
        .to_vec())
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

async fn connects(address: impl Into<std::net::SocketAddr>) -> anyhow::Result<()> {
    let address = address.into();
    TcpStream::connect(address).await.map(drop).with_context(|| format!("connecting to {address}"))
}

/// The activator's readiness probe, which a kubelet would send: it is ready when it is connected to the autoscaler.
async fn activator_ready() -> anyhow::Result<()> {
    let answer = tokio::task::spawn_blocking(|| {
        let within = Some(Duration::from_secs(2));
        let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).timeout_global(within).build().into();
        let address = format!("http://{ACTIVATOR}:{ACTIVATOR_PORT}/healthz");
        agent.get(address).header("k-kubelet-probe", "activator").call().map(drop)
    });
    Ok(answer.await.context("asking the activator")??)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(conditions: &Value) -> Node {
        serde_json::from_value(json!({ "metadata": { "name": "n" }, "status": { "conditions": conditions } })).unwrap()
    }

    #[test]
    fn a_node_is_ready_by_that_condition_alone() {
        let ready = |conditions: &[(&str, &str)]| {
            let each = conditions.iter().map(|(kind, status)| json!({ "type": kind, "status": status }));
            is_ready(&node(&each.collect()))
        };
        assert!(ready(&[("MemoryPressure", "False"), ("Ready", "True")]));
        assert!(!ready(&[("Ready", "False")]) && !ready(&[("Ready", "Unknown")]));
        assert!(!ready(&[("MemoryPressure", "True")]) && !ready(&[]));
        assert!(!is_ready(&Node::default()), "it has no status yet");
    }

    #[tokio::test]
    async fn a_port_is_ready_if_something_listens_on_it_and_is_named_otherwise() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        connects(address).await.unwrap();
        drop(listener);
        let error = connects(address).await.unwrap_err().to_string();
        assert_eq!(error, format!("connecting to {address}"));
    }
}
