//! Status, health and metrics.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{Operators, problem::Problem};
use crate::state::{ClusterView, Request};

async fn cluster(operators: &Operators) -> Result<Box<ClusterView>, Problem> {
    Ok(operators.owner.request(|reply| Request::Status { reply }).await?)
}

async fn is_recovered(operators: &Operators) -> Result<bool, Problem> {
    Ok(operators.owner.request(|reply| Request::Recovered { reply }).await?)
}

pub(super) async fn status(State(operators): State<Operators>) -> Result<Json<ClusterView>, Problem> {
    Ok(Json(*cluster(&operators).await?))
}

/// 200 while the state's owner responds.
pub(super) async fn healthz(State(operators): State<Operators>) -> Result<&'static str, Problem> {
    is_recovered(&operators).await.map(|_| "ok\n")
}

/// 200 once the state has been rebuilt after a start.
pub(super) async fn readyz(State(operators): State<Operators>) -> Result<&'static str, Problem> {
    if is_recovered(&operators).await? {
        return Ok("ok\n");
    }
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "waiting for workers and data planes to report"))
}

pub(super) async fn metrics(State(operators): State<Operators>) -> Result<Response, Problem> {
    let cluster = cluster(&operators).await?;
    let metrics = &operators.owner.metrics;
    metrics.set_gauges(&cluster);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &metrics.registry)
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be encoded"))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
