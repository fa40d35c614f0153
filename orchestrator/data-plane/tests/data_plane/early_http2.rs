//! Responses that arrive before the request was read, over HTTP/2 on either side.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use api::wire;
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::SendRequest, server::SendResponse};
use http::{Request, Response};
use sim::{DataPlaneStream, WAIT_TIMEOUT};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::{
    client::get,
    early::{respond_early, upload, upload_then_listen, with_server},
    world::{World, function, has_failures},
};

/// More than the windows and buffers on the way to a sandbox hold together.
const BEYOND_WINDOWS: usize = 1 << 20;
/// Initial flow-control window of HTTP/2 (RFC 9113, section 6.9.2).
const WINDOW: usize = 65_535;

/// A sandbox over h2c that responds to each request before it has read it. The request counts as running until its body
/// or the connection ends.
struct Eager {
    /// Bytes of a body that it reads before it responds.
    before: usize,
    /// Reads on after its response; otherwise only HTTP/2's window arrives.
    reads_on: bool,
    /// Its responses are complete.
    is_whole: bool,
    /// Requests that are running.
    running: watch::Sender<usize>,
    /// Greatest number of them at once.
    max_running: AtomicUsize,
}

impl Eager {
    fn new(reads_on: bool, is_whole: bool) -> Arc<Self> {
        Self::after(0, reads_on, is_whole)
    }

    fn after(before: usize, reads_on: bool, is_whole: bool) -> Arc<Self> {
        Arc::new(Self { before, reads_on, is_whole, running: watch::Sender::new(0), max_running: AtomicUsize::new(0) })
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(self.clone().carry(stream));
        }
    }

    async fn carry(self: Arc<Self>, stream: TcpStream) {
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        let mut requests = JoinSet::new();
        while let Some(Ok((request, respond))) = connection.accept().await {
            self.running.send_modify(|running| *running += 1);
            self.max_running.fetch_max(*self.running.borrow(), Ordering::SeqCst);
            requests.spawn(self.clone().respond(request.into_body(), respond));
        }
        // The connection ends when nothing runs on it any more.
        while requests.join_next().await.is_some() {}
        drop(connection);
    }

    async fn respond(self: Arc<Self>, mut body: RecvStream, mut respond: SendResponse<Bytes>) {
        let mut taken = 0;
        while taken < self.before
            && let Some(Ok(data)) = body.data().await
        {
            taken += data.len();
        }
        let head = Response::builder().status(401).body(()).unwrap();
        let mut response = respond.send_response(head, false).unwrap();
        response.send_data(Bytes::from_static(b"no\n"), self.is_whole).unwrap();
        while let Some(Ok(data)) = body.data().await {
            if self.reads_on {
                body.flow_control().release_capacity(data.len()).unwrap();
            }
        }
        self.running.send_modify(|running| *running -= 1);
    }
}

async fn with_eager(eager: &Arc<Eager>, timeout_ms: u64) -> (World, DataPlaneStream, JoinHandle<()>) {
    let function_config = wire::FunctionConfig { protocol: wire::Protocol::H2c.into(), timeout_ms, ..function() };
    with_server(function_config, |listener| eager.clone().serve(listener)).await
}

async fn connect(world: &World) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(world.data_plane).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

/// A response as far as it arrived, whether it ended, and the upload, which continues.
struct Early {
    status: u16,
    body: Bytes,
    ended: Result<(), Reason>,
    upload: SendStream<Bytes>,
}

impl Early {
    async fn receive(client: &mut SendRequest<Bytes>) -> Self {
        Self::receive_after(client, BEYOND_WINDOWS, false).await
    }

    /// The response to `bytes` of an upload, which then ends or continues.
    async fn receive_after(client: &mut SendRequest<Bytes>, bytes: usize, ends: bool) -> Self {
        let receive = async {
            let mut ready = client.clone().ready().await.unwrap();
            let request = Request::post("http://f/").body(()).unwrap();
            let (response, mut upload) = ready.send_request(request, false).unwrap();
            upload.send_data(vec![b'x'; bytes].into(), ends).unwrap();
            let (head, mut content) = response.await.unwrap().into_parts();
            let mut body = Vec::new();
            let ended = loop {
                match content.data().await {
                    Some(Ok(data)) => body.extend_from_slice(&data),
                    Some(Err(error)) => break Err(error.reason().unwrap()),
                    None => break Ok(()),
                }
            };
            Self { status: head.status.as_u16(), body: body.into(), ended, upload }
        };
        timeout(WAIT_TIMEOUT, receive).await.expect("a response comes, and ends")
    }

    /// The reason with which the data plane ends the upload.
    async fn end_of_upload(mut self) -> Reason {
        let reset = poll_fn(|cx| self.upload.poll_reset(cx));
        timeout(WAIT_TIMEOUT, reset).await.expect("the upload is ended").unwrap()
    }
}

#[tokio::test]
async fn an_early_response_over_h2c_reaches_a_client_that_uploads_and_the_sandbox_stays() {
    for reads_on in [true, false] {
        let eager = Eager::new(reads_on, true);
        let (world, mut session, _server) = with_eager(&eager, 10_000).await;
        for received in [upload(&world).await, upload(&world).await, upload_then_listen(&world).await] {
            assert!(
                received.starts_with("HTTP/1.1 401 ") && received.ends_with("\r\n\r\nno\n"),
                "{reads_on}: {received}"
            );
            assert!(received.contains("x-dirigent-attempts: 1\r\n"), "{received}");
            assert!(received.contains("connection: close\r\n"), "the rest goes nowhere: {received}");
        }
        assert_eq!(eager.max_running.load(Ordering::SeqCst), 1, "it reads on: {reads_on}");
        assert!(!has_failures(&mut session).await, "it reads on: {reads_on}; {:?}", session.failures);
    }
}

#[tokio::test]
async fn an_early_response_over_h2c_releases_the_slot_when_the_sandbox_has_ended_the_upload() {
    for reads_on in [true, false] {
        let eager = Eager::new(reads_on, true);
        let (world, mut session, _server) = with_eager(&eager, 10_000).await;
        let mut client = connect(&world).await;
        let early = Early::receive(&mut client).await;
        assert_eq!((early.status, &early.body[..], early.ended), (401, &b"no\n"[..], Ok(())));
        assert_eq!(get(world.data_plane, "f", "/").await.status, 401);
        assert_eq!(eager.max_running.load(Ordering::SeqCst), 1, "it reads on: {reads_on}");
        assert!(!has_failures(&mut session).await, "it reads on: {reads_on}; {:?}", session.failures);
    }
}

#[tokio::test]
async fn an_upload_whose_last_byte_is_unwritten_has_not_ended() {
    let eager = Eager::after(WINDOW, false, true);
    let (world, mut session, _server) = with_eager(&eager, 10_000).await;
    let mut client = connect(&world).await;
    let early = Early::receive_after(&mut client, WINDOW + 1, true).await;
    assert_eq!((early.status, &early.body[..], early.ended), (401, &b"no\n"[..], Ok(())));
    assert_eq!(get(world.data_plane, "f", "/").await.status, 401);
    assert_eq!(eager.max_running.load(Ordering::SeqCst), 1);
    assert!(!has_failures(&mut session).await, "{:?}", session.failures);
}

/// Sends two uploads on one HTTP/2 connection, each of which gets a response and is then ended.
async fn upload_twice(world: &World, what: &str) {
    let mut client = connect(world).await;
    for _ in 0..2 {
        let early = Early::receive(&mut client).await;
        assert_eq!((early.status, &early.body[..], early.ended), (401, &b"no\n"[..], Ok(())), "{what}");
        // RFC 9113, section 8.1.
        assert_eq!(early.end_of_upload().await, Reason::NO_ERROR, "{what}");
    }
}

#[tokio::test]
async fn after_an_early_response_the_upload_of_an_http2_client_is_ended_and_its_connection_goes_on() {
    for closes in [true, false] {
        let (world, mut session, _server) = with_server(function(), |listener| respond_early(listener, closes)).await;
        upload_twice(&world, "HTTP/1.1").await;
        assert!(!has_failures(&mut session).await, "it closes: {closes}; {:?}", session.failures);
    }
    for reads_on in [true, false] {
        let eager = Eager::new(reads_on, true);
        let (world, mut session, _server) = with_eager(&eager, 10_000).await;
        upload_twice(&world, "h2c").await;
        assert_eq!(eager.max_running.load(Ordering::SeqCst), 1, "it reads on: {reads_on}");
        assert!(!has_failures(&mut session).await, "it reads on: {reads_on}; {:?}", session.failures);
    }
}

#[tokio::test]
async fn a_time_out_within_a_response_over_h2c_is_seen_by_a_sandbox_that_reads_nothing_of_the_upload() {
    let eager = Eager::new(false, false);
    let (world, mut session, _server) = with_eager(&eager, 1_000).await;
    let mut client = connect(&world).await;
    let early = Early::receive(&mut client).await;
    assert_eq!((early.status, &early.body[..]), (401, &b"no\n"[..]));
    assert!(early.ended.is_err(), "it had no end");
    let mut running = eager.running.subscribe();
    timeout(WAIT_TIMEOUT, running.wait_for(|running| *running == 0)).await.expect("it is ended").unwrap();
    assert!(!has_failures(&mut session).await, "{:?}", session.failures);
}
