//! `/v1/nodes`: list, drain, remove.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;

use super::{Operators, name::Name, problem::Problem};
use crate::state::{Answer, NodeView, Request};

/// All nodes.
#[derive(Serialize)]
pub(super) struct NodeList {
    nodes: Vec<NodeView>,
}

pub(super) async fn list(State(operators): State<Operators>) -> Result<Json<NodeList>, Problem> {
    match operators.owner.ask(Request::Nodes).await? {
        Answer::Nodes(nodes) => Ok(Json(NodeList { nodes })),
        _ => Err(Problem::unexpected()),
    }
}

pub(super) async fn drain(State(operators): State<Operators>, Name(name): Name) -> Result<StatusCode, Problem> {
    change(&operators, &name, Request::DrainNode { name: name.clone(), drained: true }).await
}

pub(super) async fn undrain(State(operators): State<Operators>, Name(name): Name) -> Result<StatusCode, Problem> {
    change(&operators, &name, Request::DrainNode { name: name.clone(), drained: false }).await
}

pub(super) async fn remove(State(operators): State<Operators>, Name(name): Name) -> Result<StatusCode, Problem> {
    change(&operators, &name, Request::RemoveNode { name: name.clone() }).await
}

async fn change(operators: &Operators, name: &str, request: Request) -> Result<StatusCode, Problem> {
    match operators.owner.ask(request).await? {
        Answer::Done => Ok(StatusCode::ACCEPTED),
        Answer::NotFound => Err(Problem::no_node(name)),
        Answer::Refused(reason) => Err(Problem::new(StatusCode::CONFLICT, reason)),
        _ => Err(Problem::unexpected()),
    }
}
