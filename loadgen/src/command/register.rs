//! `loadgen register`: registers functions at a Dirigent control plane and leaves them there.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::{
    command::print,
    ending::Ending,
    functions,
    registrar::{Registrar, RegistrarError},
    replay::stop::Stop,
};

/// Arguments of `loadgen register`.
#[derive(Args, Debug, Serialize)]
pub(crate) struct RegisterArgs {
    /// The functions, one JSON object a line, as `loadgen schedule --functions-out` writes them
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The control plane
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9091")]
    control_plane: String,
    /// File with the control plane's token, which it leaves in its data directory; without it, only a control plane that
    /// asks for none can be used
    #[arg(long, value_name = "FILE", conflicts_with = "form")]
    token_file: Option<PathBuf>,
    /// Speak the published system's form interface, which asks for no token
    #[arg(long)]
    form: bool,
}

/// Registers every function of the file.
pub(crate) fn run(args: &RegisterArgs) -> anyhow::Result<Ending> {
    let functions = functions::read(&args.from)?;
    let stop = Stop::listen()?;
    let registrar = Registrar::new("--control-plane", &args.control_plane, args.form)?
        .with_token_file(args.token_file.as_deref())?;
    let created = registrar.register(&functions, &stop).map_err(RegistrarError::keeping)?;
    let new = if args.form { String::new() } else { format!(", {} of them new", created.len()) };
    print(&format!("{} functions registered{new}", functions.len()))?;
    Ok(Ending::Done)
}
