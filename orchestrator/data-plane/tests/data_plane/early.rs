//! Functions that respond before they have read the request.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use api::wire::{self, EndpointState};
use futures::future::{BoxFuture, ready};
use http::Method;
use service::{Io, Listener, Network, OsNetwork};
use sim::{DataPlaneStream, WAIT_TIMEOUT};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

use super::{
    blocking::Blocking,
    client::{send, with_body},
    world::{World, delta, function, has_failures},
};

const EARLY_RESPONSE: &str = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno\n";

/// More than all buffers on the way hold together.
const UPLOAD_BYTES: usize = 20_000_000;

/// Reads the head only, responds, and closes at once; or never closes, and reads no more.
pub(crate) async fn respond_early(listener: TcpListener, closes: bool) {
    let mut kept = Vec::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        // The client may be gone.
        let _ = stream.write_all(EARLY_RESPONSE.as_bytes()).await;
        if !closes {
            kept.push(stream);
        }
    }
}

async fn with_early(closes: bool) -> (World, DataPlaneStream, JoinHandle<()>) {
    with_server(function(), |listener| respond_early(listener, closes)).await
}

/// A world with `function_config` and one sandbox of one slot, which is what `serve` runs.
pub(crate) async fn with_server<F: Future<Output = ()> + Send + 'static>(
    function_config: wire::FunctionConfig,
    serve: impl FnOnce(TcpListener) -> F,
) -> (World, DataPlaneStream, JoinHandle<()>) {
    let mut world = World::with(|config| config.cancel_grace = Duration::from_millis(100)).await;
    let mut session = world.accept_stream(vec![function_config]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    session.delta(delta(1, address, 1, EndpointState::Active, 1));
    session.ack(1, |ack| ack.slots == 1).await;
    (world, session, tokio::spawn(serve(listener)))
}

/// The response that a client receives that reads while it sends.
pub(crate) async fn upload(world: &World) -> String {
    let mut connection = TcpStream::connect(world.data_plane).await.unwrap();
    let (mut reader, mut writer) = connection.split();
    let head = format!("POST / HTTP/1.1\r\nhost: f\r\ncontent-length: {UPLOAD_BYTES}\r\n\r\n");
    let send = async {
        writer.write_all(head.as_bytes()).await.unwrap();
        // The data plane may reset the upload.
        let _ = writer.write_all(&vec![b'x'; UPLOAD_BYTES]).await;
        std::future::pending::<()>().await;
    };
    let receive = async {
        let mut received = String::new();
        let mut buffer = [0; 4096];
        while !received.ends_with("no\n") {
            let count = reader.read(&mut buffer).await.unwrap_or(0);
            if count == 0 {
                break;
            }
            received.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        received
    };
    tokio::select! {
        () = send => String::new(),
        received = timeout(WAIT_TIMEOUT, receive) => received.expect("an answer comes"),
    }
}

#[tokio::test]
async fn an_early_response_to_an_upload_reaches_the_client_and_the_sandbox_stays() {
    for (closes, rounds) in [(true, 10), (false, 2)] {
        let (world, mut session, _server) = with_early(closes).await;
        for round in 0..rounds {
            let received = upload(&world).await;
            assert!(received.starts_with("HTTP/1.1 401 ") && received.ends_with("\r\n\r\nno\n"), "{round}: {received}");
            assert!(received.contains("x-dirigent-attempts: 1\r\n"), "{received}");
            assert!(received.contains("connection: close\r\n"), "the rest goes nowhere: {received}");
        }
        assert!(!has_failures(&mut session).await, "it closes: {closes}; {:?}", session.failures);
    }
}

#[tokio::test]
async fn an_early_response_in_parts_announces_the_end_of_the_connection() {
    let mut world = World::start().await;
    let mut session = world.accept_stream(vec![function()]).await;
    let sandbox = Blocking::start().await;
    session.delta(delta(1, sandbox.address(), 1, EndpointState::Active, 1));
    session.ack(1, |ack| ack.slots == 1).await;
    for length in [2, UPLOAD_BYTES] {
        let mut connection = TcpStream::connect(world.data_plane).await.unwrap();
        let head = format!("POST / HTTP/1.1\r\nhost: f\r\ncontent-length: {length}\r\n\r\n");
        connection.write_all(head.as_bytes()).await.unwrap();
        let call = sandbox.call().await.begin(b"HTTP/1.1 401 Unauthorized\r\n\r\n").await;
        let receive = async {
            let mut received = Vec::new();
            while !received.ends_with(b"\r\n\r\n") {
                received.push(connection.read_u8().await.unwrap());
            }
            String::from_utf8(received).unwrap()
        };
        let received = timeout(WAIT_TIMEOUT, receive).await.expect("the head comes before the rest");
        assert!(
            received.starts_with("HTTP/1.1 401 ") && received.contains("connection: close\r\n"),
            "{length}: {received}"
        );
        drop(call);
    }
}

/// Connections to sandboxes that respond once they have closed: the first write succeeds, the next one fails, and only
/// then there is input.
struct Closing;

#[derive(Default)]
struct ClosingIo {
    writes: usize,
    read: usize,
    reader: Option<Waker>,
}

impl Network for Closing {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        OsNetwork.bind(address)
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Io>> {
        OsNetwork.connect(address)
    }

    fn connect_to(&self, _address: SocketAddr) -> BoxFuture<'_, io::Result<Io>> {
        Box::pin(ready(Ok(Box::new(ClosingIo::default()) as Io)))
    }
}

impl AsyncRead for ClosingIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.writes < 2 {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let rest = &EARLY_RESPONSE.as_bytes()[self.read..];
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        self.read += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClosingIo {
    fn poll_write(mut self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes += 1;
        if self.writes == 1 {
            return Poll::Ready(Ok(bytes.len()));
        }
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
}

#[tokio::test]
async fn a_response_sent_before_the_connection_closed_is_read_although_writing_fails() {
    let mut world = World::on(Arc::new(Closing), |_| {}).await;
    let mut session = world.accept_stream(vec![function()]).await;
    session.delta(delta(1, "127.0.0.1:1".parse().unwrap(), 1, EndpointState::Active, 1));
    session.ack(1, |ack| ack.slots == 1).await;
    for _ in 0..3 {
        let post = with_body(Method::POST, "f", "/", vec![b'x'; 1_000_000]);
        let response = send(world.data_plane, post).await.unwrap();
        assert_eq!((response.status.as_u16(), &response.body[..]), (401, &b"no\n"[..]));
    }
    assert!(!has_failures(&mut session).await, "{:?}", session.failures);
}

/// The response that a client receives that reads after it has sent everything.
pub(crate) async fn upload_then_listen(world: &World) -> String {
    let mut connection = TcpStream::connect(world.data_plane).await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nhost: f\r\ncontent-length: {UPLOAD_BYTES}\r\n\r\n");
    connection.write_all(head.as_bytes()).await.unwrap();
    let upload = async {
        connection.write_all(&vec![b'x'; UPLOAD_BYTES]).await.expect("all of it is taken");
        let mut received = Vec::new();
        connection.read_to_end(&mut received).await.expect("no reset");
        String::from_utf8_lossy(&received).into_owned()
    };
    timeout(WAIT_TIMEOUT, upload).await.expect("an answer comes")
}

#[tokio::test]
async fn an_early_response_waits_for_a_client_that_sends_everything_first() {
    let (world, _session, _server) = with_early(true).await;
    for _ in 0..3 {
        let received = upload_then_listen(&world).await;
        assert!(received.starts_with("HTTP/1.1 401 ") && received.ends_with("\r\n\r\nno\n"), "{received}");
    }
    let mut world = World::with(|config| config.limits.body = bytesize::ByteSize::mib(1)).await;
    let _session = world.accept_stream(vec![function()]).await;
    let received = upload_then_listen(&world).await;
    assert!(
        received.starts_with("HTTP/1.1 413 ") && received.contains("x-dirigent-error: body-too-large"),
        "{received}"
    );
}
