//! A private user, mount, pid and network namespace in which this program goes on: no root is needed, nothing that
//! happens in it reaches the machine's own network, and with its first process ends everything in it.
//!
//! The program starts itself twice more, because a namespace of users may only be entered by a process with a single
//! thread, and one of process ids only by a child: first a process that makes the namespaces, then the first process in
//! them. Each is killed when the one before it dies, however it dies.

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
        signal::{SigSet, Signal, killpg},
        socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sendto, socket},
    },
    unistd::{Pid, getgid, getppid, getuid},
};

use crate::{
    exit::Exit,
    interrupt::{Interrupt, wait_regardless},
};

/// The hidden subcommand.
const SUBCOMMAND: &str = "enclose";

/// Longest time that the way inside is waited for at a time; waiting is repeated.
const LOOK_WITHIN: Duration = Duration::from_secs(3600);

/// The command that permits what is missing where unprivileged users may not make namespaces.
pub const FIX: &str = "sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000 (as root)";

/// Arguments of the hidden subcommand.
#[derive(Args, Debug)]
pub struct EncloseArguments {
    /// Process id of the one before
    #[arg(long)]
    parent: i32,
    /// Whether the namespaces are there already
    #[arg(long)]
    inside: bool,
    /// What is to be done inside; nothing: only whether it can be
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl EncloseArguments {
    /// Makes the namespaces and waits for what happens in them; or, inside, prepares them and says what is to be done
    /// there.
    ///
    /// # Errors
    /// When the kernel refuses a namespace, or the process before is gone.
    pub fn enter(self) -> anyhow::Result<Entered> {
        prctl::set_pdeathsig(Signal::SIGKILL).context("asking to end with the runner")?;
        if self.inside {
            // The process before has no id in this namespace; the machine's own /proc, still mounted, knows it.
            if !Path::new("/proc").join(self.parent.to_string()).exists() {
                bail!("the runner ended before its namespaces were made");
            }
            prepare()?;
            return Ok(Entered::Inside(self.arguments));
        }
        if getppid().as_raw() != self.parent {
            bail!("the runner ended before its namespaces were made");
        }
        make()?;
        let mut child = start(&self.arguments, true)?;
        // Signals are for the first process inside, which is in this process's group. They are only blocked here: a
        // process whose children live in another namespace of process ids may not have threads.
        SigSet::all().thread_block().context("blocking signals")?;
        let status = child.wait().context("waiting for what happens inside")?;
        Ok(Entered::Ended(code(status)))
    }
}

/// What entering came to.
pub enum Entered {
    /// This is the first process inside: go on with these arguments.
    Inside(Vec<OsString>),
    /// What happened inside has ended, with this exit code.
    Ended(Exit),
}

/// Why namespaces cannot be made here; `None` when they can.
#[must_use]
pub fn missing() -> Option<String> {
    let tried = start(&[], false).and_then(|child| child.wait_with_output().context("waiting for a try"));
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("{error:#}")),
    }
}

/// Goes on inside with `arguments` of this program, and passes on what the user asks; how it ended.
///
/// # Errors
/// When it cannot be started.
pub fn go_on_inside(arguments: &[OsString], interrupt: &Interrupt) -> anyhow::Result<Exit> {
    let mut child = start(arguments, false)?;
    let group = Pid::from_raw(i32::try_from(child.id()).context("process ids fit in 31 bits")?);
    let mut told = interrupt.count();
    loop {
        let ended = wait_regardless(LOOK_WITHIN, || {
            while told < interrupt.count() {
                told += 1;
                // It fails only when everything has ended.
                let _ = killpg(group, Signal::SIGINT);
            }
            child.try_wait().transpose()
        });
        if let Some(status) = ended {
            return Ok(code(status.context("waiting for what happens inside")?));
        }
    }
}

/// Starts the next process of the way inside: in a group of its own at first, so that a Ctrl-C on the terminal reaches
/// only the outermost, which passes it on.
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
        eprintln!("repro: what ran in the private namespace was ended by signal {signal}");
    }
    match status.code() {
        Some(0) => Exit::Done,
        Some(2) => Exit::Usage,
        Some(3) => Exit::Invalid,
        Some(4) => Exit::NotHeld,
        _ => Exit::Failed,
    }
}

/// Enters namespaces of its own; the user that this is becomes root in them.
fn make() -> anyhow::Result<()> {
    let (user, group) = (getuid(), getgid());
    let apart =
        CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNET;
    unshare(apart).context("this user may not make namespaces")?;
    let write = |file: &str, text: String| {
        let path = Path::new("/proc/self").join(file);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("0 {user} 1"))?;
    write("gid_map", format!("0 {group} 1"))
}

/// What the first process inside finds missing: its own mounts, a view of its own processes, the loopback device.
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
