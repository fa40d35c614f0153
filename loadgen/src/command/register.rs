//! `loadgen register`: registers functions at a Dirigent control plane and leaves them there.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use serde::Serialize;
use terminal::Exit;

use crate::{
    command::print,
    deployer::Deployer,
    functions::{self, Contents},
    replay::stop::Stop,
};

/// Arguments of `loadgen register`.
#[derive(Args, Debug, Serialize)]
pub(crate) struct RegisterArgs {
    /// The functions, one JSON object a line (`-`: standard input), as `loadgen schedule --functions-out` writes them. A
    /// line that is wrong or refused is reported with its position; all others are registered and stay so, and the exit code is 1
    /// (2 when no line has a function)
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The control plane
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9091")]
    control_plane: String,
    /// File with the control plane's token, which it leaves in its data directory; without it, only a control plane that
    /// asks for none can be used
    #[arg(long, value_name = "FILE", conflicts_with = "form")]
    token_file: Option<PathBuf>,
    /// Speak the published system's form interface, which asks for no token and does not say whether data planes know a
    /// function; without it, the command ends once they all do
    #[arg(long)]
    form: bool,
}

/// A request may be under way for as long as a control plane that stands still takes, and there is nothing to clean up.
fn end_at_once(stop: &Stop) {
    if stop.is_immediate() {
        terminal::note!("stopped at once: what was registered so far stays");
        std::process::exit(1);
    }
}

/// Registers every function of the file that is right.
pub(crate) fn run(args: &RegisterArgs) -> anyhow::Result<Exit> {
    let Contents { functions, refused } = functions::read(&args.from)?;
    let stop = Stop::listen_and(end_at_once)?;
    let deployer = Deployer::new("--control-plane", &args.control_plane, args.form)?
        .with_token_file(args.token_file.as_deref())?;
    refused.iter().for_each(|problem| terminal::note!("{problem}"));
    let of = functions.len() + refused.len();
    let not_sent =
        || format!("{} of {of} functions could not be registered, each for what is said above", refused.len());
    let created = deployer.register(&functions, &stop).map_err(|error| {
        let error = error.keeping();
        if refused.is_empty() { error } else { error.context(not_sent()) }
    })?;
    if !refused.is_empty() {
        bail!("{}; the rest ({}) is registered", not_sent(), functions.len());
    }
    let new = if args.form { String::new() } else { format!(", {} of them new", created.len()) };
    print(&format!("{} functions registered{new}", functions.len()))?;
    Ok(Exit::Done)
}
