//! The worker's own HTTP surface: health, metrics, what is held and what it wrote.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use api::{Pages, invalid_field, problem};
use axum::{
    Json, Router,
    extract::{Path, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use model::SandboxId;
use tokio::sync::{mpsc, oneshot};

use crate::{metrics::Metrics, owner::Input, runtime::Runtime, state::Shown};

/// Connections served at once; beyond them only health checks and metrics are answered.
const MAX_CONNECTIONS: usize = 256;
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
    match admin.runtime.logs(id) {
        Some(text) => text.into_response(),
        None => problem(StatusCode::NOT_FOUND, &format!("no output of sandbox {id} is kept here")),
    }
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
