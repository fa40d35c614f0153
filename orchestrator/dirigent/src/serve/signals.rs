//! Ctrl-C and SIGTERM: the first ends the daemon cleanly, the second at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a daemon that was not given the time to end cleanly (128 + SIGINT, as a shell reports it).
const HURRIED: i32 = 130;

/// A token that the first signal cancels.
///
/// # Errors
/// If the signals cannot be listened for.
pub(super) fn shutdown_token() -> io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        for raise_priority in [false, true] {
            tokio::select! {
                biased;
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if raise_priority {
                tracing::warn!("ending at once");
                std::process::exit(HURRIED);
            }
            tracing::info!("ending; a second signal ends at once");
            cancelled.cancel();
        }
    });
    Ok(token)
}
