//! The worker's own HTTP surface: health, metrics, what is held and what it wrote.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use api::{Pages, invalid_field, problem};
use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use model::SandboxId;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::{
    metrics::Metrics,
    owner::Input,
    runtime::{Output, Runtime},
    state::Shown,
};

/// Connections served at once; beyond them only health checks and metrics are answered.
const MAX_CONNECTIONS: usize = 256;
/// Longest output in one answer: some hundred sandboxes with as much as is kept of each by default.
const MAX_LOGS_BYTES: usize = 8 * 1024 * 1024;
/// Bytes that a sandbox wrote before its output begins.
const DROPPED_BYTES: &str = "x-dirigent-dropped-bytes";
/// The text format of Prometheus and OpenMetrics.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the pages show.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) commanded: Arc<AtomicBool>,
}

/// The pages; `hosts` are names with a dot by which they may be called.
pub(crate) fn pages(admin: Admin, hosts: Vec<String>) -> Pages {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/v1/sandboxes", get(sandboxes))
        .route("/v1/sandboxes/{id}/logs", get(logs))
        .route("/v1/logs", get(function_logs))
        .with_state(admin);
    Pages { router, hosts, connections: MAX_CONNECTIONS }
}

async fn ready(State(admin): State<Admin>) -> Response {
    if admin.commanded.load(Ordering::Relaxed) {
        "ok\n".into_response()
    } else {
        problem(StatusCode::SERVICE_UNAVAILABLE, "not connected to a control plane")
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match show(&admin).await {
        Some(held) => ([(CONTENT_TYPE, METRICS_TYPE)], admin.metrics.text(&held)).into_response(),
        None => ending(),
    }
}

async fn sandboxes(State(admin): State<Admin>) -> Response {
    show(&admin).await.map_or_else(ending, |held| Json(held).into_response())
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

/// Whose output to show.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    function: String,
    sandbox: Option<SandboxId>,
}

/// Output of the sandboxes of one function.
#[derive(Serialize)]
struct Logs {
    /// The ended ones first, in the order of their ends.
    logs: Vec<Output>,
    /// Older ones that are left out, because the answer would be too long.
    omitted: usize,
}

async fn function_logs(State(admin): State<Admin>, Query(asked): Query<Asked>) -> Json<Logs> {
    let mut logs = admin.runtime.outputs(&asked.function);
    if let Some(only) = asked.sandbox {
        logs.retain(|output| output.sandbox == only);
    }
    let mut bytes = 0;
    let mut fits = |output: &&Output| {
        bytes += output.text.len();
        bytes <= MAX_LOGS_BYTES
    };
    let omitted = logs.len() - logs.iter().rev().take_while(|output| fits(output)).count();
    logs.drain(..omitted);
    Json(Logs { logs, omitted })
}

/// What is held; `None` when the worker ends.
async fn show(admin: &Admin) -> Option<Vec<Shown>> {
    let (reply, answer) = oneshot::channel();
    admin.inputs.send(Input::Show(reply)).await.ok()?;
    answer.await.ok()
}

fn ending() -> Response {
    problem(StatusCode::SERVICE_UNAVAILABLE, "the worker is shutting down")
}
