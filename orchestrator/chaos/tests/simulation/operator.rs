//! The operator of a run: registers the functions when the cluster is complete, and compares the sandboxes that the
//! control plane knows with those of the workers after the load; then deregisters everything and compares again.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use serde_json::Value;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};

use super::{
    cluster::{OPERATORS_PORT, WORKER_ADMIN_PORT},
    event::Event,
    event_log::EventLog,
    host::Host,
    http::{HttpError, send_request},
    scenario::{DATA_PLANES, Scenario, WORKERS},
};

/// Longest wait for a response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two reads of a state.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Longest wait for a state.
const STATE_TIMEOUT: Duration = Duration::from_secs(5);

/// The operator could not do its work.
#[derive(Debug, Error)]
enum OperatorError {
    #[error("{0}: no response in time")]
    NoResponse(String),
    #[error("{0}")]
    Page(String, #[source] HttpError),
    #[error("{0}: status {1}: {2}")]
    Refused(String, u16, String),
    #[error("the cluster was not complete within {STATE_TIMEOUT:?}: {0}")]
    Incomplete(String),
}

/// Runs for the whole simulation.
pub(crate) async fn run(scenario: Arc<Scenario>, event_log: EventLog) -> turmoil::Result {
    wait_for_cluster().await?;
    for spec in &scenario.functions {
        let (path, body) = (format!("/v1/functions/{}", spec.name), serde_json::to_vec(spec)?);
        page(Host::ControlPlane, OPERATORS_PORT, "PUT", &path, body).await?;
        event_log.record(Event::Registered { function: spec.name.to_string() });
    }
    // Ends, because every invocation ends at its client's time-out at the latest.
    while event_log.clients_done() < DATA_PLANES {
        sleep(POLL_INTERVAL).await;
    }
    event_log.record(compare(&scenario, false).await?);
    for spec in &scenario.functions {
        page(Host::ControlPlane, OPERATORS_PORT, "DELETE", &format!("/v1/functions/{}", spec.name), Vec::new()).await?;
        event_log.record(Event::Deregistered { function: spec.name.to_string() });
    }
    event_log.record(compare(&scenario, true).await?);
    Ok(())
}

/// Waits until all components are connected to the control plane.
async fn wait_for_cluster() -> Result<(), OperatorError> {
    let deadline = Instant::now() + STATE_TIMEOUT;
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
        sleep(POLL_INTERVAL).await;
    }
}

/// The expected and the actual sandboxes, as soon as they are equal and, if `empty`, there are none; or else at the
/// deadline.
async fn compare(scenario: &Scenario, empty: bool) -> Result<Event, OperatorError> {
    let deadline = Instant::now() + STATE_TIMEOUT;
    loop {
        // The two are read one after the other, so a difference counts only if it lasts.
        let (expected, actual) = (expected(scenario).await?, actual().await?);
        if (expected == actual && (expected.is_empty() || !empty)) || Instant::now() >= deadline {
            return Ok(Event::Snapshot { expected, actual });
        }
        sleep(POLL_INTERVAL).await;
    }
}

async fn expected(scenario: &Scenario) -> Result<Vec<String>, OperatorError> {
    let mut sandboxes = Vec::new();
    for spec in &scenario.functions {
        let path = format!("/v1/functions/{}", spec.name);
        let function = match get(Host::ControlPlane, OPERATORS_PORT, &path).await {
            // It is deregistered by now.
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

async fn actual() -> Result<Vec<String>, OperatorError> {
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
    let response = page(host, port, "GET", path, Vec::new()).await?;
    Ok(serde_json::from_slice(response.body()).unwrap_or_default())
}

/// Sends a request, and expects a success.
async fn page(
    host: Host,
    port: u16,
    method: &str,
    path: &str,
    body: Vec<u8>,
) -> Result<Response<Bytes>, OperatorError> {
    let request_line = format!("{method} http://{host}:{port}{path}");
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", host.name())
        .header("content-type", "application/json")
        .body(Bytes::from(body))
        .expect("paths of this file are valid in a request");
    match timeout(REQUEST_TIMEOUT, send_request(host, port, request)).await {
        Err(_elapsed) => Err(OperatorError::NoResponse(request_line)),
        Ok(Err(error)) => Err(OperatorError::Page(request_line, error)),
        Ok(Ok(response)) if response.status().is_success() => Ok(response),
        Ok(Ok(response)) => {
            let body = String::from_utf8_lossy(response.body()).into_owned();
            Err(OperatorError::Refused(request_line, response.status().as_u16(), body))
        }
    }
}
