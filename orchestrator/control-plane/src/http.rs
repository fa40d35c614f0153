//! The HTTP interface for operators, health checks and metrics.

mod form;
mod functions;
mod nodes;
mod pages;
mod problem;
mod top;

use std::sync::Arc;

use api::Listener;
use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::owner::OwnerHandle;

/// Largest request: a bulk registration of 100,000 functions.
const MOST_BODY_BYTES: usize = 128 * 1024 * 1024;
/// Connections served at once; more wait to be accepted.
const MOST_CONNECTIONS: usize = 4096;

/// What the handlers need.
#[derive(Clone)]
pub(crate) struct Operators {
    pub(crate) owner: OwnerHandle,
    /// Addresses told to clients of the form interface instead of the data planes' own.
    pub(crate) invoke_addresses: Arc<[String]>,
}

fn router(operators: Operators) -> Router {
    Router::new()
        .route("/v1/functions", get(functions::list).post(functions::put_many))
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
        .layer(DefaultBodyLimit::max(MOST_BODY_BYTES))
        .with_state(operators)
}

/// Serves `listener` until `shutdown`; connections then finish the request they are in.
pub(crate) async fn serve(listener: Box<dyn Listener>, operators: Operators, shutdown: CancellationToken) {
    let router = router(operators);
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let place = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            place = places.clone().acquire_owned() => place,
        };
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (Ok(place), Ok(accepted)) = (place, accepted) else { continue };
        let (router, shutdown) = (router.clone(), shutdown.clone());
        connections.spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new());
            let service = TowerToHyperService::new(router);
            let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(accepted.io), service));
            // A broken connection is its client's affair.
            tokio::select! {
                biased;
                ended = connection.as_mut() => drop(ended),
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    drop(connection.await);
                }
            }
            drop(place);
        });
    }
    connections.close();
    connections.wait().await;
}
