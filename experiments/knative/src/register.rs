//! Functions at a running testbed: registered several at a time with progress, waited for, and removed again; only what
//! the testbed registered itself is ever removed.

use std::{collections::HashMap, path::Path, time::Duration};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams},
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    api,
    objects::functions::{self, MANAGED_BY, NAMESPACE},
    quiet,
};

/// Registrations under way at once: more only wait in the controller's own limit.
const PARALLEL: usize = 16;
/// Time for a service to be ready once all are written: the controller's rate limit lets about two a second through.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// Further time per function.
const READY_TIMEOUT_PER_FUNCTION: Duration = Duration::from_secs(2);
/// Time between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Interval of progress messages.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

fn services(client: &Client) -> Api<DynamicObject> {
    let resource = api::resource("serving.knative.dev", "v1", "Service");
    Api::namespaced_with(client.clone(), NAMESPACE, &resource)
}

/// Only what was registered here.
fn own() -> ListParams {
    ListParams::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1))
}

/// Registers every function of a file that is not registered as it stands there, waits until each is ready and nothing is
/// left to do; how many there are.
///
/// # Errors
/// If a line is wrong, the API server goes on refusing one, some are not ready in time, or the cluster does not become
/// quiet.
pub async fn register(client: &Client, path: &Path) -> anyhow::Result<usize> {
    let wanted: Vec<Value> = functions::read(path)?.iter().map(functions::service).collect();
    let began = Instant::now();
    let services = services(client);
    let listed = services.list(&own()).await.context("listing functions")?;
    let there: HashMap<&str, &DynamicObject> =
        listed.iter().filter_map(|one| Some((one.metadata.name.as_deref()?, one))).collect();
    let stands = |service: &&Value| {
        let known = service["metadata"]["name"].as_str().and_then(|name| there.get(name));
        known.is_some_and(|known| contains(&known.data["spec"], &service["spec"]))
    };
    let missing: Vec<&Value> = wanted.iter().filter(|service| !stands(service)).collect();
    let each = |service: &Value| {
        let service = service.clone();
        async move { api::apply(client, &service).await }
    };
    stream::iter(missing.iter().copied().map(each)).buffer_unordered(PARALLEL).try_collect::<Vec<()>>().await?;
    terminal::note!("{} of {} functions written after {} s", missing.len(), wanted.len(), began.elapsed().as_secs());
    let names: Vec<&str> = wanted.iter().filter_map(|service| service["metadata"]["name"].as_str()).collect();
    wait_ready(&services, &names, began).await?;
    quiet::wait(client).await?;
    Ok(wanted.len())
}

async fn wait_ready(services: &Api<DynamicObject>, names: &[&str], began: Instant) -> anyhow::Result<()> {
    let within = READY_TIMEOUT + READY_TIMEOUT_PER_FUNCTION * u32::try_from(names.len()).unwrap_or(u32::MAX);
    let mut said = Instant::now();
    loop {
        let listed = services.list(&own()).await.context("listing functions")?;
        let ready: HashMap<&str, bool> =
            listed.iter().filter_map(|one| Some((one.metadata.name.as_deref()?, is_ready(one)))).collect();
        let waiting: Vec<&str> = names.iter().copied().filter(|name| ready.get(name) != Some(&true)).collect();
        let done = names.len() - waiting.len();
        let Some(first) = waiting.first() else {
            terminal::note!("{done} functions ready after {} s", began.elapsed().as_secs());
            return Ok(());
        };
        if began.elapsed() >= within {
            bail!("{done} of {} functions are ready after {} s; {first} is not", names.len(), within.as_secs());
        }
        if said.elapsed() >= PROGRESS_INTERVAL {
            said = Instant::now();
            terminal::note!("{done} of {} functions ready", names.len());
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Returns true if `actual` has everything that `wanted` has; it may have more, which are defaults.
fn contains(actual: &Value, wanted: &Value) -> bool {
    match (actual, wanted) {
        (Value::Object(actual), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| actual.get(key).is_some_and(|actual| contains(actual, wanted)))
        }
        (Value::Array(actual), Value::Array(wanted)) => {
            actual.len() == wanted.len() && actual.iter().zip(wanted).all(|(actual, wanted)| contains(actual, wanted))
        }
        _ => actual == wanted,
    }
}

/// Names of all functions that were registered here.
///
/// # Errors
/// If the API server refuses.
pub async fn names(client: &Client) -> anyhow::Result<Vec<String>> {
    let listed = services(client).list(&own()).await.context("listing functions")?;
    Ok(listed.into_iter().filter_map(|service| service.metadata.name).collect())
}

/// Removes every function that was registered here; how many there were.
///
/// # Errors
/// If the API server refuses.
pub async fn remove(client: &Client) -> anyhow::Result<usize> {
    let services = services(client);
    let listed = services.list(&own()).await.context("listing functions")?;
    for service in &listed {
        api::remove(&services, service.metadata.name.as_deref().unwrap_or_default()).await?;
    }
    Ok(listed.items.len())
}

fn is_ready(service: &DynamicObject) -> bool {
    let conditions = service.data.pointer("/status/conditions").and_then(serde_json::Value::as_array);
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    use http::{Method, Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn only_what_was_registered_here_is_asked_for_and_removed() {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        let server = tower::service_fn(move |request: Request<Body>| {
            kept.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
            let service = json!({ "metadata": { "name": "f" } });
            let answer = match *request.method() {
                Method::GET => json!({ "metadata": {}, "items": [service] }),
                _ => service,
            };
            async move { Ok::<_, Infallible>(Response::new(Body::from(answer.to_string().into_bytes()))) }
        });
        assert_eq!(remove(&Client::new(server, NAMESPACE)).await.unwrap(), 1);
        let requests = requests.lock().unwrap();
        let services = format!("/apis/serving.knative.dev/v1/namespaces/{NAMESPACE}/services");
        assert!(requests[0].starts_with(&format!("GET {services}?")), "{requests:?}");
        assert!(
            requests[0].contains("labelSelector=app.kubernetes.io%2Fmanaged-by%3Ddirigent-testbed"),
            "{requests:?}"
        );
        assert!(requests[1].starts_with(&format!("DELETE {services}/f")), "{requests:?}");
        assert_eq!(requests.len(), 2);
    }

    #[test]
    fn a_function_is_ready_by_that_condition_alone() {
        let ready = |status: Value| {
            let service = json!({ "metadata": { "name": "f" }, "status": status });
            is_ready(&serde_json::from_value(service).unwrap())
        };
        let condition = |kind: &str, status: &str| json!({ "type": kind, "status": status });
        assert!(ready(json!({ "conditions": [condition("RoutesReady", "False"), condition("Ready", "True")] })));
        assert!(!ready(json!({ "conditions": [condition("RoutesReady", "True"), condition("Ready", "Unknown")] })));
        assert!(!ready(json!({ "conditions": [] })) && !ready(json!({})), "the controller has not seen it yet");
    }

    #[test]
    fn what_stands_with_defaults_is_not_written_again() {
        let wanted = json!({ "a": { "b": 1, "list": [{ "x": 1 }] } });
        assert!(contains(&json!({ "a": { "b": 1, "c": 2, "list": [{ "x": 1, "y": 2 }] }, "d": 3 }), &wanted));
        let others = [
            json!({ "a": { "b": 2, "list": [{ "x": 1 }] } }),
            json!({ "a": { "list": [{ "x": 1 }] } }),
            json!({ "a": { "b": 1, "list": [{ "x": 1 }, {}] } }),
            Value::Null,
        ];
        for other in others {
            assert!(!contains(&other, &wanted), "{other}");
        }
    }
}
