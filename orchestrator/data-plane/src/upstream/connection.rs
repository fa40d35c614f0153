//! One connection to a sandbox, in either protocol, as the invocation that has it uses it.
//!
//! An HTTP/1.1 connection has no task of its own: the invocation drives it, so a warm request wakes nobody else.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use api::Io;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use model::Protocol;
use tokio::sync::oneshot;

use super::monitored_io::{IoMonitor, MonitoredIo};
use crate::{
    config::Limits,
    frames::Frames,
    upload::{Upload, UploadWatch},
};

/// Most bytes of an answer that are read at once: what the HTTP library allows by itself.
const BUFFER_BYTES: usize = 400 * 1024;

/// What comes back on a link: an answer, or why there is none (and the request, if it was never sent).
pub(crate) type UpstreamResponse = Result<Response<Incoming>, TrySendError<Request<Upload>>>;

/// A connection that is this one's alone.
pub(crate) struct UpstreamConnection {
    http_version: HttpVersion,
    monitor: Arc<IoMonitor>,
    /// Whether it was idle between two invocations.
    reused: bool,
}

enum HttpVersion {
    Http1(Box<Http1>),
    Http2 {
        sender: http2::SendRequest<Upload>,
        /// The HTTP library sends it in a task of its own, also when the response is complete.
        upload: UploadWatch,
    },
}

/// Boxed, so that a connection moves in and out of the idle ones as a pointer.
struct Http1 {
    sender: http1::SendRequest<Upload>,
    /// `None` once it has ended.
    connection: Option<http1::Connection<TokioIo<MonitoredIo>, Upload>>,
    /// Its bytes when it has ended: it may have to be waited for that the sandbox closes them.
    ended: Option<MonitoredIo>,
}

impl Http1 {
    /// Moves bytes. Ready when the connection has ended.
    fn poll_drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(connection) = &mut self.connection {
            // Its errors reach the answer or its body.
            let _ = std::task::ready!(connection.poll_without_shutdown(cx));
        }
        // A connection that has ended holds on to a request that it was given and has not begun. Taken apart it hands
        // the request back.
        if let Some(connection) = self.connection.take() {
            self.ended = Some(connection.into_parts().io.into_inner());
        }
        Poll::Ready(())
    }
}

impl UpstreamConnection {
    /// Prepares a fresh connection.
    pub(crate) async fn open(io: Io, protocol: Protocol, limits: &Limits) -> hyper::Result<Self> {
        let frames = (protocol == Protocol::H2c).then(|| Frames::new(0, limits.http2_trailer_block()));
        let (bytes, monitor) = MonitoredIo::new(io, frames);
        let io = TokioIo::new(bytes);
        let http_version = match protocol {
            Protocol::Http1 => {
                let mut builder = http1::Builder::new();
                builder.max_header_size(limits.http1_header_bytes()).max_headers(limits.http1_header_count());
                builder.max_buf_size(BUFFER_BYTES.max(limits.http1_header_bytes()));
                let (sender, connection) = builder.handshake(io).await?;
                HttpVersion::Http1(Box::new(Http1 { sender, connection: Some(connection), ended: None }))
            }
            Protocol::H2c => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.max_header_list_size(limits.http2_header_bytes());
                let (sender, connection) = builder.handshake(io).await?;
                // Ends when the sender is dropped or the sandbox closes; errors reach the sender.
                tokio::spawn(async move { drop(connection.await) });
                HttpVersion::Http2 { sender, upload: UploadWatch::default() }
            }
        };
        Ok(Self { http_version, monitor, reused: false })
    }

    /// Its handle, to break it off.
    pub(crate) fn monitor(&self) -> &Arc<IoMonitor> {
        &self.monitor
    }

    /// Sends a request; the answer comes while [`Self::poll_drive`] is called.
    pub(crate) fn send(
        &mut self,
        request: Request<Upload>,
    ) -> futures::future::Either<
        impl Future<Output = UpstreamResponse> + use<>,
        impl Future<Output = UpstreamResponse> + use<>,
    > {
        self.monitor.begin();
        match &mut self.http_version {
            HttpVersion::Http1(http1) => futures::future::Either::Left(http1.sender.try_send_request(request)),
            HttpVersion::Http2 { sender, upload } => {
                *upload = request.body().watch();
                futures::future::Either::Right(sender.try_send_request(request))
            }
        }
    }

    /// Moves bytes. Ready when the connection has ended.
    pub(crate) fn poll_drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.http_version {
            HttpVersion::Http1(http1) => http1.poll_drive(cx),
            HttpVersion::Http2 { .. } => Poll::Pending,
        }
    }

    /// Whether an idle connection can still be used. `doubtful` asks the operating system, too, whether the sandbox has
    /// ended it: the runtime hears of that later, when it is busy.
    pub(crate) fn is_alive(&mut self, doubtful: bool, cx: &mut Context<'_>) -> bool {
        self.monitor.peek_when_empty(doubtful);
        let is_open = self.poll_drive(cx).is_pending();
        self.monitor.peek_when_empty(false);
        is_open && self.is_ready()
    }

    /// Whether another invocation may use it now; call [`Self::poll_drive`] before.
    pub(crate) fn is_ready(&self) -> bool {
        match &self.http_version {
            HttpVersion::Http1(http1) => http1.connection.is_some() && http1.sender.is_ready(),
            HttpVersion::Http2 { sender, upload } => sender.is_ready() && !upload.flows(),
        }
    }

    /// Whether it has ended; call [`Self::poll_drive`] before.
    pub(crate) fn is_ended(&self) -> bool {
        match &self.http_version {
            HttpVersion::Http1(http1) => http1.connection.is_none(),
            HttpVersion::Http2 { sender, .. } => sender.is_closed(),
        }
    }

    /// Whether a byte of an answer has come in. HTTP/2 connections are never silent, so there only whole heads count.
    pub(crate) fn response_started(&self) -> bool {
        matches!(self.http_version, HttpVersion::Http1(_)) && self.monitor.received()
    }

    /// Whether a byte of the request has gone out.
    pub(crate) fn request_started(&self) -> bool {
        self.monitor.sent()
    }

    /// Whether the sandbox stopped reading before it had all of the request.
    pub(crate) fn stopped_reading(&self) -> bool {
        self.monitor.stopped_reading()
    }

    /// Whether it has carried an invocation before.
    pub(crate) fn is_reused(&self) -> bool {
        self.reused
    }

    /// It has carried an invocation and is put aside.
    pub(super) fn mark_idle(&mut self) {
        self.reused = true;
        if let HttpVersion::Http2 { upload, .. } = &mut self.http_version {
            *upload = UploadWatch::default();
        }
    }

    /// Gives up its use: the raw stream arrives when nothing uses it any more. For HTTP/2 that is after the running
    /// stream was reset. A request's body that still flows would hold the library up: as long as its client sends, or for
    /// good where the sandbox takes nothing. It is ended by taking the connection from under it.
    pub(crate) fn into_stream(self) -> (oneshot::Receiver<Io>, Arc<IoMonitor>) {
        let stream = self.monitor.reclaim();
        if matches!(&self.http_version, HttpVersion::Http2 { upload, .. } if upload.flows()) {
            self.monitor.detach();
        }
        (stream, self.monitor.clone())
    }
}

/// Polls `drive` and `answer` together: the answer of a request on `link`.
pub(crate) fn poll_response<F>(
    connection: &mut UpstreamConnection,
    response: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<UpstreamResponse>
where
    F: Future<Output = UpstreamResponse>,
{
    // The answer is handed over by the drive, so it is looked at afterwards, also when the connection has ended.
    let _ = connection.poll_drive(cx);
    response.poll(cx)
}
