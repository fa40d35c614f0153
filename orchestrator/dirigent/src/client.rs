//! The subcommands of an operator: each calls a running component over HTTP and prints its response.

mod address;
mod bulk;
mod connect_retry;
pub(crate) mod function;
mod http;
pub(crate) mod invoke;
mod log;
pub(crate) mod node;
mod port_mismatch;
mod specification;
pub(crate) mod status;
mod timeline;
pub(crate) mod token;
pub(crate) mod top;

use std::{path::PathBuf, time::Duration};

use clap::Args;
use terminal::{FormatOption, UsageError};

/// The control plane to call, and the output format.
#[derive(Debug, Args)]
pub(crate) struct ClientOptions {
    /// HTTP address of a control plane
    #[arg(long, global = true, default_value = "http://127.0.0.1:9091", value_name = "URL")]
    control_plane: address::Address,

    /// Token file of the control plane; required by commands that change something. By default it is searched for in the data
    /// directories below the current one
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,

    #[command(flatten)]
    output: FormatOption,
}

impl ClientOptions {
    fn control_plane(&self) -> anyhow::Result<http::Server> {
        self.control_plane_within(http::CONTROL_TIMEOUT)
    }

    /// The control plane, for who waits no longer than `timeout` for a response.
    ///
    /// # Errors
    /// If a file with its token was named and holds none.
    fn control_plane_within(&self, timeout: Duration) -> anyhow::Result<http::Server> {
        let token = token::Source::new(self.token_file.clone(), &self.control_plane.to_string());
        if token.is_named() {
            token.token().map_err(UsageError::of)?;
        }
        Ok(http::Server::new(http::Role::ControlPlane, &self.control_plane, timeout).with_token(token))
    }
}
