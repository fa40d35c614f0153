//! The published system's registration form, so that existing load generators work unchanged.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{Query, State},
    http::StatusCode,
};
use model::{FunctionSpec, Protocol};
use serde::Deserialize;

use super::{Operators, difference::differences, functions, problem::Problem};
use crate::state::{Answer, PutOutcome, Request};

/// Windows that `cold_start_sweep=true` stands for.
const SWEEP_STABLE_WINDOW: Duration = Duration::from_secs(6);
const SWEEP_PANIC_WINDOW: Duration = Duration::from_secs(2);

/// Registers one function; answers with the addresses that take invocations, separated by `;`.
pub(super) async fn register(State(operators): State<Operators>, body: Bytes) -> Result<String, Problem> {
    let spec = read(&body)?;
    functions::check(&spec)?;
    if functions::register(&operators, spec.clone(), true).await? == PutOutcome::Conflict {
        return Err(conflict(&operators, &spec).await?);
    }
    if !operators.invoke_addresses.is_empty() {
        return Ok(operators.invoke_addresses.join(";"));
    }
    match operators.owner.ask(Request::Status).await? {
        Answer::Cluster(cluster) => Ok(cluster.data_planes.join(";")),
        _ => Err(Problem::unexpected()),
    }
}

/// Says in which fields a function that is registered already differs from what was `asked` for.
async fn conflict(operators: &Operators, asked: &FunctionSpec) -> Result<Problem, Problem> {
    let name = asked.name.to_string();
    let found = match operators.owner.ask(Request::Show { name: name.clone() }).await? {
        Answer::Function(function) => differences(&function.spec, asked),
        // Deregistered since: then nothing of it can be said any more.
        _ => Vec::new(),
    };
    let list: Vec<&str> = found.iter().map(|difference| difference.problem.as_str()).collect();
    let detail = format!("{name:?} is registered with another specification: {}", list.join("; "));
    let problem = Problem::new(StatusCode::CONFLICT, detail);
    Ok(match found.into_iter().next() {
        Some(first) => problem.about(first.field),
        None => problem,
    })
}

/// Which function a client asks about.
#[derive(Deserialize)]
pub(super) struct Check {
    name: String,
}

/// 200 when a function is ready to be invoked: data planes acknowledge a registration before it is answered.
pub(super) async fn check(
    State(operators): State<Operators>,
    Query(check): Query<Check>,
) -> Result<&'static str, Problem> {
    match operators.owner.ask(Request::Show { name: check.name.clone() }).await? {
        Answer::Function(_) => Ok("ok\n"),
        Answer::NotFound => Err(Problem::no_function(&check.name)),
        _ => Err(Problem::unexpected()),
    }
}

/// The fields of a form, in order; a name may occur several times.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn one<'a>(&'a self, key: &'a str) -> Option<&'a str> {
        self.all(key).next().filter(|value| !value.is_empty())
    }
}

fn read(body: &[u8]) -> Result<FunctionSpec, Problem> {
    let fields = Fields(form_urlencoded::parse(body).into_owned().collect());
    let one = |key: &'static str| fields.one(key);
    let name = one("name").ok_or_else(|| Problem::bad_field("name", "name is missing"))?;
    let name = name.parse().map_err(|error| Problem::bad_field("name", format!("name: {error}")))?;
    let image = one("image").ok_or_else(|| Problem::bad_field("image", "image is missing"))?;
    let mut spec = FunctionSpec::new(name, image);
    if let Some(port) = one("port_forwarding") {
        spec.port = number("port_forwarding", port)?;
    }
    // The original speaks HTTP/2 to `h2c` ports only; its forms say `tcp`, which existing functions serve as HTTP/1.1.
    if fields.all("port_forwarding").any(|value| value.eq_ignore_ascii_case("h2c")) {
        spec.protocol = Protocol::H2c;
    }
    if let Some(cpu) = one("requested_cpu") {
        spec.cpu = number("requested_cpu", cpu)?;
    }
    if let Some(memory) = one("requested_memory") {
        spec.memory = number("requested_memory", memory)?;
    }
    if let Some(max) = one("scaling_upper_bound") {
        spec.scale.max = Some(number("scaling_upper_bound", max)?);
    }
    if let Some(min) = one("scaling_lower_bound") {
        spec.scale.min = number("scaling_lower_bound", min)?;
    }
    if flag("cold_start_sweep", one("cold_start_sweep"))? {
        (spec.scale.min, spec.scale.max) = (0, Some(1));
        spec.scale.stable_window = SWEEP_STABLE_WINDOW;
        spec.scale.panic_window = Some(SWEEP_PANIC_WINDOW);
    }
    // Existing clients send both fields always, and without a value when there is none.
    for variable in fields.all("env_vars").filter(|variable| !variable.is_empty()) {
        let (key, value) = variable.split_once('=').ok_or_else(|| {
            Problem::bad_field("env_vars", format!("env_vars: {variable:?} is not of the form NAME=VALUE"))
        })?;
        spec.env.insert(key.to_owned(), value.to_owned());
    }
    spec.args = fields.all("program_args").filter(|argument| !argument.is_empty()).map(str::to_owned).collect();
    Ok(spec)
}

fn number<T: std::str::FromStr>(field: &str, text: &str) -> Result<T, Problem> {
    text.trim().parse().map_err(|_| Problem::bad_field(field, format!("{field}: {text:?} is not a number in range")))
}

fn flag(field: &str, text: Option<&str>) -> Result<bool, Problem> {
    match text {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(other) => Err(Problem::bad_field(field, format!("{field}: {other:?} is neither true nor false"))),
    }
}
