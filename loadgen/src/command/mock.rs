//! `loadgen mock`: answers every request as a function does, at once, until it is ended.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use terminal::Exit;

use crate::{command::ports, mock::Mock};

/// Arguments of `loadgen mock`.
#[derive(Args, Debug, Serialize)]
pub(crate) struct MockArgs {
    /// Address to listen on; port 0 is any free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    listen: String,
    /// File to write the address into, as JSON, once it listens
    #[arg(long, value_name = "FILE")]
    ports: Option<PathBuf>,
}

/// Serves.
pub(crate) fn run(args: &MockArgs) -> anyhow::Result<Exit> {
    let listener = ports::listen(&args.listen)?;
    ports::announce(&listener, args.ports.as_deref())?;
    Mock::serve_here(listener).context("serving")?;
    Ok(Exit::Done)
}
