//! `loadgen completions`: completions for a shell, on standard output.

use clap::Args;
use clap_complete::Shell;

use crate::{cli, command::print, exit::ExitStatus};

/// Arguments of `loadgen completions`.
#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Prints the completions.
pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<ExitStatus> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli::command(), "loadgen", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitStatus::Done)
}
