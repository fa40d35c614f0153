//! `loadgen completions`: completions for a shell, on standard output.

use clap::Args;
use clap_complete::Shell;
use terminal::Exit;

use crate::{cli, command::print};

/// Arguments of `loadgen completions`.
#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Prints the completions.
pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut terminal::command::<cli::Cli>(), "loadgen", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
