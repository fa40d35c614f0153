//! Processes that outlive the ones that started them.
//!
//! The runner is the subreaper of everything it starts: orphaned processes of a system become the runner's own children, so
//! they are found by their parent's id. A search by name could find processes of others.

use std::time::Duration;

use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

use crate::{interrupt::wait_regardless, machine::proc::Stat};

/// Time that a process may outlive its parent: the death signal of the parent takes a moment.
const GRACE: Duration = Duration::from_secs(2);

/// Time for killed processes to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes this process the parent of its orphaned descendants.
///
/// # Errors
/// If the kernel does not offer it.
pub fn adopt() -> nix::Result<()> {
    prctl::set_child_subreaper(true)
}

/// Ends every child of this process that is not in `known`, and its descendants; returns those that had to be killed.
///
/// Processes that end by themselves within a short grace are only reaped: they were about to follow their parents.
#[must_use]
pub fn end(known: &[i32]) -> Vec<String> {
    if wait_regardless(GRACE, || strays(known).is_empty().then_some(())).is_some() {
        return Vec::new();
    }
    let mut killed = Vec::new();
    // The children of a killed process become children of this one, so this repeats until there are none.
    let _ = wait_regardless(KILL_TIMEOUT, || {
        let strays = strays(known);
        for stray in &strays {
            let name = format!("{} (process {})", stray.name, stray.pid);
            if kill(Pid::from_raw(stray.pid), Signal::SIGKILL).is_ok() && !killed.contains(&name) {
                killed.push(name);
            }
        }
        strays.is_empty().then_some(())
    });
    killed
}

/// Children of this process that are not in `known` and still live; dead ones are reaped.
fn strays(known: &[i32]) -> Vec<Stat> {
    let own = Pid::this().as_raw();
    let mut children = Stat::read_all().unwrap_or_default();
    children.retain(|stat| stat.parent == own && !known.contains(&stat.pid));
    children.retain(|stat| {
        if stat.state == 'Z' {
            // It cannot fail: a zombie child of this process exists until it is waited for.
            let _ = waitpid(Pid::from_raw(stat.pid), Some(WaitPidFlag::WNOHANG));
        }
        stat.state != 'Z'
    });
    children
}
