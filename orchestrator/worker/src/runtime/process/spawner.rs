//! The thread that starts all child processes.
//!
//! A child's parent-death signal follows the thread that started it, so that thread must live as long as the worker:
//! when it ends, for whatever reason, the kernel kills every sandbox.

use std::{io, process::Command, sync::mpsc, thread};

use tokio::{process::Child, runtime::Handle, sync::oneshot};

/// Processes waiting to be started; the bound on parallel starts keeps them far below it.
const QUEUE: usize = 1024;

/// A process to start, and whom to tell.
struct Request {
    command: Command,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// The sending side. The thread ends when it is dropped.
pub(super) struct Spawner {
    requests: mpsc::SyncSender<Request>,
}

impl Spawner {
    pub(super) fn start() -> io::Result<Self> {
        let (requests, queue) = mpsc::sync_channel::<Request>(QUEUE);
        thread::Builder::new().name("spawner".to_owned()).spawn(move || {
            for request in queue {
                let _entered = request.runtime.enter();
                let child = tokio::process::Command::from(request.command).kill_on_drop(true).spawn();
                // Nobody waits any more: dropping the child kills it, and tokio reaps it.
                let _ = request.reply.send(child);
            }
        })?;
        Ok(Self { requests })
    }

    /// Starts a process. The child is killed when it is dropped.
    pub(super) async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (reply, child) = oneshot::channel();
        let request = Request { command, runtime: Handle::current(), reply };
        let gone = || io::Error::other("the thread that starts processes is gone");
        self.requests.try_send(request).map_err(|_| gone())?;
        child.await.map_err(|_| gone())?
    }
}
