//! Serves one client's connection from accept to close and watches over its deadlines.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use model::Protocol;
use service::Io;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, Interval, MissedTickBehavior, Sleep, interval_at, sleep, timeout},
};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::{
    clients::{AllUnsent, Client, ClientIo, ClientSocket, Owed, PresenceWatch, Streams},
    invocation::serve,
};

/// Idle timeout of a surplus connection: time to send the request that is refused.
const SURPLUS_IDLE: Duration = Duration::from_secs(1);
/// Time to read pending refusals when a connection ends; for HTTP/2 also the time for the client to close it. Refusals
/// need no waiting for a function, so the client has had no reason to be away.
const REFUSALS_DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest stall and total time for reading complete responses of functions when a connection ends.
const DRAIN_STALL_TIMEOUT: Duration = Duration::from_secs(5);
const RESPONSES_DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Unread header sections of an HTTP/2 client: bytes tolerated for `HEADS_TIMEOUT` while the client reads nothing, and
/// bytes tolerated at all.
const MAX_UNSENT_HEADS: u64 = 1024 * 1024;
const HEADS_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_UNSENT_HEADS_TOTAL: u64 = 16 * MAX_UNSENT_HEADS;

/// Checks for late streams in each `limits.send_timeout`, at most.
const MAX_LATE_CHECKS: u32 = 64;

/// Buffer space of a connection besides the largest header section.
const BUFFER_BYTES: usize = 64 * 1024;
/// Concurrent streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 1024;

/// Bounds of the lingering close (RFC 9112, section 9.6): total time, and longest pause between two reads.
const LINGERING_CLOSE_TIMEOUT: Duration = Duration::from_secs(30);
const LINGERING_READ_TIMEOUT: Duration = Duration::from_secs(2);
/// Total time of the lingering close when the data plane drains or the connection was recycled.
const LEAVING_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes discarded by one read.
const DISCARD_BUFFER_BYTES: usize = 16 * 1024;

/// Serves one connection from accept to close.
pub(crate) async fn serve_client(io: Io, client: Arc<Client>) {
    let socket = ClientSocket::new(io);
    serve_protocol(socket.clone(), client.clone()).await;
    // With all input read, a plain close does not reset the connection.
    if client.has_unread() {
        let has_to_end = async {
            client.leave.cancelled().await;
            sleep(LEAVING_CLOSE_TIMEOUT).await;
        };
        tokio::select! {
            () = lingering_close(socket) => {}
            () = sleep(LINGERING_CLOSE_TIMEOUT) => {}
            () = has_to_end => {}
        }
    }
}

/// Shuts down the write side and discards input until the client closes. Closing a socket with unread input resets it,
/// and the client may lose a response that it has not read yet (RFC 9112, section 9.6).
async fn lingering_close(mut socket: ClientSocket) {
    // The write side may be closed already.
    let _ = socket.shutdown().await;
    let mut discarded = vec![0; DISCARD_BUFFER_BYTES];
    while let Ok(Ok(1..)) = timeout(LINGERING_READ_TIMEOUT, socket.read(&mut discarded)).await {}
}

/// Serves a connection until it closes, is idle for too long, or the data plane drains and all requests are complete.
async fn serve_protocol(socket: ClientSocket, client: Arc<Client>) {
    let can_probe_presence = socket.can_probe_presence();
    let mut io = ClientIo::new(socket.clone(), client.clone());
    let mut watch = ConnectionWatch::new(client.clone(), socket);
    // Any event before the first request ends the connection.
    let protocol = poll_fn(|cx| match io.poll_protocol(cx) {
        Poll::Pending => watch.poll(cx).map(|_event| None),
        protocol => protocol,
    });
    match protocol.await {
        Some(Protocol::Http1) => serve_http1(io, &client, watch, can_probe_presence).await,
        Some(Protocol::H2c) => serve_http2(io, &client, watch).await,
        None => {}
    }
}

async fn serve_http1(io: ClientIo, client: &Arc<Client>, watch: ConnectionWatch, can_probe_presence: bool) {
    let limits = &client.plane.config.limits;
    let mut builder = http1::Builder::new();
    builder
        .max_buf_size(limits.http1_header_bytes() + BUFFER_BYTES)
        .max_headers(limits.http1_header_count())
        .max_header_size(limits.http1_header_bytes())
        // The library takes a half-closed connection for a closed one. Where presence can be probed, [`PresenceWatch`]
        // decides instead.
        .half_close(can_probe_presence);
    let service = service_fn(|request| {
        let client = client.clone();
        async move { Ok::<_, Infallible>(serve(client, None, request).await) }
    });
    let connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    drive(connection, watch, http1::Connection::graceful_shutdown).await;
}

async fn serve_http2(io: ClientIo, client: &Arc<Client>, watch: ConnectionWatch) {
    let _entered = AllUnsent::enter(client);
    let limits = &client.plane.config.limits;
    let mut builder = http2::Builder::new(Streams::new(client.clone()));
    builder
        .max_header_list_size(limits.http2_header_bytes())
        .max_concurrent_streams(MAX_STREAMS)
        .timer(TokioTimer::new())
        // Pings detect a client that is gone without a close while its streams wait for responses. Interval and time-out
        // together are `limits.send_timeout`.
        .keep_alive_interval(limits.send_timeout / 2)
        .keep_alive_timeout(limits.send_timeout / 2);
    let service = service_fn(|request| {
        let client = client.clone();
        let stream = client.stream();
        async move { Ok::<_, Infallible>(serve(client, Some(stream), request).await) }
    });
    let connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    drive(connection, watch, http2::Connection::graceful_shutdown).await;
}

/// Drives a connection until it ends or its watch ends it; `leave` starts a graceful shutdown.
async fn drive<C: Future>(mut connection: Pin<&mut C>, mut watch: ConnectionWatch, leave: impl Fn(Pin<&mut C>)) {
    loop {
        let event = poll_fn(|cx| match connection.as_mut().poll(cx) {
            // Errors are the client's: a malformed message or a closed connection.
            Poll::Ready(_ended) => Poll::Ready(Event::End),
            Poll::Pending => watch.poll(cx),
        });
        match event.await {
            Event::End => return,
            Event::Leave => leave(connection.as_mut()),
        }
    }
}

/// An event that changes the course of a connection.
enum Event {
    /// Close it now.
    End,
    /// Close it once its requests are complete.
    Leave,
}

/// Watches over one connection: its idle timeout, the header timeout, the client's presence, unread responses, and the
/// drain of the data plane.
struct ConnectionWatch {
    client: Arc<Client>,
    presence: PresenceWatch,
    leave: Pin<Box<WaitForCancellationFutureOwned>>,
    /// True once `leave` has this task's waker.
    listening: bool,
    leaving: bool,
    /// Accepted during the drain: it stays open for its first request, which is refused.
    late: bool,
    idle_ticks: Interval,
    /// Requests at the last idle tick.
    seen_requests: u64,
    /// Fires if a request head has begun and does not complete.
    head_timer: StallTimer,
    /// Fires if the client reads nothing of what is to be sent.
    blocked: StallTimer,
    /// Fires while header sections remain unread.
    heads: StallTimer,
    /// Set while there are HTTP/2 responses, or may be.
    late_check: Option<LateCheck>,
    /// Fires if the client of a closing connection reads nothing of its complete responses.
    drain_stall: StallTimer,
    /// Time budgets of a closing connection for reading responses, and for everything else. Progress does not renew
    /// them, so that a slow reader cannot hold up the drain.
    responses_budget: Budget,
    refusals_budget: Budget,
}

impl ConnectionWatch {
    fn new(client: Arc<Client>, socket: ClientSocket) -> Self {
        let idle = client.plane.config.limits.client_idle;
        let idle = if client.is_surplus { idle.min(SURPLUS_IDLE) } else { idle };
        let mut idle_ticks = interval_at(Instant::now() + idle, idle);
        // Idle is a whole period without a request, so a late tick must not be followed by the next one at once.
        idle_ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let late = client.plane.is_stopping();
        let leave = Box::pin(client.leave.clone().cancelled_owned());
        let presence = PresenceWatch::new(client.clone(), socket);
        Self {
            client,
            presence,
            leave,
            listening: false,
            leaving: late,
            late,
            idle_ticks,
            seen_requests: 0,
            head_timer: StallTimer::default(),
            blocked: StallTimer::default(),
            heads: StallTimer::default(),
            late_check: None,
            drain_stall: StallTimer::default(),
            responses_budget: Budget::of(RESPONSES_DRAIN_TIMEOUT),
            refusals_budget: Budget::of(REFUSALS_DRAIN_TIMEOUT),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        // The flag is set before the token is cancelled. So after the first poll, which registers the waker, the token
        // (a mutex) need not be locked for every request.
        if !self.leaving && (!self.listening || self.client.is_leaving()) {
            self.listening = true;
            if self.leave.as_mut().poll(cx).is_ready() {
                return self.begin_to_leave();
            }
        }
        let header_timeout = self.client.limits().header_timeout;
        let partial = self.client.has_partial_head().then(|| self.client.requests());
        if self.head_timer.has_stalled(partial, header_timeout, cx) || self.presence.poll_gone(cx) {
            return Poll::Ready(Event::End);
        }
        if self.takes_too_little(cx) || self.may_end(cx) {
            self.client.cut();
            return Poll::Ready(Event::End);
        }
        if self.has_late_responses(cx) && !self.leaving {
            return self.begin_to_leave();
        }
        while self.idle_ticks.poll_tick(cx).is_ready() {
            let requests = self.client.requests();
            let idle = requests == self.seen_requests && self.client.is_idle();
            self.seen_requests = requests;
            if idle {
                return if self.leaving { Poll::Ready(Event::End) } else { self.begin_to_leave() };
            }
        }
        Poll::Pending
    }

    fn begin_to_leave(&mut self) -> Poll<Event> {
        self.leaving = true;
        Poll::Ready(Event::Leave)
    }

    /// Returns true if the connection must end because its client does not read what is sent.
    fn takes_too_little(&mut self, cx: &mut Context<'_>) -> bool {
        let send_timeout = self.client.limits().send_timeout;
        self.leaves_heads(cx)
            || self.blocked.has_stalled(self.client.blocked(), send_timeout, cx)
            || self.client.is_late()
    }

    /// Returns true if an HTTP/2 client leaves too many bytes of header sections unread. They belong to no stream that
    /// could be reset, and while the socket is blocked the HTTP library does not wake this task for further ones.
    fn leaves_heads(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.client.is_http2() {
            return false;
        }
        let bytes = self.client.unsent_heads();
        // A constant mark: as long as the socket is blocked nothing restarts the timer.
        let waits = self.client.blocked().map(|_| 0);
        while self.heads.has_stalled(waits, HEADS_TIMEOUT, cx) {
            if bytes > MAX_UNSENT_HEADS {
                return true;
            }
            self.heads = StallTimer::default();
        }
        bytes > MAX_UNSENT_HEADS_TOTAL
    }

    /// Resets HTTP/2 streams whose responses are overdue. Returns true if the connection is to end because responses
    /// are overdue whose streams the library has forgotten. One timer serves all: a response is overdue no sooner than
    /// `limits.send_timeout` after it was complete.
    fn has_late_responses(&mut self, cx: &mut Context<'_>) -> bool {
        let needs_check = self.late_check.is_some() || !self.client.is_idle() || self.client.leaves_forgotten();
        if !self.client.is_http2() || !needs_check {
            return false;
        }
        let send_timeout = self.client.limits().send_timeout;
        let now = Instant::now;
        let check = self.late_check.get_or_insert_with(|| LateCheck {
            next: Box::pin(sleep(send_timeout)),
            generation_ends: now() + send_timeout,
        });
        let mut has_late = false;
        while check.next.as_mut().poll(cx).is_ready() {
            if now() >= check.generation_ends {
                check.generation_ends = now() + send_timeout;
                has_late |= self.client.has_late_forgotten();
            }
            let due = self.client.end_late();
            if due.is_none() && !self.client.leaves_forgotten() && self.client.is_idle() {
                self.late_check = None;
                break;
            }
            // Deadlines of a thousand streams may be close together: one check then serves many.
            let earliest = now() + send_timeout / MAX_LATE_CHECKS;
            let due = due.map_or(check.generation_ends, |us| self.client.plane.clock.at(us).min(check.generation_ends));
            check.next.as_mut().reset(due.max(earliest));
        }
        has_late
    }

    /// Returns true if a closing connection may be dropped: all responses are complete and the client had time to read
    /// them. The HTTP library itself would keep waiting for a partial request, or for a client that reads nothing.
    fn may_end(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.leaving || self.late {
            return false;
        }
        let owed = self.client.owed();
        if owed == Owed::Nothing && !self.client.is_http2() {
            return true;
        }
        let owes_responses = owed == Owed::CompleteResponses;
        let taken = owes_responses.then(|| self.client.taken());
        self.drain_stall.has_stalled(taken, DRAIN_STALL_TIMEOUT, cx)
            || self.responses_budget.is_spent(owes_responses, cx)
            || self.refusals_budget.is_spent(matches!(owed, Owed::Refusals | Owed::Nothing), cx)
    }
}

/// Schedule of the checks for overdue HTTP/2 responses.
struct LateCheck {
    next: Pin<Box<Sleep>>,
    /// Forgotten responses queued before this instant are overdue one generation later.
    generation_ends: Instant,
}

/// A time budget that is spent while a condition holds and that nothing renews.
struct Budget {
    left: Duration,
    /// Start of the current spending, and the timer of its end.
    spending: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Budget {
    fn of(time: Duration) -> Self {
        Self { left: time, spending: None }
    }

    /// Returns true if the budget is spent. `is_running` says whether it is being spent until the next call.
    fn is_spent(&mut self, is_running: bool, cx: &mut Context<'_>) -> bool {
        if !is_running {
            if let Some((since, _)) = self.spending.take() {
                self.left = self.left.saturating_sub(since.elapsed());
            }
            return false;
        }
        let left = self.left;
        let (_, end) = self.spending.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
        end.as_mut().poll(cx).is_ready()
    }
}

/// Detects that a value has not changed for some time; allocates its timer only while there is one to watch.
#[derive(Default)]
struct StallTimer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// The watched value.
    mark: u64,
}

impl StallTimer {
    /// Returns true if `mark` has not changed for `after`; `None` stops the timer.
    fn has_stalled(&mut self, mark: Option<u64>, after: Duration, cx: &mut Context<'_>) -> bool {
        let Some(mark) = mark else {
            self.sleep = None;
            return false;
        };
        if mark != std::mem::replace(&mut self.mark, mark) {
            self.sleep = None;
        }
        self.sleep.get_or_insert_with(|| Box::pin(sleep(after))).as_mut().poll(cx).is_ready()
    }
}
