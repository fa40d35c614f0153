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

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post},
};
use service::{AdminServer, Listener};
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

fn router(operators: Operators) -> Router {
    Router::new()
        .route("/v1/functions", get(functions::list).post(bulk::put_many))
        .route("/v1/functions/{name}", get(functions::show).put(functions::put).delete(functions::delete))
        .route("/v1/nodes", get(nodes::list))
        .route("/v1/nodes/{name}", axum::routing::delete(nodes::remove))
        .route("/v1/nodes/{name}/drain", post(nodes::drain).delete(nodes::undrain))
        .route("/v1/status", get(pages::status))
        .route("/v1/top", get(top::top))
        .route("/", post(form::register))
        .route("/registerService", post(form::register))
        .route("/check", get(form::check))
        .route("/healthz", get(pages::healthz))
        .route("/readyz", get(pages::readyz))
        .route("/metrics", get(pages::metrics))
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
