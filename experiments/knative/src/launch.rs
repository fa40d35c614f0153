//! Launch of a component of the testbed: this program starts itself again, enters a network namespace of its own if the
//! component needs one, installs the testbed's name service, and executes the component. So nothing has to run between
//! fork and exec, which could not be safe.

use std::{
    ffi::OsString,
    fs,
    net::Ipv4Addr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};
use clap::Args;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{prctl, signal::Signal},
    unistd,
};

use crate::network::Network;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "launch";

/// Arguments of the hidden subcommand.
#[derive(Args, Clone, Debug)]
pub struct LaunchArguments {
    /// Process id of the testbed: when it is gone, the part must not start
    #[arg(long)]
    parent: i32,
    /// Address in a network namespace of its own; absent: the testbed's own namespace
    #[arg(long)]
    address: Option<Ipv4Addr>,
    /// Folder with the files `hosts` and `resolv.conf`
    #[arg(long)]
    names: PathBuf,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Becomes the part; returns only the reason why it could not.
///
/// The part is killed when the testbed dies, however it dies: nothing of it is worth a graceful end.
///
/// # Errors
/// Always, since success does not return.
pub fn become_part(arguments: &LaunchArguments) -> anyhow::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("asking to die with the testbed")?;
    if unistd::getppid().as_raw() != arguments.parent {
        bail!("the testbed ended before {} was started", arguments.command[0].display());
    }
    let mut apart = CloneFlags::CLONE_NEWNS;
    if arguments.address.is_some() {
        apart |= CloneFlags::CLONE_NEWNET;
    }
    unshare(apart).context("entering namespaces of its own")?;
    put_names_in_place(&arguments.names)?;
    if let Some(address) = arguments.address {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { Network::here()?.configure(address).await })?;
    }
    let error = Command::new(&arguments.command[0]).args(&arguments.command[1..]).exec();
    Err(error).with_context(|| format!("cannot start {}", arguments.command[0].display()))
}

/// Lays the testbed's files over the machine's own, for this process and what it starts only.
fn put_names_in_place(folder: &Path) -> anyhow::Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("making mounts private")?;
    for name in ["hosts", "resolv.conf"] {
        let place = Path::new("/etc").join(name);
        // The resolver's file is a link on many machines: what it points to is covered.
        let place = fs::canonicalize(&place).unwrap_or(place);
        let from = folder.join(name);
        mount(Some(&from), &place, none, MsFlags::MS_BIND, none)
            .with_context(|| format!("laying {} over {}", from.display(), place.display()))?;
    }
    Ok(())
}
