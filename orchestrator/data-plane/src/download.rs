//! A response body on its way to the client. While it streams it owns the running invocation: its connection and its
//! slot.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;
use tokio::time::{Sleep, sleep_until};

use crate::{
    clients::{OpenRequest, Part},
    config::Limits,
    headers,
    running::Running,
};

/// The reason why a response ended early. The client sees a truncated message, never a complete one.
#[derive(Debug, Error)]
pub(crate) enum DownloadError {
    /// The sandbox failed after its response had begun.
    #[error("the sandbox failed within its response")]
    Upstream(#[source] hyper::Error),
    /// The response's trailer section is larger than allowed.
    #[error("the response's trailer section is larger than allowed")]
    TrailersTooLarge,
    /// The function's time-out passed within its response.
    #[error("the function took longer than its time-out")]
    Timeout,
    /// The client left too much unread, and unread responses exceed their bound.
    #[error("the client leaves too much of its responses unread")]
    Unsent,
}

pub(crate) struct Download {
    content: Content,
    /// Rest of the current frame.
    remaining: Bytes,
    /// Trailers, if they are here.
    trailers: Option<HeaderMap>,
    /// Keeps the request open until its response has left.
    open: Option<OpenRequest>,
}

enum Content {
    /// The rest of the body is here.
    Whole(Bytes),
    /// The sandbox is still sending it.
    Flowing(Pin<Box<Flow>>),
}

/// The part of a sandbox's response that arrived together with its head. Reading it ahead keeps a small response in one
/// write.
pub(crate) enum Prefetched {
    /// The whole body and the trailers.
    Whole(Bytes, Option<HeaderMap>),
    /// The first frames, or nothing.
    Part(InitialFrames),
}

/// The first frames of a body in order: two, so that they include the trailers of a body in one piece.
pub(crate) type InitialFrames = [Option<Frame<Bytes>>; 2];

impl Prefetched {
    /// Reads the frames that are available.
    ///
    /// # Errors
    /// Returns an error if the body is broken already. Nothing of the response has gone to the client then.
    pub(crate) fn read(
        running: &mut Running,
        incoming: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Result<Self, DownloadError> {
        if incoming.is_end_stream() {
            return Ok(Self::Whole(Bytes::new(), None));
        }
        let limits = &running.slot().plane().config.limits;
        let first = match read_frame(incoming, limits, cx)? {
            Poll::Pending => return Ok(Self::Part([None, None])),
            Poll::Ready(None) => return Ok(Self::Whole(Bytes::new(), None)),
            Poll::Ready(Some(frame)) => frame,
        };
        let first = match first.into_data() {
            Ok(data) => data,
            Err(frame) => return Ok(Self::Whole(Bytes::new(), frame.into_trailers().ok())),
        };
        if incoming.is_end_stream() {
            return Ok(Self::Whole(first, None));
        }
        // Without this the library would not parse the next frame, although it has been received.
        running.drive(cx);
        let limits = &running.slot().plane().config.limits;
        match read_frame(incoming, limits, cx)? {
            Poll::Pending => Ok(Self::Part([Some(Frame::data(first)), None])),
            Poll::Ready(None) => Ok(Self::Whole(first, None)),
            Poll::Ready(Some(second)) => Ok(match second.into_trailers() {
                Ok(trailers) => Self::Whole(first, Some(trailers)),
                Err(second) => Self::Part([Some(Frame::data(first)), Some(second)]),
            }),
        }
    }
}

fn read_frame(
    incoming: &mut Incoming,
    limits: &Limits,
    cx: &mut Context<'_>,
) -> Result<Poll<Option<Frame<Bytes>>>, DownloadError> {
    match Pin::new(incoming).poll_frame(cx) {
        Poll::Pending => Ok(Poll::Pending),
        Poll::Ready(None) => Ok(Poll::Ready(None)),
        Poll::Ready(Some(Err(error))) => Err(DownloadError::Upstream(error)),
        Poll::Ready(Some(Ok(frame))) => match frame.trailers_ref() {
            Some(fields) if !headers::fits(fields, limits) => Err(DownloadError::TrailersTooLarge),
            _ => Ok(Poll::Ready(Some(frame))),
        },
    }
}

struct Flow {
    /// Frames read ahead.
    prefetched: InitialFrames,
    incoming: Incoming,
    /// `None` once the sandbox has completed it. If it is dropped earlier, its slot stays in use until the sandbox has
    /// closed the connection.
    running: Option<Running>,
    deadline: Pin<Box<Sleep>>,
}

impl Download {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self { content: Content::Whole(bytes), remaining: Bytes::new(), trailers: None, open: None }
    }

    /// The body of a sandbox's response. If all of it has arrived, the invocation ends now.
    pub(crate) fn begin(running: Running, prefetched: Prefetched, incoming: Incoming, cx: &mut Context<'_>) -> Self {
        match prefetched {
            Prefetched::Whole(bytes, mut trailers) => {
                running.complete(cx);
                trailers.iter_mut().for_each(headers::trailers);
                Self { trailers, ..Self::whole(bytes) }
            }
            Prefetched::Part(prefetched) => Self::flowing(prefetched, incoming, running, cx),
        }
    }

    /// Keeps `open` until this body has left.
    pub(crate) fn counting(mut self, mut open: OpenRequest) -> Self {
        match &self.content {
            Content::Whole(bytes) => open.set_whole_body(bytes.len()),
            Content::Flowing(flow) => open.set_streaming_until(flow.deadline.deadline()),
        }
        self.open = Some(open);
        self
    }

    fn flowing(prefetched: InitialFrames, incoming: Incoming, running: Running, cx: &mut Context<'_>) -> Self {
        let mut deadline = Box::pin(sleep_until(running.deadline()));
        // The timer must wake this task even if the body is not polled because the client reads nothing. If it has
        // passed already, the first poll of the body returns the error.
        let _ = deadline.as_mut().poll(cx);
        let flow = Flow { prefetched, incoming, running: Some(running), deadline };
        Self { content: Content::Flowing(Box::pin(flow)), remaining: Bytes::new(), trailers: None, open: None }
    }
}

impl Flow {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, DownloadError>>> {
        let Some(running) = &mut self.running else { return Poll::Ready(None) };
        // Checked before the frames: a function that always has one ready would outlive its time-out.
        if self.deadline.as_mut().poll(cx).is_ready() {
            self.running = None;
            return Poll::Ready(Some(Err(DownloadError::Timeout)));
        }
        let [first, second] = &mut self.prefetched;
        let item = match first.take().or_else(|| second.take()) {
            Some(frame) => Some(Ok(frame)),
            None => {
                running.drive(cx);
                ready!(Pin::new(&mut self.incoming).poll_frame(cx))
            }
        };
        match item {
            Some(Ok(frame)) if frame.is_trailers() => {
                let limits = &running.slot().plane().config.limits;
                let mut trailers = frame.into_trailers().unwrap_or_default();
                let fits = headers::fits(&trailers, limits);
                // Trailers are the end of the body.
                self.complete(cx);
                headers::trailers(&mut trailers);
                Poll::Ready(Some(if fits {
                    Ok(Frame::trailers(trailers))
                } else {
                    Err(DownloadError::TrailersTooLarge)
                }))
            }
            Some(Ok(frame)) => {
                if self.prefetched[1].is_none() && self.incoming.is_end_stream() {
                    self.complete(cx);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            None => {
                self.complete(cx);
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                self.running = None;
                Poll::Ready(Some(Err(DownloadError::Upstream(error))))
            }
        }
    }

    fn complete(&mut self, cx: &mut Context<'_>) {
        if let Some(running) = self.running.take() {
            running.complete(cx);
        }
    }
}

impl Body for Download {
    type Data = Part;
    type Error = DownloadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Part>, DownloadError>>> {
        let Self { content, remaining, trailers, open } = &mut *self;
        // Every body is given its open request before it is sent.
        let Some(open) = open else { return Poll::Ready(None) };
        if open.must_end() {
            return Poll::Ready(Some(Err(DownloadError::Unsent)));
        }
        if !open.may_continue() {
            return Poll::Pending;
        }
        while remaining.is_empty() {
            let item = match content {
                Content::Whole(bytes) if bytes.is_empty() => trailers.take().map(|fields| Ok(Frame::trailers(fields))),
                Content::Whole(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
                Content::Flowing(flow) => {
                    let item = ready!(flow.poll_next(cx));
                    match item {
                        Some(Err(_)) => open.fail_early(),
                        _ if flow.running.is_none() => open.set_complete(),
                        _ => {}
                    }
                    item
                }
            };
            let frame = match item {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                // Empty frames are skipped, because some clients close a connection for them.
                Ok(bytes) => *remaining = bytes,
                Err(frame) => {
                    // A frame without data is trailers.
                    let fields = frame.into_trailers().unwrap_or_default();
                    return Poll::Ready(Some(Ok(Frame::trailers(fields))));
                }
            }
        }
        let bytes = remaining.split_to(remaining.len().min(open.max_part_bytes()));
        let part = open.part(bytes, cx.waker());
        Poll::Ready(Some(part.map(Frame::data).ok_or(DownloadError::Unsent)))
    }

    fn is_end_stream(&self) -> bool {
        let is_given = match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Flowing(flow) => flow.running.is_none(),
        };
        // The end of a held stream has to follow its last part: once the library has the end, the stream cannot be
        // reset.
        is_given
            && self.remaining.is_empty()
            && self.trailers.is_none()
            && self.open.as_ref().is_none_or(OpenRequest::may_continue)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            // A stated length excludes trailers in HTTP/1.1.
            Content::Whole(_) if self.trailers.is_some() => SizeHint::default(),
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Flowing(flow) => {
                let prefetched = flow.prefetched.iter().flatten().filter_map(Frame::data_ref);
                let prefetched: u64 = prefetched.map(|data| data.len() as u64).sum();
                flow.incoming
                    .size_hint()
                    .exact()
                    .map_or_else(SizeHint::default, |remaining| SizeHint::with_exact(remaining + prefetched))
            }
        }
    }
}
