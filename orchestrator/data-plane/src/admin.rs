//! The admin port: health, readiness, metrics, and the state of each function.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde::Serialize;
use service::{AdminServer, Listener, Route};
use tokio_util::sync::CancellationToken;

mod scrape;

use crate::plane::Plane;
use scrape::Scrape;

/// Concurrent connections; beyond them only health checks and metrics are served.
const MAX_CONNECTIONS: usize = 256;

/// State of one function in `/v1/functions`.
#[derive(Debug, Serialize)]
struct FunctionView {
    name: String,
    function: u64,
    granted_slots: u32,
    /// Sandboxes with granted slots.
    sandboxes: usize,
    /// Free slots.
    free: u64,
    waiting: u32,
    running: u32,
}

struct Admin {
    plane: Arc<Plane>,
    registry: Registry,
}

fn routes() -> Vec<Route<Arc<Admin>>> {
    vec![
        Route::get("/healthz", async || "ok\n"),
        Route::get("/readyz", ready),
        Route::get("/metrics", metrics),
        Route::get("/v1/functions", functions),
    ]
}

/// Methods and paths of the admin port, for the test that compares them with their documentation.
#[must_use]
pub fn http_routes() -> Vec<(&'static str, &'static str)> {
    Route::names(&routes())
}

/// Serves the admin port until `shutdown`.
pub(crate) async fn run(plane: Arc<Plane>, listener: Box<dyn Listener>, shutdown: CancellationToken) {
    let hosts = plane.config.hosts.clone();
    let mut registry = Registry::with_prefix("dirigent_data_plane");
    registry.register_collector(Box::new(Scrape::new(plane.clone())));
    let router = Route::router(routes()).with_state(Arc::new(Admin { plane, registry }));
    AdminServer { router, hosts, connections: MAX_CONNECTIONS }.serve(listener, shutdown).await;
}

async fn ready(State(admin): State<Arc<Admin>>) -> (StatusCode, &'static str) {
    match (admin.plane.is_ready(), admin.plane.is_stopping()) {
        (true, false) => (StatusCode::OK, "ready\n"),
        (_, true) => (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "no snapshot from a control plane yet\n"),
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    let mut text = String::new();
    match encode(&mut text, &admin.registry) {
        Ok(()) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], text)
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], error.to_string()),
    }
}

async fn functions(State(admin): State<Arc<Admin>>) -> Json<Vec<FunctionView>> {
    let view = |function: Arc<crate::function::Function>| {
        function.view(|state| {
            let (sandboxes, free) = state.supply();
            FunctionView {
                name: function.name().to_string(),
                function: function.id().0,
                granted_slots: state.held_slots(),
                sandboxes,
                free,
                waiting: state.waiting(),
                running: state.running(),
            }
        })
    };
    Json(admin.plane.functions.all().into_iter().map(view).collect())
}
