//! A running component: where it is reached, how it is shut down, and how it ended.

use std::{panic::resume_unwind, time::Duration};

use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// Longest wait of a component that shuts down for its peer to read the last messages. A peer that does not read them
/// must not hold up the shutdown.
pub const SHUTDOWN_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// A running component with the addresses `A`, which fails with `E`. Dropping it aborts the component.
#[derive(Debug)]
pub struct Handle<A, E> {
    addresses: A,
    shutdown: CancellationToken,
    task: AbortOnDropHandle<Result<(), E>>,
}

impl<A, E: Send + 'static> Handle<A, E> {
    /// Runs a component that is bound to `addresses` as a task. `run` receives the token that [`Self::shutdown`]
    /// cancels.
    pub fn spawn<F>(addresses: A, run: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let shutdown = CancellationToken::new();
        let task = AbortOnDropHandle::new(tokio::spawn(run(shutdown.clone())));
        Self { addresses, shutdown, task }
    }

    /// Returns the addresses that are bound, with the ports that were chosen for port 0.
    pub fn addresses(&self) -> &A {
        &self.addresses
    }

    /// Requests the component to shut down, for which [`Self::stopped`] waits.
    pub fn shutdown(&self) {
        self.shutdown.cancel();
    }

    /// Waits until the component has stopped, on request or by itself.
    ///
    /// # Errors
    /// If it failed.
    ///
    /// # Panics
    /// If it panicked: a program must not go on as if it had ended in order.
    pub async fn stopped(self) -> Result<(), E> {
        match self.task.await {
            Ok(outcome) => outcome,
            Err(panicked) => resume_unwind(panicked.into_panic()),
        }
    }

    /// Runs the component until `shutdown` is cancelled, then shuts it down. Returns when it has stopped, which may be
    /// earlier.
    ///
    /// # Errors
    /// If it failed.
    ///
    /// # Panics
    /// If it panicked.
    pub async fn run_until(self, shutdown: CancellationToken) -> Result<(), E> {
        let own_shutdown = self.shutdown.clone();
        let mut stopped = std::pin::pin!(self.stopped());
        tokio::select! {
            biased;
            () = shutdown.cancelled() => own_shutdown.cancel(),
            outcome = &mut stopped => return outcome,
        }
        stopped.await
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_component_runs_until_it_is_shut_down_or_ends_by_itself() {
        let waiting = Handle::spawn((), |shutdown| async move {
            shutdown.cancelled().await;
            Err::<(), _>("shut down")
        });
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        assert_eq!(waiting.run_until(shutdown).await, Err("shut down"));
        let failing = Handle::spawn(7, |_| async { Err::<(), _>("failed") });
        assert_eq!(failing.addresses(), &7);
        assert_eq!(failing.run_until(CancellationToken::new()).await, Err("failed"));
    }

    #[tokio::test]
    async fn dropping_the_handle_aborts_the_component() {
        let (held_by_component, dropped) = oneshot::channel::<()>();
        let handle = Handle::spawn((), |_| async move {
            std::future::pending::<()>().await;
            drop(held_by_component);
            Ok::<_, ()>(())
        });
        drop(handle);
        assert!(dropped.await.is_err(), "what the component held is dropped");
    }

    #[tokio::test]
    #[should_panic(expected = "a bug in the component")]
    async fn a_panic_of_the_component_is_a_panic_of_its_program() {
        let handle = Handle::spawn((), |_| async {
            assert!(std::hint::black_box(false), "a bug in the component");
            Ok::<_, ()>(())
        });
        let _ = handle.stopped().await;
    }
}
