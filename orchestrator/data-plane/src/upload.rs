//! A request's body on its way to a sandbox: streamed, bounded, and kept while a second attempt may need it.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;

/// Why a body ended early.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum UploadError {
    /// The client sent more than allowed.
    #[error("the request's body is larger than allowed")]
    TooLarge,
    /// The client went away or broke the protocol.
    #[error("the client did not finish the request's body")]
    Client,
}

/// Bounds of a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UploadLimits {
    /// Most bytes accepted.
    pub(crate) most: u64,
    /// Most bytes kept for another attempt; 0 keeps none.
    pub(crate) kept: u64,
}

/// A request's body as one attempt sees it.
pub(crate) enum Upload {
    /// There is none.
    Empty,
    /// Read from the client, from the beginning.
    Shared {
        /// What all attempts share.
        source: Arc<UploadSource>,
        /// Frames of it that this attempt has sent.
        sent: usize,
    },
}

/// A request's body as the client sends it.
pub(crate) struct UploadSource {
    state: Mutex<Source>,
    hint: SizeHint,
    limits: UploadLimits,
}

struct Source {
    incoming: Incoming,
    /// What was read, while all of it can be kept.
    kept: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    read_bytes: u64,
    /// Whether everything read so far is in `kept`.
    whole: bool,
    ended: bool,
    error: Option<UploadError>,
}

impl UploadSource {
    /// The body of a request; `None` when it has none.
    pub(crate) fn new(incoming: Incoming, limits: UploadLimits) -> Option<Arc<Self>> {
        if incoming.is_end_stream() {
            return None;
        }
        let hint = incoming.size_hint();
        let state = Source {
            incoming,
            kept: Vec::new(),
            trailers: None,
            read_bytes: 0,
            whole: limits.kept > 0,
            ended: false,
            error: None,
        };
        Some(Arc::new(Self { state: Mutex::new(state), hint, limits }))
    }

    /// Whether another attempt can send the same body: nothing of it was consumed, or all that was is still held.
    pub(crate) fn can_repeat(&self) -> bool {
        let state = self.lock();
        state.error.is_none() && (state.whole || (state.read_bytes == 0 && !state.ended))
    }

    /// Whether it is being kept for another attempt.
    pub(crate) fn may_repeat(&self) -> bool {
        self.limits.kept > 0
    }

    /// Why the body ended early, if it did.
    pub(crate) fn error(&self) -> Option<UploadError> {
        self.lock().error
    }

    fn poll_next(&self, sent: usize, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let mut state = self.lock();
        let state = &mut *state;
        if let Some(error) = state.error {
            return Poll::Ready(Some(Err(error)));
        }
        if let Some(kept) = state.kept.get(sent) {
            return Poll::Ready(Some(Ok(Frame::data(kept.clone()))));
        }
        if state.ended {
            let trailers = if sent == state.kept.len() { state.trailers.clone() } else { None };
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = match std::task::ready!(Pin::new(&mut state.incoming).poll_frame(cx)) {
            None => {
                state.ended = true;
                return Poll::Ready(None);
            }
            Some(Err(_)) => return state.fail(UploadError::Client),
            Some(Ok(frame)) => frame,
        };
        match frame.into_data() {
            Ok(data) => state.take_data(data, self.limits),
            Err(frame) => {
                state.ended = true;
                let trailers = frame.into_trailers().ok();
                state.trailers = trailers.clone().filter(|_| state.whole);
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Source> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    fn fail(&mut self, error: UploadError) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        self.error = Some(error);
        Poll::Ready(Some(Err(error)))
    }

    fn take_data(&mut self, data: Bytes, limits: UploadLimits) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        self.read_bytes += data.len() as u64;
        if self.read_bytes > limits.most {
            return self.fail(UploadError::TooLarge);
        }
        if self.whole && self.read_bytes <= limits.kept {
            self.kept.push(data.clone());
        } else {
            self.whole = false;
            self.kept = Vec::new();
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Shared { source, sent } => {
                let frame = std::task::ready!(source.poll_next(*sent, cx));
                *sent += 1;
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Shared { source, sent } => {
                let state = source.lock();
                *sent >= state.kept.len()
                    && state.trailers.is_none()
                    && (state.ended || (state.error.is_none() && state.incoming.is_end_stream()))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Shared { source, .. } => source.hint,
        }
    }
}
