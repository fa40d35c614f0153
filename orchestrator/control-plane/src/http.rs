//! The HTTP interface for operators, health checks and metrics.

mod access;
mod bulk;
mod difference;
mod fields;
mod form;
mod functions;
mod name;
mod nodes;
mod pages;
mod problem;
mod query;
mod top;

use std::sync::Arc;

use axum::{Router, extract::DefaultBodyLimit, middleware};
use service::{AdminServer, Listener, Route};
use tokio_util::sync::CancellationToken;

pub(crate) use self::access::Access;
use crate::owner::OwnerHandle;

/// Largest body of a request: a specification has 64 KiB. A bulk registration is read line by line and has bounds of its
/// own.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Concurrent connections; beyond them only health checks and metrics are served.
const MAX_CONNECTIONS: usize = 4096;

/// Shared by all handlers.
#[derive(Clone)]
pub(crate) struct Operators {
    pub(crate) owner: OwnerHandle,
    /// Addresses that clients of the form interface get instead of the data planes' own.
    pub(crate) invoke_addresses: Arc<[String]>,
    pub(crate) access: Arc<Access>,
}

fn routes() -> Vec<Route<Operators>> {
    vec![
        Route::get("/v1/functions", functions::list),
        Route::post("/v1/functions", bulk::put_many),
        Route::get("/v1/functions/{name}", functions::show),
        Route::put("/v1/functions/{name}", functions::put),
        Route::delete("/v1/functions/{name}", functions::delete),
        Route::get("/v1/nodes", nodes::list),
        Route::delete("/v1/nodes/{name}", nodes::remove),
        Route::post("/v1/nodes/{name}/drain", nodes::drain),
        Route::delete("/v1/nodes/{name}/drain", nodes::undrain),
        Route::get("/v1/status", pages::status),
        Route::get("/v1/top", top::top),
        Route::post("/", form::register),
        Route::post("/registerService", form::register),
        Route::get("/check", form::check),
        Route::get("/healthz", pages::healthz),
        Route::get("/readyz", pages::readyz),
        Route::get("/metrics", pages::metrics),
    ]
}

/// Methods and paths of the control plane's HTTP API, for the test that compares them with its documentation.
#[must_use]
pub fn http_routes() -> Vec<(&'static str, &'static str)> {
    Route::names(&routes())
}

fn router(operators: Operators) -> Router {
    Route::router(routes())
        .fallback(problem::no_such_page)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(query::check))
        .layer(middleware::from_fn_with_state(Arc::clone(&operators.access), access::check))
        .with_state(operators)
}

/// Serves `listener` until `shutdown`; connections then finish the request they are in.
pub(crate) async fn serve(listener: Box<dyn Listener>, operators: Operators, shutdown: CancellationToken) {
    let hosts = operators.access.hosts.clone();
    let pages = AdminServer { router: router(operators), hosts, connections: MAX_CONNECTIONS };
    pages.serve(listener, shutdown).await;
}
