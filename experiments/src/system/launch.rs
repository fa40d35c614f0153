//! Launch of a child process: `repro` starts itself as a launcher, which prepares the process and then executes the
//! program. Code between fork and exec, the alternative, would need `unsafe`.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use clap::Args;
use nix::{
    sys::{
        prctl,
        signal::{SigSet, Signal},
    },
    unistd,
};

/// The hidden subcommand.
const SUBCOMMAND: &str = "launch";

/// Arguments of the hidden subcommand.
#[derive(Args, Debug)]
pub struct LaunchArguments {
    /// Process id of the runner; the program is not started if the runner has ended
    #[arg(long)]
    parent: i32,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Replaces this process by the program; returns only if that fails, with the reason.
///
/// The program gets SIGTERM when the runner dies, even by SIGKILL, and no signal is blocked in it.
#[must_use]
pub fn become_program(arguments: &LaunchArguments) -> anyhow::Error {
    if let Err(error) = SigSet::all().thread_unblock().and_then(|()| prctl::set_pdeathsig(Signal::SIGTERM)) {
        return anyhow::Error::new(error).context("preparing a child process");
    }
    if unistd::getppid().as_raw() != arguments.parent {
        return anyhow::anyhow!("the runner ended before {} was started", arguments.command[0].display());
    }
    let error = Command::new(&arguments.command[0]).args(&arguments.command[1..]).exec();
    anyhow::Error::new(error).context(format!("cannot start {}", arguments.command[0].display()))
}

/// Destination of a child's output.
#[derive(Clone, Debug)]
pub enum Output {
    /// Standard output and standard error to a file, which is created or appended to.
    File(PathBuf),
    /// Standard output to a file, standard error to the runner's own.
    Shown(PathBuf),
    /// Both to the runner's own: its output is part of the runner's result.
    Printed,
}

impl Output {
    /// The log file, if any.
    #[must_use]
    pub fn log(&self) -> Option<&Path> {
        match self {
            Self::File(path) | Self::Shown(path) => Some(path),
            Self::Printed => None,
        }
    }
}

/// Starts programs; must be used from one thread that lives as long as they do, because the system ties a child to the
/// thread that started it.
#[derive(Clone, Debug)]
pub struct Launcher {
    program: PathBuf,
}

impl Launcher {
    /// The launcher that is the program `repro` at `program`.
    #[must_use]
    pub fn at(program: &Path) -> Self {
        Self { program: program.to_owned() }
    }

    /// The launcher that is this program itself.
    ///
    /// # Errors
    /// If this program's own file cannot be found.
    pub fn this_program() -> io::Result<Self> {
        Ok(Self { program: env::current_exe()? })
    }

    /// Starts `command` in `folder`, in a process group of its own, so that a Ctrl-C on the terminal reaches only the
    /// runner, which then stops its children in order.
    ///
    /// # Errors
    /// If the system refuses, or a file for the output cannot be made.
    pub fn start(&self, command: &[String], folder: &Path, output: &Output) -> io::Result<Child> {
        let append = |path: &Path| File::options().create(true).append(true).open(path);
        let mut launch = Command::new(&self.program);
        launch.args([SUBCOMMAND, "--parent", &std::process::id().to_string(), "--"]);
        launch.args(command).current_dir(folder).stdin(Stdio::null()).process_group(0);
        match output {
            Output::File(path) => {
                let file = append(path)?;
                launch.stdout(file.try_clone()?).stderr(file);
            }
            Output::Shown(path) => {
                launch.stdout(append(path)?);
            }
            Output::Printed => {}
        }
        launch.spawn()
    }
}
