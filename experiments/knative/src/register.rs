//! Functions at a running testbed: registered several at a time with progress, waited for, and removed again; only what
//! the testbed registered itself is ever removed.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams},
};
use tokio::time::{Instant, sleep};

use crate::{
    api,
    objects::functions::{self, Function, MANAGED_BY, NAMESPACE},
};

/// Registrations under way at once: more only wait in the controller's own limit.
const PARALLEL: usize = 16;
/// How long a service may take to be ready once all are written: the controller's limit lets about two a second through.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// What each further function adds to that.
const READY_WITHIN_EACH: Duration = Duration::from_secs(2);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// A window in which writes are counted.
const CALM_WINDOW: Duration = Duration::from_secs(5);
/// Most writes in a window of a cluster that only renews its leases, some five a second.
const CALM_WRITES: u64 = 50;
/// So many calm windows in a row: by then the largest of the limits' bursts, 100 tokens at 50 a second, is back too.
const CALM_WINDOWS: u32 = 2;
/// How long a cluster may take to be quiet.
const QUIET_WITHIN: Duration = Duration::from_secs(120);
/// How often progress is said.
const SAY: Duration = Duration::from_secs(10);

fn services(client: &Client) -> Api<DynamicObject> {
    let resource = api::resource("serving.knative.dev", "v1", "Service");
    Api::namespaced_with(client.clone(), NAMESPACE, &resource)
}

/// Only what was registered here.
fn own() -> ListParams {
    ListParams::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1))
}

/// Registers every function of a file and waits until each is ready; how many there are.
///
/// # Errors
/// When a line is wrong, the API server goes on refusing one, or some are not ready in time.
pub async fn register(client: &Client, path: &Path) -> anyhow::Result<usize> {
    let wanted = functions::read(path)?;
    let began = Instant::now();
    let each = |function: Function| async move {
        api::apply(client, &functions::service(&function)).await.with_context(|| format!("function {}", function.name))
    };
    stream::iter(wanted.clone()).map(each).buffer_unordered(PARALLEL).try_collect::<Vec<()>>().await?;
    eprintln!("{} functions written after {} s", wanted.len(), began.elapsed().as_secs());
    let services = services(client);
    let within = READY_WITHIN + READY_WITHIN_EACH * u32::try_from(wanted.len()).unwrap_or(u32::MAX);
    let mut said = Instant::now();
    loop {
        let ready =
            services.list(&own()).await.context("listing functions")?.iter().filter(|one| is_ready(one)).count();
        if ready >= wanted.len() {
            eprintln!("{ready} functions ready after {} s", began.elapsed().as_secs());
            quiet(client).await?;
            return Ok(ready);
        }
        if began.elapsed() >= within {
            bail!("{ready} of {} functions are ready after {} s", wanted.len(), within.as_secs());
        }
        if said.elapsed() >= SAY {
            said = Instant::now();
            eprintln!("{ready} of {} functions ready", wanted.len());
        }
        sleep(LOOK).await;
    }
}

/// Waits until the cluster has nothing left to do: that functions are ready does not mean that its controllers have
/// caught up, or that the tokens of their limits are back.
///
/// # Errors
/// When it does not become quiet in time.
async fn quiet(client: &Client) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut before = revision(client).await?;
    let mut calm = 0;
    while calm < CALM_WINDOWS {
        if began.elapsed() >= QUIET_WITHIN {
            bail!("the cluster is not quiet {} s after its functions were ready", QUIET_WITHIN.as_secs());
        }
        sleep(CALM_WINDOW).await;
        let now = revision(client).await?;
        calm = if now.saturating_sub(before) <= CALM_WRITES { calm + 1 } else { 0 };
        before = now;
    }
    eprintln!("quiet after {} s more", began.elapsed().as_secs());
    Ok(())
}

/// The store's revision: each write adds one.
async fn revision(client: &Client) -> anyhow::Result<u64> {
    let nodes: Api<Node> = Api::all(client.clone());
    let listed = nodes.list(&ListParams::default().limit(1)).await.context("asking for the store's revision")?;
    listed.metadata.resource_version.unwrap_or_default().parse().context("a resource version is a number")
}

/// Removes every function that was registered here; how many there were.
///
/// # Errors
/// When the API server refuses.
pub async fn remove(client: &Client) -> anyhow::Result<usize> {
    let services = services(client);
    let listed = services.list(&own()).await.context("listing functions")?;
    for service in &listed {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        match services.delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other.with_context(|| format!("removing {name}"))?),
        }
    }
    Ok(listed.items.len())
}

fn is_ready(service: &DynamicObject) -> bool {
    let conditions = service.data.pointer("/status/conditions").and_then(serde_json::Value::as_array);
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}
