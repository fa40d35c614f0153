//! The listener of a subcommand that serves, and the announcement of its address.

use std::{fs, net::TcpListener, path::Path};

use anyhow::Context;
use terminal::UsageError;

use crate::{command::print, http::target::resolve};

/// Listens on an address.
///
/// # Errors
/// [`UsageError`] when it is none, or cannot be had.
pub(crate) fn listen(address: &str) -> anyhow::Result<TcpListener> {
    let resolved = resolve(address).context("--listen").map_err(UsageError::of)?;
    let listener = TcpListener::bind(resolved).with_context(|| format!("--listen {address}"));
    listener.map_err(UsageError::of)
}

/// Prints the address, and writes it into a file as `{"http":"HOST:PORT"}`: a reader that waits for the file never sees half
/// of it.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn announce(listener: &TcpListener, file: Option<&Path>) -> anyhow::Result<()> {
    let address = listener.local_addr()?.to_string();
    if let Some(file) = file {
        let partial = file.with_extension("partial");
        let text = serde_json::json!({ "http": address }).to_string();
        let written = fs::write(&partial, text).and_then(|()| fs::rename(&partial, file));
        written.with_context(|| format!("writing {}", file.display()))?;
    }
    print(&address)
}
