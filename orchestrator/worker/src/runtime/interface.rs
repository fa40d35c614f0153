//! The interface between the worker and its runtimes: one trait, and the requests and results of a creation.

use std::{
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures::future::poll_immediate;
use model::SandboxId;
use serde::Serialize;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    creation_limiter::{CreationLimiter, CreationPermit},
    messages::SandboxSpec,
};

/// Work that another task awaits.
pub(crate) type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A way to create sandboxes.
pub(crate) trait Runtime: Send + Sync + 'static {
    /// Starts to serve on whatever the factory bound. Called once, before the first creation.
    fn serve(&self) {}

    /// Creates a sandbox that takes connections. If it fails or is cancelled, nothing is left of the sandbox.
    fn create(&self, request: CreationRequest) -> Task<Result<CreatedSandbox, CreationFailure>>;

    /// Ends a sandbox. Completes when nothing is left of it, and at once if it does not exist.
    fn delete(&self, sandbox: SandboxId) -> Task<()>;

    /// Time that a deletion gives a sandbox to end by itself.
    fn grace(&self) -> Duration;

    /// The newest output of a sandbox, also for some time after its end; `None` if none is kept.
    fn output(&self, sandbox: SandboxId) -> Option<Output>;

    /// The newest output of every sandbox of a function: ended ones in the order of their ends, then the others by age.
    fn outputs(&self, function: &str) -> Vec<Output>;
}

/// The output of one sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Output {
    pub(crate) sandbox: SandboxId,
    /// The exit status or signal; `None` while it runs.
    pub(crate) ended: Option<String>,
    /// Bytes before `text` that are no longer kept.
    pub(crate) dropped_bytes: u64,
    pub(crate) text: String,
}

/// A request to create a sandbox.
#[derive(Clone, Debug)]
pub(crate) struct CreationRequest {
    pub(crate) sandbox: SandboxId,
    /// Index of the node.
    pub(crate) node: usize,
    pub(crate) spec: Arc<SandboxSpec>,
    /// Cancelled when the sandbox is no longer wanted: the creation then fails soon.
    pub(crate) cancel: CancellationToken,
    /// Gets a report when the creation begins and stops to wait.
    pub(crate) progress: mpsc::Sender<(SandboxId, Progress)>,
}

/// The progress of a creation that could not start at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It waits: for other creations, or for this cause.
    Queued(Option<&'static str>),
    /// It waits no longer.
    Started,
}

impl CreationRequest {
    /// Waits for a permit of `limiter`.
    ///
    /// # Errors
    /// If the creation is cancelled before.
    pub(crate) async fn acquire_permit(&self, limiter: &CreationLimiter) -> Result<CreationPermit, CreationFailure> {
        if self.cancel.is_cancelled() {
            return Err(CreationFailure::cancelled());
        }
        let mut permit = pin!(limiter.acquire(self.spec.function));
        // Without a wait there is no progress to report: most creations send none.
        if let Some(permit) = poll_immediate(&mut permit).await {
            return Ok(permit);
        }
        self.wait(None, permit).await
    }

    /// Waits for `resource`, and reports the wait with its `cause`, which is other creations if `None`.
    ///
    /// # Errors
    /// If the creation is cancelled before.
    pub(crate) async fn wait<T>(
        &self,
        cause: Option<&'static str>,
        resource: impl Future<Output = T>,
    ) -> Result<T, CreationFailure> {
        self.report(Progress::Queued(cause)).await;
        // Cancellation comes first: what becomes available at the same moment is then left to others.
        let acquired = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(CreationFailure::cancelled()),
            acquired = resource => acquired,
        };
        self.report(Progress::Started).await;
        Ok(acquired)
    }

    /// Waits while the channel is full. A send fails only after the owner has ended.
    async fn report(&self, progress: Progress) {
        let _ = self.progress.send((self.sandbox, progress)).await;
    }
}

/// A sandbox that takes connections.
pub(crate) struct CreatedSandbox {
    pub(crate) address: SocketAddr,
    /// From the start of the creation to a started sandbox.
    pub(crate) create: Duration,
    /// From there to the first successful probe.
    pub(crate) ready: Duration,
    /// The parts of `create`, named by the runtime.
    pub(crate) steps: Vec<(&'static str, Duration)>,
    /// Completes with the cause when the sandbox has ended, commanded or not. `None` if it cannot end by itself.
    pub(crate) exit: Option<Task<String>>,
}

/// A sandbox could not be created.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub(crate) struct CreationFailure {
    pub(crate) message: String,
    /// Another attempt cannot succeed.
    pub(crate) permanent: bool,
}

impl CreationFailure {
    /// A failure after which another attempt may succeed.
    pub(crate) fn transient(message: impl Into<String>) -> Self {
        Self { message: message.into(), permanent: false }
    }

    pub(crate) fn permanent(message: impl Into<String>) -> Self {
        Self { message: message.into(), permanent: true }
    }

    pub(crate) fn cancelled() -> Self {
        Self::transient("cancelled")
    }
}
