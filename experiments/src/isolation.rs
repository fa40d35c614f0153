//! Private mount, pid and network namespaces in which this program continues: nothing in them reaches the machine's own
//! network, and everything in them ends with their first process. Other users than root create a user namespace as well,
//! and are root in it. Root does not, because a process in a user namespace has no right to the real-time priority by which
//! the load generator wakes on time.
//!
//! The program starts itself twice, because only a process with a single thread may enter a user namespace, and only a child
//! enters a pid namespace: first a process that creates the namespaces, then the first process in them. Each is killed when
//! its parent dies.

use std::{
    env,
    ffi::OsString,
    fs,
    os::{
        fd::AsRawFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        signal::{Signal, killpg},
        socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sendto, socket},
    },
    unistd::{Pid, getgid, getppid, getuid},
};

use crate::{
    exit::Exit,
    interrupt::{self, Interrupt, wait_regardless},
    machine::proc::Stat,
    run::programs::Programs,
};

/// The hidden subcommand.
const SUBCOMMAND: &str = "isolate";

/// The hidden option with the folder of the programs built outside; it comes last, with `--runner` and `--unbuilt`, so that
/// [`typed`] can cut them off.
const ISOLATED_OPTION: &str = "--isolated";

/// The note in plan and manifest of an isolated run.
pub const PLACE: &str = "everything but building takes place in a private mount, pid and network namespace";

/// Length of one wait for the process inside; waits are repeated without end, since a run may take any time.
const WAIT_TIMEOUT: Duration = Duration::from_secs(3600);

/// Kernel settings that forbid namespaces to unprivileged users: the file, the forbidding value, and the setting that
/// permits them. Not every kernel has each of them.
const FORBIDDEN_BY: [(&str, &str, &str); 3] = [
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
    ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"),
    ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=10000"),
];

/// The command that permits what is missing where namespaces cannot be made.
#[must_use]
pub fn fix() -> String {
    let forbids =
        |(file, value, _): &(&str, &str, &str)| fs::read_to_string(file).is_ok_and(|text| text.trim() == *value);
    let settings: Vec<&str> = FORBIDDEN_BY.into_iter().filter(forbids).map(|(_, _, permission)| permission).collect();
    if settings.is_empty() {
        return "run it where user namespaces may be made: not in a container that forbids them".to_owned();
    }
    format!("sysctl -w {} (as root)", settings.join(" "))
}

/// Arguments of the hidden subcommand.
#[derive(Args, Debug)]
pub struct IsolateArguments {
    /// Process id of the one before
    #[arg(long)]
    parent: i32,
    /// The namespaces exist already
    #[arg(long)]
    inside: bool,
    /// Command to run inside; empty: only test that the namespaces can be made
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl IsolateArguments {
    /// Creates the namespaces and waits for the process inside; or, inside, sets them up and returns the command to run
    /// there.
    ///
    /// # Errors
    /// If the kernel refuses a namespace, or the process before is gone.
    pub fn enter(self) -> anyhow::Result<Entered> {
        prctl::set_pdeathsig(Signal::SIGKILL).context("asking to end with the runner")?;
        if self.inside {
            // The process before has no id in this namespace; the machine's own /proc, still mounted, knows it.
            if Stat::read(self.parent).is_none_or(|stat| stat.state == 'Z') {
                bail!("the runner ended before its namespaces were made");
            }
            prepare()?;
            return Ok(Entered::Inside(self.arguments));
        }
        if getppid().as_raw() != self.parent {
            bail!("the runner ended before its namespaces were made");
        }
        make()?;
        // Signals are for the first process inside, which is in this process's group and inherits that they are blocked:
        // so one that comes before it listens is kept for it. No thread could listen here, because a process whose
        // children are to be in another namespace of process ids may start none.
        interrupt::block()?;
        let mut child = start(&self.arguments, true)?;
        let status = child.wait().context("waiting for what happens inside")?;
        Ok(Entered::Ended(code(status)))
    }
}

/// The arguments that the user typed, of a process that may be isolated.
#[must_use]
pub fn typed(arguments: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut typed: Vec<String> = arguments.into_iter().collect();
    if typed.get(1).is_some_and(|word| word == SUBCOMMAND) {
        let own = typed.iter().position(|word| word == "--").map_or(typed.len(), |last| last + 1);
        typed.drain(1..own);
        typed.truncate(typed.iter().position(|word| word == ISOLATED_OPTION).unwrap_or(typed.len()));
    }
    typed
}

/// Result of entering the namespaces.
pub enum Entered {
    /// This is the first process inside, which runs a command with these arguments.
    Inside(Vec<OsString>),
    /// The isolated process ended, with this exit code.
    Ended(Exit),
}

/// The reason why namespaces cannot be made here; `None` if they can.
#[must_use]
pub fn missing() -> Option<String> {
    let tried = start(&[], false).and_then(|child| child.wait_with_output().context("waiting for a try"));
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("{error:#}")),
    }
}

/// Runs the same command inside, with the folder of built programs and the reasons for those that were not built. Forwards
/// the user's signals, and returns the exit code.
///
/// # Errors
/// If it cannot be started.
pub fn continue_inside(programs: &Programs, interrupt: &Interrupt) -> anyhow::Result<Exit> {
    let mut arguments: Vec<OsString> = env::args_os().skip(1).collect();
    arguments.extend([ISOLATED_OPTION.into(), programs.folder().into()]);
    arguments.extend(["--runner".into(), std::process::id().to_string().into()]);
    arguments.extend(["--unbuilt".into(), serde_json::to_string(programs.all_unbuilt())?.into()]);
    let mut child = start(&arguments, false)?;
    let group = Pid::from_raw(i32::try_from(child.id()).context("process ids fit in 31 bits")?);
    let mut forwarded = 0;
    loop {
        let ended = wait_regardless(WAIT_TIMEOUT, || {
            while forwarded < interrupt.count() {
                forwarded += 1;
                // It fails only if all processes of the group have ended.
                let _ = killpg(group, Signal::SIGINT);
            }
            child.try_wait().transpose()
        });
        if let Some(status) = ended {
            return Ok(code(status.context("waiting for what happens inside")?));
        }
    }
}

/// Starts the next process on the way inside. The first one gets a process group of its own, so that Ctrl-C on the
/// terminal reaches only the outermost process, which forwards it.
fn start(arguments: &[OsString], inside: bool) -> anyhow::Result<Child> {
    let mut command = Command::new(env::current_exe().context("finding this program's own file")?);
    command.args([SUBCOMMAND, "--parent", &std::process::id().to_string()]);
    if inside {
        command.arg("--inside");
    } else {
        command.process_group(0);
    }
    if arguments.is_empty() && !inside {
        command.stderr(Stdio::piped());
    }
    command.arg("--").args(arguments).stdin(Stdio::null()).spawn().context("starting the way inside")
}

/// The exit code of a process as this program's own.
fn code(status: ExitStatus) -> Exit {
    if let Some(signal) = status.signal() {
        terminal::note!("what ran in the private namespace was ended by signal {signal}");
    }
    Exit::of_code(status.code())
}

/// Enters namespaces of its own; a user who is not root becomes root in them.
fn make() -> anyhow::Result<()> {
    let (user, group) = (getuid(), getgid());
    let apart = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNET;
    // One who is root without the right to do so, as in some containers, is like anyone else.
    if user.is_root() && unshare(apart).is_ok() {
        return Ok(());
    }
    unshare(apart | CloneFlags::CLONE_NEWUSER).context("this user may not make namespaces")?;
    let write = |file: &str, text: String| {
        let path = Path::new("/proc/self").join(file);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("0 {user} 1"))?;
    write("gid_map", format!("0 {group} 1"))
}

/// Sets up the first process inside: private mounts, its own `/proc`, the loopback device.
fn prepare() -> anyhow::Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("making mounts private")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, none).context("mounting /proc")?;
    loopback_up().context("bringing the loopback device up")
}

/// Sets the flag "up" of device 1, which is loopback in every network namespace: one netlink message.
fn loopback_up() -> anyhow::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const REQUEST: u16 = 1;
    const LOOPBACK: i32 = 1;
    const UP: u32 = 1;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let mut message = Vec::with_capacity(32);
    message.extend(32_u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend([0; 8]); // sequence number and sender
    message.extend([0; 4]); // family and type: any
    message.extend(LOOPBACK.to_ne_bytes());
    message.extend(UP.to_ne_bytes()); // the flags
    message.extend(UP.to_ne_bytes()); // which of them are meant
    sendto(socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_is_what_is_said_inside() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let outside = words("repro run toy -- x");
        assert_eq!(typed(outside.clone()), outside);
        let inside = words("repro isolate --parent 7 --inside -- run toy --quick --isolated /bin");
        assert_eq!(typed(inside), words("repro run toy --quick"));
    }
}
