//! `/v1/nodes`: list, drain, remove.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;

use super::{Operators, name::Name, problem::Problem};
use crate::state::{ChangeOutcome, NodeView, Request};

/// All nodes.
#[derive(Serialize)]
pub(super) struct NodeList {
    nodes: Vec<NodeView>,
}

pub(super) async fn list(State(operators): State<Operators>) -> Result<Json<NodeList>, Problem> {
    let nodes = operators.owner.request(|reply| Request::Nodes { reply }).await?;
    Ok(Json(NodeList { nodes }))
}

pub(super) async fn drain(State(operators): State<Operators>, Name(name): Name) -> Result<StatusCode, Problem> {
    let drain = |reply| Request::DrainNode { name: name.clone(), drained: true, reply };
    status(&name, operators.owner.request(drain).await?)
}

pub(super) async fn undrain(State(operators): State<Operators>, Name(name): Name) -> Result<StatusCode, Problem> {
    let undrain = |reply| Request::DrainNode { name: name.clone(), drained: false, reply };
    status(&name, operators.owner.request(undrain).await?)
}

pub(super) async fn remove(State(operators): State<Operators>, Name(name): Name) -> Result<StatusCode, Problem> {
    let remove = |reply| Request::RemoveNode { name: name.clone(), reply };
    status(&name, operators.owner.request(remove).await?)
}

fn status(name: &str, outcome: ChangeOutcome) -> Result<StatusCode, Problem> {
    match outcome {
        ChangeOutcome::Done => Ok(StatusCode::ACCEPTED),
        ChangeOutcome::NotFound => Err(Problem::no_node(name)),
        ChangeOutcome::Refused(reason) => Err(Problem::new(StatusCode::CONFLICT, reason)),
    }
}
