//! `/v1/functions`: register, list, show, deregister.

use axum::{
    Json,
    body::Bytes,
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use model::{FunctionName, FunctionSpec, Layout};
use serde::Serialize;

use super::{Operators, fields::Fields, name::Name, problem::Problem};
use crate::{
    policies::Decides,
    state::{ChangeOutcome, FunctionView, ImageRefused, PutOutcome, Registration, Request},
};

/// Default number of functions in one page.
const PAGE: usize = 100;
/// Most functions in one page.
const LARGEST_PAGE: usize = 10_000;

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
    let functions = operators.owner.request(|reply| Request::List { after, limit, reply }).await?;
    let last = functions.last().filter(|_| functions.len() == limit);
    let next = last.map(|function| function.spec.name.to_string());
    Ok(Json(FunctionPage { functions, next }))
}

pub(super) async fn show(State(operators): State<Operators>, Name(name): Name) -> Result<Json<FunctionView>, Problem> {
    let function = operators.owner.request(|reply| Request::Show { name: name.clone(), reply }).await?;
    function.map(|function| Json(*function)).ok_or_else(|| Problem::no_function(&name))
}

pub(super) async fn put(
    State(operators): State<Operators>,
    Name(name): Name,
    body: Bytes,
) -> Result<Response, Problem> {
    // Here, so that it has no place in a body that does not hold it.
    if let Err(error) = name.parse::<FunctionName>() {
        return Err(Problem::bad_field("name", format!("name: {error}, in the address")));
    }
    let spec = FunctionSpec::read(&body, Layout::Named(&name))?;
    check_policies(&spec)?;
    let registration = register(&operators, spec, None).await?;
    let registered = Registered { name, result: RegistrationResult::of(registration) };
    Ok((status(registration), Json(registered)).into_response())
}

/// A function that was registered.
#[derive(Serialize)]
struct Registered {
    name: String,
    #[serde(flatten)]
    result: RegistrationResult,
}

/// Result of a registration, as responses show it.
#[derive(Serialize)]
pub(super) struct RegistrationResult {
    result: &'static str,
    /// `false` where invocations may not find the function yet; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    known: Option<bool>,
}

impl RegistrationResult {
    pub(super) fn of(registration: Registration) -> Self {
        let result = match registration.outcome {
            PutOutcome::Created => "created",
            PutOutcome::Updated => "updated",
            PutOutcome::Unchanged | PutOutcome::Conflict => "unchanged",
        };
        Self { result, known: (!registration.is_known).then_some(false) }
    }
}

/// The status of a successful registration.
pub(super) fn status(registration: Registration) -> StatusCode {
    if registration.outcome == PutOutcome::Created { StatusCode::CREATED } else { StatusCode::OK }
}

pub(super) async fn delete(State(operators): State<Operators>, Name(name): Name) -> Result<StatusCode, Problem> {
    let name: FunctionName = name.parse().map_err(|_| Problem::no_function(&name))?;
    match operators.owner.request(|reply| Request::Delete { name: name.clone(), reply }).await? {
        ChangeOutcome::Done => Ok(StatusCode::ACCEPTED),
        ChangeOutcome::NotFound => Err(Problem::no_function(name.as_str())),
        ChangeOutcome::Refused(reason) => Err(Problem::new(StatusCode::CONFLICT, reason)),
    }
}

/// Registers a checked function, if given only over these specifications of that name.
pub(super) async fn register(
    operators: &Operators,
    spec: FunctionSpec,
    only_over: Option<Vec<FunctionSpec>>,
) -> Result<Registration, Problem> {
    let registered = operators.owner.request(|reply| Request::Put { spec: Box::new(spec), only_over, reply }).await?;
    registered.map_err(|ImageRefused(problem)| Problem::bad_field("image", problem))
}

/// Checks the names of policies; everything else about a specification is checked where it is read.
pub(super) fn check_policies(spec: &FunctionSpec) -> Result<(), Problem> {
    check_policy("scale.policy", spec.scale.policy.as_deref(), Decides::Scale)?;
    check_keep_alive(spec)?;
    check_policy("placement", spec.placement.as_deref(), Decides::Placement)?;
    check_policy("balance", spec.balance.as_deref(), Decides::Balance)
}

/// Checks that the policy of a specification uses its keep-alive, if it has one.
fn check_keep_alive(spec: &FunctionSpec) -> Result<(), Problem> {
    let named = spec.scale.policy.as_deref().and_then(policy::autoscale::find);
    match named.filter(|policy| spec.scale.keep_alive.is_some() && !policy.uses_keep_alive) {
        Some(policy) => {
            let detail = format!("scale.keep_alive: expected none with the policy {:?}, which ignores it", policy.name);
            Err(Problem::bad_field("scale.keep_alive", detail))
        }
        None => Ok(()),
    }
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
