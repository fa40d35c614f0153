//! `function`: register, list, show and delete functions; read what their sandboxes wrote.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use model::{FunctionName, SandboxId};
use serde_json::{Value, json};
use terminal::{Format, UsageError};
use ureq::http::Method;

use super::{ClientOptions, bulk, http::Server, log::Logs, specification::SpecificationFlags};
use crate::output::{self, Column};

const LIST: [Column; 10] = [
    Column::new("name", "/spec/name"),
    Column::new("revision", "/revision"),
    Column::new("image", "/spec/image"),
    Column::new("desired", "/desired"),
    Column::new("ready", "/ready"),
    Column::new("starting", "/starting"),
    Column::new("waiting", "/waiting"),
    Column::new("running", "/running"),
    Column::new("failures", "/failures"),
    Column::new("last error", "/last_error"),
];

/// The result of changing each function.
const RESULTS: [Column; 2] = [Column::new("name", "/name"), Column::new("result", "/result")];

/// Functions asked for at once; the control plane pages its list.
const PAGE: usize = 1000;

const REGISTER_EXAMPLE: &str = "\
Examples:
  dirigent function register hello --image builtin:function --memory 128MiB --max 10
  dirigent function register --from functions.ndjson";

const LOGS_EXAMPLE: &str = "\
Characters that command a terminal are shown as escapes, wherever the output goes: a pipe may end on a terminal too.

Examples:
  dirigent function logs hello --sandbox 1-7
  dirigent function logs hello --raw > hello.log";

#[derive(Debug, Args)]
#[command(after_help = "Example: dirigent function list --format csv")]
pub(crate) struct Arguments {
    #[command(flatten)]
    client: ClientOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Register a function, or give one a new revision; from a file, many at once
    #[command(after_help = REGISTER_EXAMPLE)]
    Register(Box<Register>),
    /// List all functions
    #[command(after_help = "Example: dirigent function list --format csv")]
    List,
    /// Show one function: specification, scale, endpoints, last error
    #[command(after_help = "Example: dirigent function show hello")]
    Show {
        /// Its name
        name: FunctionName,
    },
    /// Print what the sandboxes of a function wrote, also those that ended or never became ready, as far as their workers
    /// keep it
    #[command(after_help = LOGS_EXAMPLE)]
    Logs {
        /// Its name
        name: FunctionName,
        /// Only this sandbox
        #[arg(long, value_name = "ID")]
        sandbox: Option<SandboxId>,
        /// Print every byte as it was written, also what commands a terminal; with the format `table`
        #[arg(long)]
        raw: bool,
    },
    /// Deregister functions: their sandboxes are drained and ended
    #[command(after_help = "Example: dirigent function delete hello")]
    Delete {
        /// Their names
        #[arg(required = true)]
        names: Vec<FunctionName>,
    },
}

#[derive(Debug, Args)]
struct Register {
    /// Its name
    #[arg(required_unless_present = "from")]
    name: Option<FunctionName>,

    /// Register every function of a file with one JSON specification per line (`-`: standard input); applies alone, what
    /// describes a function is in the file. A line that is wrong or refused is reported with its position; all others are
    /// registered and stay so, and the exit code is 1 (2 when no line has a function)
    #[arg(long, value_name = "FILE.ndjson", conflicts_with_all = ["name", "SpecificationFlags"])]
    from: Option<PathBuf>,

    #[command(flatten)]
    flags: SpecificationFlags,
}

/// Does what was asked about functions.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let control_plane = arguments.client.control_plane()?;
    match arguments.command {
        Command::Register(register) => self::register(&control_plane, arguments.client.output.format, *register),
        Command::List => {
            let functions = list(&control_plane)?;
            Ok(output::print_rows(arguments.client.output.format, &LIST, &functions)?)
        }
        Command::Show { name } => {
            let function = control_plane.get(&path(&name))?;
            Ok(output::print_tree(arguments.client.output.format, &function)?)
        }
        Command::Logs { name, sandbox, raw } => {
            let format = arguments.client.output.format;
            if raw && format != Format::Table {
                return Err(UsageError::of(anyhow!("--raw applies with --format table only")));
            }
            let logs = Logs { function: &name, sandbox, raw, format };
            Ok(logs.print(&control_plane)?)
        }
        Command::Delete { names } => delete(&control_plane, arguments.client.output.format, &names),
    }
}

fn register(control_plane: &Server, format: Format, register: Register) -> anyhow::Result<()> {
    let Some(name) = register.name else {
        return bulk::register(control_plane, format, &register.from.unwrap_or_default());
    };
    let spec = register.flags.specify(name.clone()).map_err(UsageError::of)?;
    let body = serde_json::to_value(&spec).map_err(anyhow::Error::from)?;
    let registered = control_plane.json(Method::PUT, &path(&name), Some(&body))?;
    note_unknown(std::slice::from_ref(&registered));
    Ok(output::print_rows(format, &RESULTS, &[registered])?)
}

/// Says of registrations that were made how many of them a data plane may not know yet.
pub(super) fn note_unknown(results: &[Value]) {
    let functions = match results.iter().filter(|result| result.get("known") == Some(&Value::Bool(false))).count() {
        0 => return,
        1 => "1 function".to_owned(),
        many => format!("{many} functions"),
    };
    terminal::note!(
        "not known to every data plane yet, or none is connected: {functions}; until it is, an invocation may find no \
         function, or the revision before"
    );
}

fn delete(control_plane: &Server, format: Format, names: &[FunctionName]) -> anyhow::Result<()> {
    let mut deleted = Vec::new();
    for name in names {
        match control_plane.json(Method::DELETE, &path(name), None) {
            Ok(_) => deleted.push(json!({ "name": name, "result": "deleted" })),
            Err(error) => terminal::note!("{name}: {error:#}"),
        }
    }
    if !deleted.is_empty() || format != Format::Table {
        output::print_rows(format, &RESULTS, &deleted)?;
    }
    let failed = names.len() - deleted.len();
    if failed > 0 {
        return Err(anyhow!("{failed} of {} functions could not be deleted", names.len()));
    }
    Ok(())
}

/// All functions, page by page.
fn list(control_plane: &Server) -> anyhow::Result<Vec<Value>> {
    let mut functions: Vec<Value> = Vec::new();
    let mut after = String::new();
    loop {
        let page = control_plane.get(&format!("/v1/functions?limit={PAGE}{after}"))?;
        functions.extend_from_slice(control_plane.rows(&page, "functions")?);
        match page.get("next").and_then(Value::as_str) {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(functions),
        }
    }
}

/// URL path of a function.
pub(crate) fn path(name: &FunctionName) -> String {
    format!("/v1/functions/{name}")
}
