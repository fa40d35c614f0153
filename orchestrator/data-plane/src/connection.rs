//! One client's connection from its acceptance to its end: served, and watched over.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use api::Io;
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use model::Protocol;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, Interval, MissedTickBehavior, Sleep, interval_at, sleep, timeout},
};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::{
    clients::{AllUnsent, Client, ClientIo, ClientSocket, Owed, PresenceWatch, Streams},
    invocation::serve,
};

/// A connection that is one too many has this long to bring the request that is refused.
const SURPLUS_IDLE: Duration = Duration::from_secs(1);
/// A client that is owed nothing but refusals has this long to take them when its connection is to end, and one of HTTP/2
/// to end it itself: nobody made them wait for anything.
const REFUSALS_DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// One that is owed responses of functions, which are here as a whole, may pause for so long in taking them, and has so
/// long in all.
const DRAIN_STALL_TIMEOUT: Duration = Duration::from_secs(5);
const RESPONSES_DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of header sections that an HTTP/2 client may leave for so long while it takes nothing, and at all.
const MAX_UNSENT_HEADS: u64 = 1024 * 1024;
const HEADS_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_UNSENT_HEADS_TOTAL: u64 = 16 * MAX_UNSENT_HEADS;

/// Late streams are looked for at most so often within `limits.send_timeout`.
const MAX_LATE_CHECKS: u32 = 64;

/// Room in a connection's buffer beside the largest header section.
const BUFFER_BYTES: usize = 64 * 1024;
/// Requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 1024;

/// A client that still sends what nobody wants may do so for this long, and pause for so long within it.
const LINGERING_CLOSE_TIMEOUT: Duration = Duration::from_secs(30);
const LINGERING_READ_TIMEOUT: Duration = Duration::from_secs(2);
/// Where its connection is to end, with this data plane or because there are too many, only so long.
const LEAVING_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of it that are read at once.
const DISCARD_BUFFER_BYTES: usize = 16 * 1024;

/// Carries one connection from its acceptance to its end.
pub(crate) async fn serve_client(io: Io, client: Arc<Client>) {
    let socket = ClientSocket::new(io);
    serve_protocol(socket.clone(), client.clone()).await;
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

/// Closes our side and reads what the client still sends, until it ends. Closed with bytes unread, a connection is reset,
/// and the client may lose the answer that it has not read yet (RFC 9112, section 9.6).
async fn lingering_close(mut socket: ClientSocket) {
    // It may be closed already.
    let _ = socket.shutdown().await;
    let mut discarded = vec![0; DISCARD_BUFFER_BYTES];
    while let Ok(Ok(1..)) = timeout(LINGERING_READ_TIMEOUT, socket.read(&mut discarded)).await {}
}

/// Serves a connection until it ends, is idle for too long, or this data plane stops and its requests are answered.
async fn serve_protocol(socket: ClientSocket, client: Arc<Client>) {
    let can_probe_presence = socket.can_probe_presence();
    let mut io = ClientIo::new(socket.clone(), client.clone());
    let mut watch = ConnectionWatch::new(client.clone(), socket);
    // Whatever else happens before there is a request ends it.
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
        // The library takes the end of a client's side for its leaving. Where that can be found out, it is done here.
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

/// Lets a connection go on until it ends or its watch says so; `leave` lets it end once its requests are answered.
async fn drive<C: Future>(mut connection: Pin<&mut C>, mut watch: ConnectionWatch, leave: impl Fn(Pin<&mut C>)) {
    loop {
        let event = poll_fn(|cx| match connection.as_mut().poll(cx) {
            // Its errors are the client's: a broken message or a closed connection.
            Poll::Ready(_ended) => Poll::Ready(Event::End),
            Poll::Pending => watch.poll(cx),
        });
        match event.await {
            Event::End => return,
            Event::Leave => leave(connection.as_mut()),
        }
    }
}

/// What may happen to a connection.
enum Event {
    /// It ends now.
    End,
    /// It is to end once its requests are answered.
    Leave,
}

/// Watches over one connection: that it is not idle for too long, that a request that has begun comes, that its client
/// is there, that a response leaves, and that it ends with this data plane.
struct ConnectionWatch {
    client: Arc<Client>,
    presence: PresenceWatch,
    leave: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Whether `leave` wakes this task.
    listening: bool,
    leaving: bool,
    /// Whether it came while this data plane was stopping: it shall at least be told so.
    late: bool,
    idle_ticks: Interval,
    /// Requests at the last look.
    seen_requests: u64,
    /// Rings when the head of a request has begun and does not end.
    head_timer: StallTimer,
    /// Rings when the client takes nothing of what is to be sent.
    blocked: StallTimer,
    /// Rings while header sections do not leave.
    heads: StallTimer,
    /// Set while there are HTTP/2 responses, or may be.
    late_check: Option<LateCheck>,
    /// Rings when a client that is to leave takes nothing of the responses that are there for it.
    drain_stall: StallTimer,
    /// The time that it has for these, and for everything else. Nothing that it does renews them.
    responses_budget: Budget,
    refusals_budget: Budget,
}

impl ConnectionWatch {
    fn new(client: Arc<Client>, socket: ClientSocket) -> Self {
        let idle = client.plane.config.limits.client_idle;
        let idle = if client.is_surplus { idle.min(SURPLUS_IDLE) } else { idle };
        let mut idle_ticks = interval_at(Instant::now() + idle, idle);
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
        // It says that it leaves before it cancels: so after the first poll, which leaves our waker there, the
        // token (a mutex) need not be asked by every request.
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

    /// Whether the connection has to end because its client does not take what is sent.
    fn takes_too_little(&mut self, cx: &mut Context<'_>) -> bool {
        let send_timeout = self.client.limits().send_timeout;
        self.leaves_heads(cx)
            || self.blocked.has_stalled(self.client.blocked(), send_timeout, cx)
            || self.client.is_late()
    }

    /// Whether an HTTP/2 client leaves too much of header sections, which are no stream's any more. While the connection takes
    /// nothing the HTTP library does not wake this task for further ones.
    fn leaves_heads(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.client.is_http2() {
            return false;
        }
        let bytes = self.client.unsent_heads();
        let waits = self.client.blocked().map(|_| 0);
        while self.heads.has_stalled(waits, HEADS_TIMEOUT, cx) {
            if bytes > MAX_UNSENT_HEADS {
                return true;
            }
            self.heads = StallTimer::default();
        }
        bytes > MAX_UNSENT_HEADS_TOTAL
    }

    /// Ends HTTP/2 streams whose responses should have left. Whether the connection is to leave because others should have,
    /// whose streams cannot be ended. One timer for all: a response is late `limits.send_timeout` after it was complete, or
    /// later.
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
            let earliest = now() + send_timeout / MAX_LATE_CHECKS;
            let due = due.map_or(check.generation_ends, |us| self.client.plane.clock.at(us).min(check.generation_ends));
            check.next.as_mut().reset(due.max(earliest));
        }
        has_late
    }

    /// Whether a connection that is to end has ended as far as we are concerned: all is answered, and the client had time
    /// to take it. The HTTP library goes on waiting when a part of a request has come, or a client takes nothing.
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

/// When HTTP/2 responses are looked at that may be late.
struct LateCheck {
    next: Pin<Box<Sleep>>,
    /// What was given before this and is forgotten is late one generation after it.
    generation_ends: Instant,
}

/// Time of which a part is spent whenever something is so, and which nothing renews.
struct Budget {
    left: Duration,
    /// Since when it is being spent, and until when it lasts.
    spending: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Budget {
    fn of(time: Duration) -> Self {
        Self { left: time, spending: None }
    }

    /// Whether all of it is spent. It `is_running` until this is asked next.
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

/// A timer that is set only while there is something to wait for.
#[derive(Default)]
struct StallTimer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// What it waits to see change.
    mark: u64,
}

impl StallTimer {
    /// Whether `mark` has been the same for so long; `None` ends the wait.
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
