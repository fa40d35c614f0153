//! `/v1/top`: what the cluster is busy with.

use axum::{
    Json,
    extract::{RawQuery, State},
};

use super::{Operators, fields::Fields, problem::Problem};
use crate::state::{Request, TopView};

/// Default number of functions: a screenful.
const FUNCTIONS: usize = 30;
/// Most functions shown.
const MOST_FUNCTIONS: usize = 1000;

pub(super) async fn top(
    State(operators): State<Operators>,
    RawQuery(query): RawQuery,
) -> Result<Json<TopView>, Problem> {
    let limit = Fields::of_query(query.as_deref()).within("limit", 0..=MOST_FUNCTIONS)?;
    let limit = limit.unwrap_or(FUNCTIONS);
    Ok(Json(*operators.owner.request(|reply| Request::Top { limit, reply }).await?))
}
