//! `/v1/top`: what the cluster is busy with.

use axum::{
    Json,
    extract::{Query, State},
};
use serde::Deserialize;

use super::{Operators, problem::Problem};
use crate::state::{Answer, Request, TopView};

/// Functions shown unless asked otherwise: a screen of them.
const FUNCTIONS: usize = 30;
/// Most functions shown.
const MOST_FUNCTIONS: usize = 1000;

/// How many functions to show.
#[derive(Deserialize)]
pub(super) struct Limit {
    limit: Option<usize>,
}

pub(super) async fn top(
    State(operators): State<Operators>,
    Query(Limit { limit }): Query<Limit>,
) -> Result<Json<TopView>, Problem> {
    let limit = limit.unwrap_or(FUNCTIONS).min(MOST_FUNCTIONS);
    match operators.owner.ask(Request::Top { limit }).await? {
        Answer::Top(view) => Ok(Json(*view)),
        _ => Err(Problem::unexpected()),
    }
}
