//! A request body on its way to a sandbox: streamed, bounded, and retained while a retry may need it.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU32},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;

mod retained;
mod sending;

pub(crate) use self::sending::UploadWatch;
use self::{
    retained::Retained,
    sending::{Piece, Sending},
};
use crate::{clients::Client, config::Limits, headers};

/// The reason why a request body ended early.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum UploadError {
    /// The client sent more than allowed.
    #[error("the request's body is larger than allowed")]
    TooLarge,
    /// The client's trailer section is larger than allowed.
    #[error("the request's trailer section is larger than allowed")]
    TrailersTooLarge,
    /// The client went away or broke the protocol.
    #[error("the client did not finish the request's body")]
    Client,
}

impl UploadError {
    /// Classifies an error of the HTTP library, which reports too large trailers only in words.
    fn of_library(error: &hyper::Error) -> Self {
        // If its text changes, too large trailers become a plain `bad-request`.
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        if cause.starts_with("chunk trailers") { Self::TrailersTooLarge } else { Self::Client }
    }
}

/// A request body as one attempt sends it.
pub(crate) enum Upload {
    /// The end of the body, or no body.
    Empty,
    /// Read from the shared source, from the beginning.
    Shared {
        /// The source, shared by all attempts.
        source: Sending,
        /// Bytes that this attempt has sent.
        sent: u64,
    },
}

/// A request body as the client sends it.
pub(crate) struct UploadSource {
    state: Mutex<Source>,
    /// Attempts that send it, and pieces that are not written yet: of the current attempt, and of earlier ones that
    /// have not ended.
    shares: AtomicU32,
    hint: SizeHint,
    /// It is retained for another attempt.
    may_repeat: bool,
    client: Arc<Client>,
}

struct Source {
    incoming: Incoming,
    /// All that was read, as long as it may be retained.
    kept: Retained,
    trailers: Option<HeaderMap>,
    read_bytes: u64,
    ended: bool,
    error: Option<UploadError>,
}

type Item = Option<Result<Frame<Bytes>, UploadError>>;

impl UploadSource {
    /// The body of a request; `None` if it has none. If it may be sent again, up to `limits.retained_body` is retained.
    pub(crate) fn new(incoming: Incoming, client: &Arc<Client>, may_repeat: bool) -> Option<Arc<Self>> {
        if incoming.is_end_stream() {
            return None;
        }
        let hint = incoming.size_hint();
        let retained = if may_repeat { client.limits().retained_body.as_u64() } else { 0 };
        let state = Source {
            incoming,
            kept: Retained::new(retained),
            trailers: None,
            read_bytes: 0,
            ended: false,
            error: None,
        };
        let (state, shares) = (Mutex::new(state), AtomicU32::new(0));
        Some(Arc::new(Self { state, shares, hint, may_repeat: retained > 0, client: client.clone() }))
    }

    /// Returns true if another attempt can send the same body: nothing was consumed, or all that was is retained.
    pub(crate) fn can_repeat(&self) -> bool {
        let state = self.lock();
        state.error.is_none() && (state.kept.is_whole() || (state.read_bytes == 0 && !state.ended))
    }

    /// Returns true if it is retained for another attempt.
    pub(crate) fn may_repeat(&self) -> bool {
        self.may_repeat
    }

    /// Returns true if the client announced its length.
    pub(crate) fn has_known_length(&self) -> bool {
        self.hint.exact().is_some()
    }

    pub(crate) fn error(&self) -> Option<UploadError> {
        self.lock().error
    }

    /// The frame after the first `sent` bytes.
    fn poll_next(&self, sent: u64, cx: &mut Context<'_>) -> Poll<Item> {
        let mut state = self.lock();
        if let Some(error) = state.error {
            return Poll::Ready(Some(Err(error)));
        }
        if state.kept.is_whole() && sent < state.read_bytes {
            return Poll::Ready(Some(Ok(Frame::data(state.kept.after(sent)))));
        }
        if state.ended {
            return Poll::Ready(state.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let item = ready!(state.poll_read(self, cx));
        if state.ended {
            self.client.upload_ended();
        }
        Poll::Ready(item)
    }

    fn lock(&self) -> MutexGuard<'_, Source> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    fn poll_read(&mut self, source: &UploadSource, cx: &mut Context<'_>) -> Poll<Item> {
        let limits = source.client.limits();
        let frame = match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            None => {
                self.ended = true;
                return Poll::Ready(None);
            }
            Some(Err(error)) => return Poll::Ready(Some(self.fail(UploadError::of_library(&error)))),
            Some(Ok(frame)) => frame,
        };
        Poll::Ready(Some(match frame.into_data() {
            Ok(data) => self.take_data(data, source, limits),
            Err(frame) => self.take_trailers(frame.into_trailers().unwrap_or_default(), limits),
        }))
    }

    fn take_data(&mut self, data: Bytes, source: &UploadSource, limits: &Limits) -> Result<Frame<Bytes>, UploadError> {
        self.read_bytes += data.len() as u64;
        if self.read_bytes > limits.body.as_u64() {
            return self.fail(UploadError::TooLarge);
        }
        self.kept.push(&data, source.hint.exact());
        // A body of known length is not polled after its last byte.
        self.ended |= self.incoming.is_end_stream();
        Ok(Frame::data(data))
    }

    fn take_trailers(&mut self, mut trailers: HeaderMap, limits: &Limits) -> Result<Frame<Bytes>, UploadError> {
        self.ended = true;
        if !headers::fits(&trailers, limits) {
            return self.fail(UploadError::TrailersTooLarge);
        }
        headers::trailers(&mut trailers);
        // Only a retry needs them again, and it needs the whole body.
        self.trailers = Some(trailers.clone()).filter(|_| self.kept.is_whole());
        Ok(Frame::trailers(trailers))
    }

    fn fail(&mut self, error: UploadError) -> Result<Frame<Bytes>, UploadError> {
        self.error = Some(error);
        Err(error)
    }
}

impl Upload {
    pub(crate) fn of(source: Arc<UploadSource>) -> Self {
        Self::Shared { source: Sending::begin(source), sent: 0 }
    }

    /// A watch that shows whether it is still being sent.
    pub(crate) fn watch(&self) -> UploadWatch {
        match self {
            Self::Empty => UploadWatch::default(),
            Self::Shared { source, .. } => source.watch(),
        }
    }
}

impl Body for Upload {
    type Data = Piece;
    type Error = UploadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, UploadError>>> {
        let Self::Shared { source, sent } = &mut *self else { return Poll::Ready(None) };
        let item = match ready!(source.source().poll_next(*sent, cx)) {
            // The error is repeated at each poll.
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            Some(Ok(frame)) => {
                *sent += frame.data_ref().map_or(0, |data| data.len() as u64);
                Some(Ok(frame.map_data(|data| source.piece(data))))
            }
            None => None,
        };
        // The body ends with trailers, or without any.
        let is_over = item.as_ref().is_none_or(|frame| frame.as_ref().is_ok_and(Frame::is_trailers));
        if is_over || self.is_end_stream() {
            *self = Self::Empty;
        }
        Poll::Ready(item)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Shared { source, sent } => {
                let state = source.source().lock();
                *sent >= state.read_bytes
                    && state.trailers.is_none()
                    && (state.ended || (state.error.is_none() && state.incoming.is_end_stream()))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Shared { source, .. } => source.source().hint,
        }
    }
}
