//! The worker's own HTTP surface: health, metrics, what is held and what it wrote.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
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
use serde::Serialize;
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
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    function: String,
    sandbox: Option<SandboxId>,
}

impl Asked {
    /// What the parameters of a query ask for, or the wrong one with what is wrong.
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
    /// The ended ones first, in the order of their ends.
    logs: Vec<Output>,
    /// Older ones that are left out, because the answer would be too long.
    omitted: usize,
}

async fn function_logs(State(admin): State<Admin>, Query(parameters): Query<BTreeMap<String, String>>) -> Response {
    let asked = match Asked::read(parameters) {
        Ok(asked) => asked,
        Err((field, detail)) => return invalid_field(&field, &detail),
    };
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
    Json(Logs { logs, omitted }).into_response()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_logs_are_asked_for_wrongly_is_told_with_the_parameter() {
        let read = |parameters: &[(&str, &str)]| {
            Asked::read(parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        let expected = Asked { function: "f".to_owned(), sandbox: Some("1-2".parse().unwrap()) };
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
