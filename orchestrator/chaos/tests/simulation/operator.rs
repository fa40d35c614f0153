//! The operator of a run: registers the functions when the cluster is complete, and compares what the control plane
//! believes with what the workers have when nothing goes on any more; then deregisters everything and compares again.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use serde_json::Value;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};

use super::{
    cluster::{OPERATORS_PORT, WORKER_ADMIN_PORT},
    event::Event,
    host::Host,
    http::{HttpError, ask},
    ledger::Ledger,
    scenario::{DATA_PLANES, Scenario, WORKERS},
};

/// Longest wait for a page.
const PAGE_WITHIN: Duration = Duration::from_secs(2);
/// Time between two looks while waiting for a state.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Longest wait for what must come about soon.
const SOON: Duration = Duration::from_secs(5);

/// The operator could not do its work.
#[derive(Debug, Error)]
enum OperatorError {
    #[error("{0}: no answer in time")]
    Silent(String),
    #[error("{0}")]
    Page(String, #[source] HttpError),
    #[error("{0}: answered {1}: {2}")]
    Refused(String, u16, String),
    #[error("the cluster was not complete within {SOON:?}: {0}")]
    Incomplete(String),
}

/// Runs from the beginning to the end of the simulation.
pub(crate) async fn run(scenario: Arc<Scenario>, ledger: Ledger) -> turmoil::Result {
    wait_for_cluster().await?;
    for spec in &scenario.functions {
        let (path, body) = (format!("/v1/functions/{}", spec.name), serde_json::to_vec(spec)?);
        page(Host::ControlPlane, OPERATORS_PORT, "PUT", &path, body).await?;
        ledger.record(Event::Registered { function: spec.name.to_string() });
    }
    // Every invocation ends, if only by its client's time-out; the simulation ends a run in which one does not.
    while ledger.clients_done() < DATA_PLANES {
        sleep(LOOK_EVERY).await;
    }
    ledger.record(compare(&scenario, false).await?);
    for spec in &scenario.functions {
        page(Host::ControlPlane, OPERATORS_PORT, "DELETE", &format!("/v1/functions/{}", spec.name), Vec::new()).await?;
        ledger.record(Event::Deregistered { function: spec.name.to_string() });
    }
    ledger.record(compare(&scenario, true).await?);
    Ok(())
}

/// Waits until all parts have found the control plane.
async fn wait_for_cluster() -> Result<(), OperatorError> {
    let deadline = Instant::now() + SOON;
    loop {
        let status = get(Host::ControlPlane, OPERATORS_PORT, "/v1/status").await;
        let complete = status.as_ref().is_ok_and(|status| {
            status["workers"] == WORKERS && status["data_planes"].as_array().is_some_and(|all| all.len() == DATA_PLANES)
        });
        if complete {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(OperatorError::Incomplete(format!("{status:?}")));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What is believed and what exists, as soon as both are the same and, if `empty`, nothing; or else at the deadline.
async fn compare(scenario: &Scenario, empty: bool) -> Result<Event, OperatorError> {
    let deadline = Instant::now() + SOON;
    loop {
        let (believed, existing) = (believed(scenario).await?, existing().await?);
        if (believed == existing && (believed.is_empty() || !empty)) || Instant::now() >= deadline {
            return Ok(Event::Rest { believed, existing });
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn believed(scenario: &Scenario) -> Result<Vec<String>, OperatorError> {
    let mut sandboxes = Vec::new();
    for spec in &scenario.functions {
        let path = format!("/v1/functions/{}", spec.name);
        let function = match get(Host::ControlPlane, OPERATORS_PORT, &path).await {
            Err(OperatorError::Refused(_, 404, _)) => continue,
            function => function?,
        };
        for endpoint in function["endpoints"].as_array().into_iter().flatten() {
            let (sandbox, node, state) =
                (text(&endpoint["sandbox"]), text(&endpoint["node"]), text(&endpoint["state"]));
            sandboxes.push(format!("{node} {sandbox} {} {state}", spec.name));
        }
    }
    sandboxes.sort();
    Ok(sandboxes)
}

async fn existing() -> Result<Vec<String>, OperatorError> {
    let mut sandboxes = Vec::new();
    for worker in (1..=WORKERS).map(Host::Worker) {
        let held = get(worker, WORKER_ADMIN_PORT, "/v1/sandboxes").await?;
        for shown in held.as_array().into_iter().flatten() {
            let (sandbox, function, state) = (text(&shown["sandbox"]), text(&shown["function"]), text(&shown["state"]));
            sandboxes.push(format!("{worker}-{} {sandbox} {function} {state}", shown["node"]));
        }
    }
    sandboxes.sort();
    Ok(sandboxes)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

async fn get(host: Host, port: u16, path: &str) -> Result<Value, OperatorError> {
    let answer = page(host, port, "GET", path, Vec::new()).await?;
    Ok(serde_json::from_slice(answer.body()).unwrap_or_default())
}

/// A page that is there, or the result of a change that was accepted.
async fn page(
    host: Host,
    port: u16,
    method: &str,
    path: &str,
    body: Vec<u8>,
) -> Result<Response<Bytes>, OperatorError> {
    let what = format!("{method} http://{host}:{port}{path}");
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", host.name())
        .header("content-type", "application/json")
        .body(Bytes::from(body))
        .expect("paths of this file are valid in a request");
    match timeout(PAGE_WITHIN, ask(host, port, request)).await {
        Err(_elapsed) => Err(OperatorError::Silent(what)),
        Ok(Err(error)) => Err(OperatorError::Page(what, error)),
        Ok(Ok(answer)) if answer.status().is_success() => Ok(answer),
        Ok(Ok(answer)) => {
            let body = String::from_utf8_lossy(answer.body()).into_owned();
            Err(OperatorError::Refused(what, answer.status().as_u16(), body))
        }
    }
}
