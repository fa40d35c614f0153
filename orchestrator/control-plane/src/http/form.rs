//! The published system's registration form, so that existing load generators work unchanged.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{RawQuery, State},
    http::StatusCode,
};
use model::{BUILTIN_IMAGE, FunctionSpec, Protocol, is_container_image};

use super::{
    Operators,
    difference::differences,
    fields::{Fields, unexpected},
    functions,
    problem::Problem,
};
use crate::state::{Acknowledgement, PutOutcome, Request};

/// Windows that `cold_start_sweep=true` stands for.
const SWEEP_STABLE_WINDOW: Duration = Duration::from_secs(6);
const SWEEP_PANIC_WINDOW: Duration = Duration::from_secs(2);

/// A registration as the form expresses it.
struct Form {
    spec: FunctionSpec,
    /// As what versions before this one registered the same form. What they did is put right when a client repeats it.
    read_before: Vec<FunctionSpec>,
}

/// Registers one function. The response is the addresses that accept invocations, separated by `;`.
pub(super) async fn register(State(operators): State<Operators>, body: Bytes) -> Result<String, Problem> {
    let Form { spec, read_before } = read(&body)?;
    functions::check_policies(&spec)?;
    if functions::register(&operators, spec.clone(), Some(read_before)).await?.outcome == PutOutcome::Conflict {
        return Err(conflict(&operators, &spec).await?);
    }
    if !operators.invoke_addresses.is_empty() {
        return Ok(operators.invoke_addresses.join(";"));
    }
    let cluster = operators.owner.request(|reply| Request::Status { reply }).await?;
    Ok(cluster.data_planes.join(";"))
}

/// Names the fields of the form in which a registered function differs from the `asked` specification.
async fn conflict(operators: &Operators, asked: &FunctionSpec) -> Result<Problem, Problem> {
    let name = asked.name.to_string();
    let function = operators.owner.request(|reply| Request::Show { name: name.clone(), reply }).await?;
    // If it was deregistered since, there is nothing left to compare.
    let found = function.map(|function| differences(&function.spec, asked)).unwrap_or_default();
    let list: Vec<String> =
        found.iter().map(|difference| format!("{} {}", form_field(&difference.field), difference.problem)).collect();
    let detail = format!("{name:?} is registered with another specification: {}", list.join("; "));
    let problem = Problem::new(StatusCode::CONFLICT, detail);
    Ok(match found.into_iter().next() {
        Some(first) => problem.about(form_field(&first.field)),
        None => problem,
    })
}

/// 200 when a function is ready to be invoked: it is registered, and data planes have acknowledged that. 503 while they have
/// not, or none is connected.
pub(super) async fn check(
    State(operators): State<Operators>,
    RawQuery(query): RawQuery,
) -> Result<&'static str, Problem> {
    let fields = Fields::of_query(query.as_deref());
    let name = fields.needed("name", "the name of a function, like /check?name=hello")?;
    match operators.owner.request(|reply| Request::Acknowledged { name: name.to_owned(), reply }).await? {
        Acknowledgement::Complete => Ok("ok\n"),
        Acknowledgement::Missing => Err(Problem::unknown_to_data_planes(name)),
        Acknowledgement::NoSuchFunction => Err(Problem::no_function(name)),
    }
}

fn read(body: &[u8]) -> Result<Form, Problem> {
    let fields = Fields::read(body);
    let name = fields.needed("name", "the name of a function")?;
    let name = name.parse().map_err(|error| Problem::bad_field("name", format!("name: {error}")))?;
    let image = fields.needed("image", "what to run, like builtin:function")?;
    // There are no containers here: the built-in function stands for those that existing clients name.
    let is_container = is_container_image(image);
    let mut spec = FunctionSpec::new(name, if is_container { BUILTIN_IMAGE } else { image });
    if let Some(port) = fields.number("port_forwarding", "a port, 1 to 65535")? {
        spec.port = port;
    }
    // The original speaks HTTP/2 to `h2c` ports only; its forms say `tcp`, which existing functions serve as HTTP/1.1.
    if fields.all("port_forwarding").any(|value| value.eq_ignore_ascii_case("h2c")) {
        spec.protocol = Protocol::H2c;
    }
    // The published load generator divides what a function needs, and what is left of little is 0.
    let at_least_one = |number: u32| number.max(1);
    let cpu = fields.number("requested_cpu", "millicores as a whole number")?;
    spec.cpu = cpu.map_or(spec.cpu, at_least_one);
    let memory = fields.number("requested_memory", "MiB as a whole number")?;
    spec.memory = memory.map_or(spec.memory, at_least_one);
    spec.scale.max = fields.number("scaling_upper_bound", "a whole number, 1 to 4294967295")?;
    spec.scale.min = fields.number("scaling_lower_bound", "a whole number, 0 to 4294967295")?.unwrap_or(spec.scale.min);
    if fields.flag("cold_start_sweep")? {
        (spec.scale.min, spec.scale.max) = (0, Some(1));
        spec.scale.stable_window = SWEEP_STABLE_WINDOW;
        spec.scale.panic_window = Some(SWEEP_PANIC_WINDOW);
    }
    for variable in fields.all("env_vars") {
        let (key, value) = variable.split_once('=').ok_or_else(|| unexpected("env_vars", "NAME=VALUE", variable))?;
        spec.env.insert(key.to_owned(), value.to_owned());
    }
    spec.args = fields.all("program_args").map(str::to_owned).collect();
    let mut read_before = Vec::new();
    if is_container {
        read_before.extend([FunctionSpec { image: image.to_owned(), ..spec.clone() }, spec.clone()]);
        // Meant for the program in it. The built-in function ends at once for an argument that it does not know.
        spec.env.clear();
        spec.args.clear();
    }
    spec.check().map_err(|error| {
        let field = form_field(error.field);
        Problem::bad_field(field.clone(), format!("{field}: {}", error.problem))
    })?;
    Ok(Form { spec, read_before })
}

/// The form's name for a field of a specification, which is given by its path.
fn form_field(path: &str) -> String {
    // Of the variables each has a path.
    if let Some(variable) = path.strip_prefix("env.") {
        return format!("env_vars.{variable}");
    }
    let field = match path {
        "port" | "protocol" => "port_forwarding",
        "cpu" => "requested_cpu",
        "memory" => "requested_memory",
        "scale.max" => "scaling_upper_bound",
        "scale.min" => "scaling_lower_bound",
        "env" => "env_vars",
        "args" => "program_args",
        same => same,
    };
    field.to_owned()
}
