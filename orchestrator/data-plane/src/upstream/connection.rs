//! One connection to a sandbox, in either protocol, as the invocation that owns it uses it.
//!
//! An HTTP/1.1 connection has no task of its own: the invocation drives it, so a warm request wakes no other task.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use model::Protocol;
use service::Io;
use tokio::sync::oneshot;

use super::monitored_io::{IoMonitor, MonitoredIo};
use crate::{
    config::Limits,
    frames::Frames,
    upload::{Upload, UploadWatch},
};

/// Read buffer for responses, the HTTP library's default maximum.
const BUFFER_BYTES: usize = 400 * 1024;

/// A response, or the error with the request if nothing of it was sent.
pub(crate) type UpstreamResponse = Result<Response<Incoming>, TrySendError<Request<Upload>>>;

/// A connection, used by one invocation at a time.
pub(crate) struct UpstreamConnection {
    http_version: HttpVersion,
    monitor: Arc<IoMonitor>,
    /// It has carried an invocation before.
    reused: bool,
}

enum HttpVersion {
    Http1(Box<Http1>),
    Http2 {
        sender: http2::SendRequest<Upload>,
        /// The HTTP library sends the body in a task of its own, even after the response is complete.
        upload: UploadWatch,
    },
}

/// Boxed, so that a connection moves between the idle list and its user as a pointer.
struct Http1 {
    sender: http1::SendRequest<Upload>,
    /// `None` once it has ended.
    connection: Option<http1::Connection<TokioIo<MonitoredIo>, Upload>>,
    /// The byte stream after the connection has ended: the lingering close may still need it.
    ended: Option<MonitoredIo>,
}

impl Http1 {
    /// Drives the connection. Ready once it has ended.
    fn poll_drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(connection) = &mut self.connection {
            // Errors surface in the response or its body.
            let _ = std::task::ready!(connection.poll_without_shutdown(cx));
        }
        // An ended connection keeps a queued request that it has not begun. Taking it apart hands the request back.
        if let Some(connection) = self.connection.take() {
            self.ended = Some(connection.into_parts().io.into_inner());
        }
        Poll::Ready(())
    }
}

impl UpstreamConnection {
    /// Performs the handshake on a new connection.
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
                // The task ends when the sender is dropped or the sandbox closes; errors surface in the sender.
                tokio::spawn(async move { drop(connection.await) });
                HttpVersion::Http2 { sender, upload: UploadWatch::default() }
            }
        };
        Ok(Self { http_version, monitor, reused: false })
    }

    /// Handle that can abort the connection.
    pub(crate) fn monitor(&self) -> &Arc<IoMonitor> {
        &self.monitor
    }

    /// Sends a request. The response arrives while [`Self::poll_drive`] is called.
    pub(crate) fn send(
        &mut self,
        request: Request<Upload>,
    ) -> futures::future::Either<
        impl Future<Output = UpstreamResponse> + use<>,
        impl Future<Output = UpstreamResponse> + use<>,
    > {
        self.monitor.begin();
        match &mut self.http_version {
            // An `Either` rather than a boxed future: this runs once per invocation.
            HttpVersion::Http1(http1) => futures::future::Either::Left(http1.sender.try_send_request(request)),
            HttpVersion::Http2 { sender, upload } => {
                *upload = request.body().watch();
                futures::future::Either::Right(sender.try_send_request(request))
            }
        }
    }

    /// Drives the connection. Ready once it has ended.
    pub(crate) fn poll_drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.http_version {
            HttpVersion::Http1(http1) => http1.poll_drive(cx),
            HttpVersion::Http2 { .. } => Poll::Pending,
        }
    }

    /// Returns true if an idle connection is usable. `doubtful` also asks the operating system whether the sandbox has
    /// closed it, because a busy runtime learns of that late.
    pub(crate) fn is_alive(&mut self, doubtful: bool, cx: &mut Context<'_>) -> bool {
        self.monitor.peek_when_empty(doubtful);
        let is_open = self.poll_drive(cx).is_pending();
        self.monitor.peek_when_empty(false);
        is_open && self.is_ready()
    }

    /// Returns true if another invocation may use it now. Call [`Self::poll_drive`] before.
    pub(crate) fn is_ready(&self) -> bool {
        match &self.http_version {
            HttpVersion::Http1(http1) => http1.connection.is_some() && http1.sender.is_ready(),
            HttpVersion::Http2 { sender, upload } => sender.is_ready() && !upload.flows(),
        }
    }

    /// Returns true if it has ended. Call [`Self::poll_drive`] before.
    pub(crate) fn is_ended(&self) -> bool {
        match &self.http_version {
            HttpVersion::Http1(http1) => http1.connection.is_none(),
            HttpVersion::Http2 { sender, .. } => sender.is_closed(),
        }
    }

    /// Returns true if a byte of a response was received. HTTP/2 connections are never silent, so there only complete
    /// heads count.
    pub(crate) fn response_started(&self) -> bool {
        matches!(self.http_version, HttpVersion::Http1(_)) && self.monitor.received()
    }

    /// Returns true if a byte of the request was sent.
    pub(crate) fn request_started(&self) -> bool {
        self.monitor.sent()
    }

    /// Returns true if the sandbox stopped reading before it had the whole request.
    pub(crate) fn stopped_reading(&self) -> bool {
        self.monitor.stopped_reading()
    }

    /// Returns true if it has carried an invocation before.
    pub(crate) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Marks it as reused when it becomes idle.
    pub(super) fn mark_idle(&mut self) {
        self.reused = true;
        if let HttpVersion::Http2 { upload, .. } = &mut self.http_version {
            *upload = UploadWatch::default();
        }
    }

    /// Ends its use. The byte stream arrives once nothing uses it any more; for HTTP/2 that is after the running stream
    /// was reset. An unfinished upload would delay the library as long as the client sends, or forever if the sandbox
    /// reads nothing, so then the connection is detached from it.
    pub(crate) fn into_stream(self) -> (oneshot::Receiver<Io>, Arc<IoMonitor>) {
        // Reclaimed before it is detached: a user that lets go of an unclaimed stream closes it.
        let stream = self.monitor.reclaim();
        if matches!(&self.http_version, HttpVersion::Http2 { upload, .. } if upload.flows()) {
            self.monitor.detach();
        }
        (stream, self.monitor.clone())
    }
}

/// Drives `connection` and polls the response to its request.
pub(crate) fn poll_response<F>(
    connection: &mut UpstreamConnection,
    response: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<UpstreamResponse>
where
    F: Future<Output = UpstreamResponse>,
{
    // Driving delivers the response, so poll it afterwards, even if the connection has ended.
    let _ = connection.poll_drive(cx);
    response.poll(cx)
}
