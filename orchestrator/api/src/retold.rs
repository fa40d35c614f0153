//! Failures that are met again and again, as while a part looks for its control plane: each reason is told when it comes
//! up, and then seldom, so that a log says what is the matter without being flooded.

use std::{collections::HashMap, error::Error, time::Duration};

use tokio::time::Instant;
use tonic::Status;

/// A reason that lasts is told again after this long: whoever looks at a log sees it, and an hour of it is sixty lines.
const AGAIN: Duration = Duration::from_secs(60);

/// Peers of which the newest reason is remembered, at most; beyond that each is told each time.
const MAX_REMEMBERED: usize = 4096;

/// What was told last of each peer: an address that was tried, or somebody who was refused.
#[derive(Debug, Default)]
pub struct Retold(HashMap<String, (String, Instant)>);

impl Retold {
    /// Returns true if `reason` is to be told of `peer` now.
    pub fn is_due(&mut self, peer: &str, reason: &str) -> bool {
        let now = Instant::now();
        if self.0.get(peer).is_some_and(|(last, at)| last == reason && now.duration_since(*at) < AGAIN) {
            return false;
        }
        if self.0.len() >= MAX_REMEMBERED {
            self.0.retain(|_, (_, at)| now.duration_since(*at) < AGAIN);
        }
        if self.0.len() < MAX_REMEMBERED || self.0.contains_key(peer) {
            self.0.insert(peer.to_owned(), (reason.to_owned(), now));
        }
        true
    }

    /// After a success every reason is news.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// An error with its causes, on one line; a cause that the text has already is not repeated.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    text
}

/// What is said here of an answer over HTTP/2 that is none of a stream, as that of a data plane's port for invocations.
const NOT_STREAMS: [&str; 2] = ["invalid compression flag", "grpc-status header missing"];

/// What a control plane said when it refused or ended a stream. Where no control plane said it, whatever answered there
/// speaks another protocol, or broke off.
#[must_use]
pub fn describe_refusal(status: &Status) -> String {
    let foreign = NOT_STREAMS.iter().any(|said| status.message().contains(said));
    let cause = match status.source() {
        None if foreign => status.message().to_owned(),
        None => return format!("the control plane refused: {}", status.message()),
        Some(cause) => with_causes(cause),
    };
    format!(
        "no control plane's stream answered there ({cause}); --control-plane wants its port for data planes and workers, \
         which is another one than that for operators"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reason_is_told_when_it_changes_and_then_once_a_minute() {
        let mut retold = Retold::default();
        let mut told = 0;
        for _ in 0..600 {
            told += u32::from(retold.is_due("a:1", "refused"));
            told += u32::from(retold.is_due("b:1", "no such host"));
            tokio::time::advance(Duration::from_millis(250)).await;
        }
        assert_eq!(told, 6, "150 s of two addresses: at 0, 60 and 120 s each");
        assert!(retold.is_due("a:1", "no token") && !retold.is_due("a:1", "no token"));
        retold.clear();
        assert!(retold.is_due("a:1", "no token"), "it was connected in between");
    }

    #[tokio::test(start_paused = true)]
    async fn more_peers_than_are_remembered_are_told_each_time() {
        let mut retold = Retold::default();
        assert!(retold.is_due("worker a", "x") && retold.is_due("worker b", "x"));
        assert!(!retold.is_due("worker a", "x"));
        assert!(retold.is_due("worker a", "y"));
        tokio::time::advance(AGAIN).await;
        assert!(retold.is_due("worker a", "y"));
        assert!((0..MAX_REMEMBERED).all(|number| retold.is_due(&format!("worker {number}"), "x")));
        assert!(retold.is_due("one more", "x") && retold.is_due("one more", "x"));
        assert_eq!(retold.0.len(), MAX_REMEMBERED);
        tokio::time::advance(AGAIN).await;
        assert!(retold.is_due("one more", "x") && !retold.is_due("one more", "x"));
    }
}
