//! `/v1/functions`: register, list, show, deregister.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use model::{FunctionName, FunctionSpec, Layout, LineReader, ReadError};
use serde::Serialize;

use super::{Operators, fields::Fields, problem::Problem};
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

/// One page of the list.
#[derive(Serialize)]
pub(super) struct FunctionPage {
    functions: Vec<FunctionView>,
    /// Give this as `after` for the next page; absent on the last.
    next: Option<String>,
}

pub(super) async fn list(
    State(operators): State<Operators>,
    RawQuery(query): RawQuery,
) -> Result<Json<FunctionPage>, Problem> {
    let fields = Fields::of_query(query.as_deref());
    let limit = fields.within("limit", 1..=LARGEST_PAGE)?.unwrap_or(PAGE);
    let after = fields.one("after").map(str::to_owned);
    let Answer::Functions(functions) = operators.owner.ask(Request::List { after, limit }).await? else {
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
    let spec = FunctionSpec::read(&body, Layout::Named(&name))?;
    check_policies(&spec)?;
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
    /// The field that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// The byte of the line, from 1, at which the mistake is.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
}

impl LineResult {
    fn done(line: usize, name: String, status: StatusCode) -> Self {
        Self { line, name: Some(name), status: status.as_u16(), error: None, field: None, column: None }
    }

    fn refused(line: usize, name: Option<String>, problem: Problem) -> Self {
        let (status, column) = (problem.status(), problem.column());
        let (error, field) = problem.into_detail();
        Self { line, name, status, error: Some(error), field, column }
    }
}

pub(super) async fn put_many(State(operators): State<Operators>, body: Bytes) -> Response {
    let lines = body.split(|byte| *byte == b'\n').zip(1..).filter(|(line, _)| !line.trim_ascii().is_empty());
    let lines: Vec<(Bytes, usize)> = lines.map(|(line, number)| (body.slice_ref(line), number)).collect();
    let mut reader = LineReader::default();
    let results = stream::iter(lines).map(|(line, number)| {
        let spec = reader.read(&line, number);
        put_line(operators.clone(), spec, number)
    });
    let results: Vec<LineResult> = results.buffered(BULK_CONCURRENCY).collect().await;
    let mut text = Vec::new();
    for result in results {
        text.extend(serde_json::to_vec(&result).unwrap_or_default());
        text.push(b'\n');
    }
    ([(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response()
}

async fn put_line(operators: Operators, spec: Result<FunctionSpec, ReadError>, line: usize) -> LineResult {
    let spec = match spec {
        Ok(spec) => spec,
        Err(error) => return LineResult::refused(line, None, error.into()),
    };
    let name = spec.name.to_string();
    let registered = match check_policies(&spec) {
        Ok(()) => register(&operators, spec, false).await,
        Err(problem) => Err(problem),
    };
    match registered {
        Ok(PutOutcome::Created) => LineResult::done(line, name, StatusCode::CREATED),
        Ok(_) => LineResult::done(line, name, StatusCode::OK),
        Err(problem) => LineResult::refused(line, Some(name), problem),
    }
}

/// Registers a checked function.
pub(super) async fn register(operators: &Operators, spec: FunctionSpec, only_new: bool) -> Result<PutOutcome, Problem> {
    match operators.owner.ask(Request::Put { spec: Box::new(spec), only_new }).await? {
        Answer::Put(outcome) => Ok(outcome),
        _ => Err(Problem::unexpected()),
    }
}

/// Checks the names of policies; everything else about a specification is checked where it is read.
pub(super) fn check_policies(spec: &FunctionSpec) -> Result<(), Problem> {
    check_policy("scale.policy", spec.scale.policy.as_deref(), Decides::Scale)?;
    check_policy("placement", spec.placement.as_deref(), Decides::Placement)?;
    check_policy("balance", spec.balance.as_deref(), Decides::Balance)
}

/// Checks that there is the policy that `field` names, if it does.
fn check_policy(field: &'static str, name: Option<&str>, decides: Decides) -> Result<(), Problem> {
    match name {
        Some(name) if !decides.has(name) => {
            Err(Problem::bad_field(field, format!("{field}: expected one of {}, got text {name:?}", decides.known())))
        }
        _ => Ok(()),
    }
}
