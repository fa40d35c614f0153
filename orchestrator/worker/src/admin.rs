//! The worker's admin API: health, metrics, the sandboxes and their output.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use model::SandboxId;
use serde::Serialize;
use service::{AdminServer, Route, invalid_field, problem};
use tokio::sync::{mpsc, oneshot};

use crate::{
    metrics::Metrics,
    owner::Input,
    runtime::{Output, Runtime},
    state::SandboxSummary,
};

/// Connections served at once; beyond them only health checks and metrics are served.
const MAX_CONNECTIONS: usize = 256;
/// Longest output in one response: that of some hundred sandboxes with the default of `process.log`.
const MAX_LOGS_BYTES: usize = 8 * 1024 * 1024;
/// Header with the bytes that a sandbox wrote before the output in the response.
const DROPPED_BYTES: &str = "x-dirigent-dropped-bytes";
/// The text format of Prometheus and OpenMetrics.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The sources of the API.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) has_leader: Arc<AtomicBool>,
}

fn routes() -> Vec<Route<Admin>> {
    vec![
        Route::get("/healthz", async || "ok\n"),
        Route::get("/readyz", ready),
        Route::get("/metrics", metrics),
        Route::get("/v1/sandboxes", sandboxes),
        Route::get("/v1/sandboxes/{id}/logs", logs),
        Route::get("/v1/logs", function_logs),
    ]
}

/// Methods and paths of the admin port, for the test that compares them with their documentation.
#[must_use]
pub fn http_routes() -> Vec<(&'static str, &'static str)> {
    Route::names(&routes())
}

/// The server of the API; `hosts` are the host names with a dot by which it may be called.
pub(crate) fn pages(admin: Admin, hosts: Vec<String>) -> AdminServer {
    let router = Route::router(routes()).with_state(admin);
    AdminServer { router, hosts, connections: MAX_CONNECTIONS }
}

async fn ready(State(admin): State<Admin>) -> Response {
    if admin.has_leader.load(Ordering::Relaxed) {
        "ok\n".into_response()
    } else {
        problem(StatusCode::SERVICE_UNAVAILABLE, "not connected to a control plane")
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match list_sandboxes(&admin).await {
        Some(held) => ([(CONTENT_TYPE, METRICS_TYPE)], admin.metrics.text(&held)).into_response(),
        None => shutting_down(),
    }
}

async fn sandboxes(State(admin): State<Admin>) -> Response {
    list_sandboxes(&admin).await.map_or_else(shutting_down, |held| Json(held).into_response())
}

async fn logs(State(admin): State<Admin>, Path(id): Path<String>) -> Response {
    let id: SandboxId = match id.parse() {
        Ok(id) => id,
        Err(error) => return invalid_field("id", &format!("id: {error}")),
    };
    match admin.runtime.output(id) {
        Some(output) => ([(DROPPED_BYTES, output.dropped_bytes)], output.text).into_response(),
        None => problem(StatusCode::NOT_FOUND, &format!("no output of sandbox {id} is kept here")),
    }
}

/// The sandboxes whose output is requested.
#[derive(Debug, PartialEq, Eq)]
struct LogQuery {
    function: String,
    sandbox: Option<SandboxId>,
}

impl LogQuery {
    /// Parses the parameters of a URL.
    ///
    /// # Errors
    /// The invalid parameter and the problem with it.
    fn read(mut parameters: BTreeMap<String, String>) -> Result<Self, (String, String)> {
        let function = parameters.remove("function").filter(|function| !function.is_empty()).ok_or_else(|| {
            let detail = "function: expected the name of a function, like /v1/logs?function=hello";
            ("function".to_owned(), detail.to_owned())
        })?;
        let sandbox = parameters.remove("sandbox").map(|id| id.parse()).transpose();
        let sandbox = sandbox.map_err(|error| ("sandbox".to_owned(), format!("sandbox: {error}")))?;
        match parameters.into_keys().next() {
            Some(other) => Err((other.clone(), format!("parameter {other:?}: expected function or sandbox"))),
            None => Ok(Self { function, sandbox }),
        }
    }
}

/// Output of the sandboxes of one function.
#[derive(Serialize)]
struct Logs {
    /// Ended sandboxes first, in the order of their ends.
    logs: Vec<Output>,
    /// Older sandboxes that are left out because of [`MAX_LOGS_BYTES`].
    omitted: usize,
}

async fn function_logs(State(admin): State<Admin>, Query(parameters): Query<BTreeMap<String, String>>) -> Response {
    let query = match LogQuery::read(parameters) {
        Ok(query) => query,
        Err((field, detail)) => return invalid_field(&field, &detail),
    };
    let mut logs = admin.runtime.outputs(&query.function);
    if let Some(only) = query.sandbox {
        logs.retain(|output| output.sandbox == only);
    }
    let mut bytes = 0;
    let mut fits = |output: &&Output| {
        bytes += output.text.len();
        bytes <= MAX_LOGS_BYTES
    };
    let omitted = logs.len() - logs.iter().rev().take_while(|output| fits(output)).count();
    logs.drain(..omitted);
    Json(Logs { logs, omitted }).into_response()
}

/// `None` when the worker shuts down.
async fn list_sandboxes(admin: &Admin) -> Option<Vec<SandboxSummary>> {
    let (reply, sandboxes) = oneshot::channel();
    admin.inputs.send(Input::ListSandboxes(reply)).await.ok()?;
    sandboxes.await.ok()
}

fn shutting_down() -> Response {
    problem(StatusCode::SERVICE_UNAVAILABLE, "the worker is shutting down")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_query_for_logs_is_refused_with_its_parameter() {
        let read = |parameters: &[(&str, &str)]| {
            LogQuery::read(parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        let expected = LogQuery { function: "f".to_owned(), sandbox: Some("1-2".parse().unwrap()) };
        assert_eq!(read(&[("function", "f"), ("sandbox", "1-2")]), Ok(expected));
        for (parameters, field, detail) in [
            (&[][..], "function", "expected the name of a function"),
            (&[("function", "")], "function", "expected the name of a function"),
            (&[("function", "f"), ("sandbox", "x")], "sandbox", "sandbox: "),
            (&[("function", "f"), ("since", "1")], "since", "parameter \"since\": expected function or sandbox"),
        ] {
            let (found, said) = read(parameters).unwrap_err();
            assert!(found == field && said.contains(detail), "{parameters:?}: {found}: {said}");
        }
    }
}
