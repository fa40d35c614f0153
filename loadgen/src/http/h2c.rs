//! Invocations over HTTP/2 without TLS: few connections with many streams, and another connection when all are full.
//!
//! The number of streams per connection is bounded by what the system allows, so that no request waits unseen inside
//! this process for a stream to become free.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use record::Outcome;
use thiserror::Error;
use tokio::{sync::OnceCell, time::timeout};

use crate::{
    http::{
        connection::{OWN_LIMIT, is_own_limit},
        response::MAX_RESPONSE_BYTES,
        result::InvocationResult,
        target::Connections,
        timestamped::{TimestampedStream, UnstampedRequests},
    },
    measure::ledger::Finished,
    replay::Replay,
    signals::Signals,
};

/// Streams used at once on one connection: the number a client may assume before the system has announced its own.
const STREAMS_PER_CONNECTION: usize = 100;

/// Head of a response as HTTP/2 counts it, 32 bytes more for each field: as much as is taken over HTTP/1.1. The
/// library's own bound, 16 KiB, is less than a data plane passes on.
const MAX_HEAD_BYTES: u32 = 1 << 20;

/// One connection, which may not be open yet.
#[derive(Default)]
struct Channel {
    sender: OnceCell<SendRequest<Empty<Bytes>>>,
    accepted: Arc<UnstampedRequests>,
    streams: AtomicUsize,
    /// Streams the system allows, once it has said so; 0 before.
    allowed: Arc<AtomicUsize>,
}

impl Channel {
    fn has_room(&self) -> bool {
        let allowed = match self.allowed.load(Ordering::Relaxed) {
            0 => STREAMS_PER_CONNECTION,
            allowed => allowed.min(STREAMS_PER_CONNECTION),
        };
        self.streams.load(Ordering::Relaxed) < allowed
    }

    fn is_closed(&self) -> bool {
        self.sender.get().is_some_and(SendRequest::is_closed)
    }
}

/// A stream of a channel; given back when dropped.
struct Stream(Arc<Channel>);

impl Stream {
    fn of(channel: &Arc<Channel>) -> Self {
        channel.streams.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(channel))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// HTTP/2 towards the target of a replay. Belongs to one I/O thread: its connections live on that thread's runtime.
pub(crate) struct H2c {
    pub(crate) replay: Arc<Replay>,
    /// Connections per address.
    channels: Vec<Mutex<Vec<Arc<Channel>>>>,
}

/// An exchange failed.
#[derive(Debug, Error)]
enum ExchangeError {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("cannot connect: {0}")]
    Handshake(hyper::Error),
    #[error("connection closed before the request was written: {0}")]
    Unwritten(hyper::Error),
    #[error("connection ended without a response: {0}")]
    Exchange(hyper::Error),
    #[error("the response was cut off: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

impl H2c {
    /// No connections yet.
    pub(crate) fn new(replay: Arc<Replay>) -> Self {
        let channels = replay.target.addresses.iter().map(|_| Mutex::default()).collect();
        Self { replay, channels }
    }

    /// Sends an invocation and notes its end.
    pub(crate) async fn send(self: Arc<Self>, index: usize) {
        let accepted_ns = self.replay.clock.now_ns();
        let left = self.replay.target.timeout;
        let stream = self.stream(index, self.replay.target.connections == Connections::Fresh);
        let mut ended = self.exchange(&stream, index, left).await;
        if matches!(&ended, Some(Err(ExchangeError::Unwritten(_)))) {
            // The connection had been closed while idle and gave the request back: it goes out on a new one.
            let spent = self.replay.clock.now_ns().saturating_sub(accepted_ns);
            let stream = self.stream(index, true);
            ended = self.exchange(&stream, index, left.saturating_sub(Duration::from_nanos(spent))).await;
        }
        self.replay.ledger.sent(index, accepted_ns);
        let finished = match ended {
            Some(Ok(finished)) => finished,
            Some(Err(error)) => self.failed(index, &error),
            None => {
                let within = humantime::format_duration(left);
                let now_ns = self.replay.clock.now_ns();
                Finished::failed(index, now_ns, Outcome::Timeout, format!("no response within {within}"))
            }
        };
        self.replay.ledger.finish(finished);
    }

    /// One exchange; nothing when it took too long.
    async fn exchange(&self, stream: &Stream, index: usize, left: Duration) -> Option<Result<Finished, ExchangeError>> {
        timeout(left, Box::pin(self.converse(&stream.0, index))).await.ok()
    }

    async fn converse(&self, channel: &Channel, index: usize) -> Result<Finished, ExchangeError> {
        let replay = &self.replay;
        if !channel.sender.initialized() {
            // From here the system decides how long it takes: connecting is part of sending.
            replay.ledger.sent(index, replay.clock.now_ns());
        }
        let mut sender = channel.sender.get_or_try_init(|| self.connect(channel, index)).await?.clone();
        let name = replay.function_of(index);
        let due = replay.due(index).ok_or_else(|| ExchangeError::Connect(io::ErrorKind::NotFound.into()))?;
        let request = replay.requests.h2c(due).ok_or_else(|| ExchangeError::Connect(io::ErrorKind::NotFound.into()))?;
        channel.accepted.push(index);
        let response = sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
            Some(_) => ExchangeError::Unwritten(error.into_error()),
            None => ExchangeError::Exchange(error.into_error()),
        })?;
        let first_byte_ns = replay.clock.now_ns();
        let (head, body) = response.into_parts();
        let (mut signals, profile) = (Signals::default(), &replay.target.profile);
        for (name, value) in &head.headers {
            profile.signals.read_header(&mut signals, name.as_str(), value.as_bytes());
        }
        let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await.map_err(ExchangeError::Body)?.to_bytes();
        let done_ns = replay.clock.now_ns();
        profile.signals.read_body(&mut signals, &body);
        Ok(Finished {
            index,
            first_byte_ns: Some(first_byte_ns),
            done_ns: Some(done_ns),
            status: Some(head.status.as_u16()),
            signals,
            result: InvocationResult::of(profile.response, head.status.as_u16(), &body, name),
        })
    }

    /// A stream on a connection with room, or on a new one.
    fn stream(&self, index: usize, fresh: bool) -> Stream {
        if fresh {
            return Stream::of(&Arc::default());
        }
        let address = self.replay.address_of(index);
        // An address is always a position in the target's addresses, for each of which there is a list.
        let mut channels = self.channels[address].lock().unwrap_or_else(PoisonError::into_inner);
        channels.retain(|channel| !channel.is_closed());
        if let Some(channel) = channels.iter().find(|channel| channel.has_room()) {
            return Stream::of(channel);
        }
        let channel = Arc::default();
        channels.push(Arc::clone(&channel));
        Stream::of(&channel)
    }

    async fn connect(&self, channel: &Channel, index: usize) -> Result<SendRequest<Empty<Bytes>>, ExchangeError> {
        let addresses = &self.replay.target.addresses;
        let to = addresses[self.replay.address_of(index)];
        let stream = self.replay.dialler.connect(to).await.map_err(ExchangeError::Connect)?;
        let accepted = Arc::clone(&channel.accepted);
        let io = TokioIo::new(TimestampedStream { stream, accepted, replay: Arc::clone(&self.replay) });
        let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
            .initial_max_send_streams(STREAMS_PER_CONNECTION)
            .max_header_list_size(MAX_HEAD_BYTES)
            .handshake(io)
            .await
            .map_err(ExchangeError::Handshake)?;
        let allowed = Arc::clone(&channel.allowed);
        // How it ends is seen by the exchanges on it.
        drop(tokio::spawn(poll_fn(move |cx| {
            let polled = Pin::new(&mut connection).poll(cx);
            allowed.store(connection.current_max_send_streams(), Ordering::Relaxed);
            polled
        })));
        Ok(sender)
    }

    fn failed(&self, index: usize, error: &ExchangeError) -> Finished {
        let now_ns = self.replay.clock.now_ns();
        match error {
            ExchangeError::Connect(cause) if is_own_limit(cause) => {
                self.replay.ledger.unsend(index);
                let reason = format!("{OWN_LIMIT}: {cause}");
                Finished { done_ns: None, ..Finished::failed(index, now_ns, Outcome::Unsent, reason) }
            }
            _ => Finished::failed(index, now_ns, Outcome::Error, error.to_string()),
        }
    }
}
