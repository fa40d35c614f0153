//! Runtimes: the ways to make and end a sandbox, behind one trait.

pub(crate) mod hollow;
pub(crate) mod process;

use std::{
    net::SocketAddr,
    pin::{Pin, pin},
    time::Duration,
};

use futures::future::poll_immediate;
use model::SandboxId;
use serde::Serialize;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    starts::{Place, Starts},
    state::Spec,
};

/// Work that the owner waits for.
pub(crate) type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A way to make sandboxes.
pub(crate) trait Runtime: Send + Sync + 'static {
    /// Makes a sandbox that takes connections. When it fails or is cancelled, nothing is left of it.
    fn create(&self, order: Order) -> Task<Result<Made, Failure>>;

    /// Ends a sandbox; done when nothing is left of it, also when there was none.
    fn delete(&self, sandbox: SandboxId) -> Task<()>;

    /// The newest output of a sandbox, also for some time after its end; `None` when none is kept.
    fn output(&self, sandbox: SandboxId) -> Option<Output>;

    /// The same of every sandbox of a function: the ended ones in the order of their ends, then the others by age.
    fn outputs(&self, function: &str) -> Vec<Output>;
}

/// What one sandbox wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Output {
    pub(crate) sandbox: SandboxId,
    /// How it ended, if it has.
    pub(crate) ended: Option<String>,
    /// Bytes written before `text` that are not kept.
    pub(crate) dropped_bytes: u64,
    /// Its newest output.
    pub(crate) text: String,
}

/// A sandbox to make.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) sandbox: SandboxId,
    /// The node, as an index.
    pub(crate) node: usize,
    pub(crate) spec: Spec,
    /// Set when the sandbox is no longer wanted: the creation then fails soon.
    pub(crate) cancel: CancellationToken,
    /// Hears of it where the creation has to wait for others.
    pub(crate) progress: mpsc::Sender<(SandboxId, Progress)>,
}

/// Where a creation stands that could not begin at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It waits for its turn among the others, or for what this says.
    Queued(&'static str),
    /// It waits no longer.
    Begun,
}

impl Order {
    /// A place among the creations under way, unless it is cancelled before its turn comes.
    pub(crate) async fn place(&self, starts: &Starts) -> Result<Place, Failure> {
        if self.cancel.is_cancelled() {
            return Err(Failure::cancelled());
        }
        let mut place = pin!(starts.place(self.spec.function));
        if let Some(place) = poll_immediate(&mut place).await {
            return Ok(place);
        }
        self.wait("", place).await
    }

    /// Waits for what it needs, unless it is cancelled before, and reports that it waits: for its turn, or for this `cause`.
    pub(crate) async fn wait<T>(&self, cause: &'static str, needed: impl Future<Output = T>) -> Result<T, Failure> {
        self.report(Progress::Queued(cause)).await;
        let found = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(Failure::cancelled()),
            found = needed => found,
        };
        self.report(Progress::Begun).await;
        Ok(found)
    }

    /// Waits while the owner has many such reports to read; without an owner nobody wants to know.
    async fn report(&self, progress: Progress) {
        let _ = self.progress.send((self.sandbox, progress)).await;
    }
}

/// A sandbox that was made.
pub(crate) struct Made {
    pub(crate) address: SocketAddr,
    /// From the start of the creation to a started sandbox.
    pub(crate) create: Duration,
    /// From there to the first successful probe.
    pub(crate) ready: Duration,
    /// `create`, split as the runtime sees fit.
    pub(crate) steps: Vec<(&'static str, Duration)>,
    /// Done, with the reason, when the sandbox has ended, by itself or not. `None` where it cannot end by itself.
    pub(crate) exit: Option<Task<String>>,
}

/// A sandbox could not be made.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) message: String,
    /// Another attempt cannot succeed.
    pub(crate) permanent: bool,
}

impl Failure {
    pub(crate) fn passing(message: impl Into<String>) -> Self {
        Self { message: message.into(), permanent: false }
    }

    pub(crate) fn permanent(message: impl Into<String>) -> Self {
        Self { message: message.into(), permanent: true }
    }

    pub(crate) fn cancelled() -> Self {
        Self::passing("cancelled")
    }
}
