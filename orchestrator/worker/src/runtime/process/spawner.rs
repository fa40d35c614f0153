//! The thread that starts all child processes.
//!
//! A child's parent-death signal follows the thread that started it, so that thread must live as long as the worker:
//! when it ends, for whatever reason, the kernel kills every sandbox.

use std::{io, process::Command, sync::mpsc, thread};

use tokio::{process::Child, runtime::Handle, sync::oneshot};

/// Processes that wait to be started. The limiter of creations keeps their number far below this bound.
const QUEUE: usize = 1024;

/// A process to start, and the receiver of the result.
struct Request {
    command: Command,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// The sending side of the queue. The thread ends when it is dropped.
pub(super) struct Spawner {
    requests: mpsc::SyncSender<Request>,
}

impl Spawner {
    pub(super) fn start() -> io::Result<Self> {
        let (requests, queue) = mpsc::sync_channel::<Request>(QUEUE);
        thread::Builder::new().name("spawner".to_owned()).spawn(move || {
            for request in queue {
                // The runtime of the creation, which will reap the child and read its output.
                let _entered = request.runtime.enter();
                // Killed on drop, so that a creation that is given up leaves no process.
                let child = tokio::process::Command::from(request.command).kill_on_drop(true).spawn();
                // If the creation was dropped, this drops the child, which kills it; tokio reaps it.
                let _ = request.reply.send(child);
            }
        })?;
        Ok(Self { requests })
    }

    /// Starts a process. The child is killed when it is dropped.
    pub(super) async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (reply, child) = oneshot::channel();
        let request = Request { command, runtime: Handle::current(), reply };
        let gone = || io::Error::other("the thread that starts processes has ended");
        // Without waiting: a full queue must not block the runtime's thread.
        self.requests.try_send(request).map_err(|_| gone())?;
        child.await.map_err(|_| gone())?
    }
}
