//! `/v1/functions`: register, list, show, deregister.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use model::{FunctionName, FunctionSpec};
use serde::{Deserialize, Serialize};

use super::{Operators, problem::Problem};
use crate::{
    policies::Decides,
    state::{Answer, FunctionView, PutOutcome, Request},
};

/// Functions in one page unless asked otherwise.
const PAGE: usize = 100;
/// Most functions in one page.
const LARGEST_PAGE: usize = 10_000;
/// Registrations of one bulk request under way at once: enough to fill every group commit.
const BULK_CONCURRENCY: usize = 1024;

/// Which page of the list.
#[derive(Deserialize)]
pub(super) struct Page {
    after: Option<String>,
    limit: Option<usize>,
}

/// One page of the list.
#[derive(Serialize)]
pub(super) struct FunctionPage {
    functions: Vec<FunctionView>,
    /// Give this as `after` for the next page; absent on the last.
    next: Option<String>,
}

pub(super) async fn list(
    State(operators): State<Operators>,
    Query(page): Query<Page>,
) -> Result<Json<FunctionPage>, Problem> {
    let limit = page.limit.unwrap_or(PAGE).clamp(1, LARGEST_PAGE);
    let Answer::Functions(functions) = operators.owner.ask(Request::List { after: page.after, limit }).await? else {
        return Err(Problem::unexpected());
    };
    let last = functions.last().filter(|_| functions.len() == limit);
    let next = last.map(|function| function.spec.name.to_string());
    Ok(Json(FunctionPage { functions, next }))
}

pub(super) async fn show(
    State(operators): State<Operators>,
    Path(name): Path<String>,
) -> Result<Json<FunctionView>, Problem> {
    match operators.owner.ask(Request::Show { name: name.clone() }).await? {
        Answer::Function(function) => Ok(Json(*function)),
        Answer::NotFound => Err(Problem::no_function(&name)),
        _ => Err(Problem::unexpected()),
    }
}

pub(super) async fn put(
    State(operators): State<Operators>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let spec = parse(&body, Some(&name))?;
    let outcome = register(&operators, spec, false).await?;
    let status = if outcome == PutOutcome::Created { StatusCode::CREATED } else { StatusCode::OK };
    let result = match outcome {
        PutOutcome::Created => "created",
        PutOutcome::Updated => "updated",
        PutOutcome::Unchanged | PutOutcome::Conflict => "unchanged",
    };
    Ok((status, Json(serde_json::json!({ "name": name, "result": result }))).into_response())
}

pub(super) async fn delete(
    State(operators): State<Operators>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    let name: FunctionName = name.parse().map_err(|_| Problem::no_function(&name))?;
    match operators.owner.ask(Request::Delete { name: name.clone() }).await? {
        Answer::Done => Ok(StatusCode::ACCEPTED),
        Answer::NotFound => Err(Problem::no_function(name.as_str())),
        _ => Err(Problem::unexpected()),
    }
}

/// One line of a bulk registration's answer, in the order of the request's lines.
#[derive(Serialize)]
struct LineResult {
    line: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) async fn put_many(State(operators): State<Operators>, body: Bytes) -> Response {
    let lines = body.split(|byte| *byte == b'\n').zip(1..).filter(|(line, _)| !line.trim_ascii().is_empty());
    let lines: Vec<(Bytes, usize)> = lines.map(|(line, number)| (body.slice_ref(line), number)).collect();
    let results = stream::iter(lines).map(|(line, number)| put_line(operators.clone(), line, number));
    let results: Vec<LineResult> = results.buffered(BULK_CONCURRENCY).collect().await;
    let mut text = Vec::new();
    for result in results {
        text.extend(serde_json::to_vec(&result).unwrap_or_default());
        text.push(b'\n');
    }
    ([(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response()
}

async fn put_line(operators: Operators, text: Bytes, line: usize) -> LineResult {
    let spec = match parse(&text, None) {
        Ok(spec) => spec,
        Err(problem) => {
            let error = Some(problem.detail().to_owned());
            return LineResult { line, name: None, status: problem.status(), error };
        }
    };
    let name = Some(spec.name.to_string());
    match register(&operators, spec, false).await {
        Ok(PutOutcome::Created) => LineResult { line, name, status: StatusCode::CREATED.as_u16(), error: None },
        Ok(_) => LineResult { line, name, status: StatusCode::OK.as_u16(), error: None },
        Err(problem) => LineResult { line, name, status: problem.status(), error: Some(problem.detail().to_owned()) },
    }
}

/// Registers a checked function.
pub(super) async fn register(operators: &Operators, spec: FunctionSpec, only_new: bool) -> Result<PutOutcome, Problem> {
    match operators.owner.ask(Request::Put { spec: Box::new(spec), only_new }).await? {
        Answer::Put(outcome) => Ok(outcome),
        _ => Err(Problem::unexpected()),
    }
}

/// Reads and checks a specification; the name may be left out of the body when the path has it.
fn parse(body: &[u8], path_name: Option<&str>) -> Result<FunctionSpec, Problem> {
    let mut document: serde_json::Value = serde_json::from_slice(body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("body: {error}")))?;
    if let (Some(name), Some(fields)) = (path_name, document.as_object_mut()) {
        let in_body = fields.entry("name").or_insert_with(|| name.into());
        if in_body.as_str() != Some(name) {
            return Err(Problem::bad_field("name", format!("the path says {name:?}, the body says {in_body}")));
        }
    }
    let spec: FunctionSpec =
        serde_json::from_value(document).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    check(&spec)?;
    Ok(spec)
}

/// Checks bounds and policy names.
pub(super) fn check(spec: &FunctionSpec) -> Result<(), Problem> {
    spec.check().map_err(|error| Problem::bad_field(error.field, error.to_string()))?;
    check_policy("scale.policy", spec.scale.policy.as_deref(), Decides::Scale)?;
    check_policy("placement", spec.placement.as_deref(), Decides::Placement)?;
    check_policy("balance", spec.balance.as_deref(), Decides::Balance)
}

/// Checks that there is the policy that `field` names, if it does.
fn check_policy(field: &'static str, name: Option<&str>, decides: Decides) -> Result<(), Problem> {
    match name {
        Some(name) if !decides.has(name) => {
            Err(Problem::bad_field(field, format!("{field} is {name:?}; there are {}", decides.known())))
        }
        _ => Ok(()),
    }
}
