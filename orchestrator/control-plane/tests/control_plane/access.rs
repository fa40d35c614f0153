//! Who may change something: not a page in a browser, and not who cannot read the token.

use std::{fs, os::unix::fs::PermissionsExt};

use api::{CLUSTER_TOKEN_FILE, Token};
use control_plane::Config;
use sim::{DataPlane, StreamPort, WAIT_TIMEOUT, Worker};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::Running;

const JSON: (&str, &str) = ("content-type", "application/json");
const HOST: (&str, &str) = ("host", "127.0.0.1");
const BODY: &str = r#"{"image":"any"}"#;
const PATH: &str = "/v1/functions/f";

#[tokio::test]
async fn what_writes_needs_the_token_and_what_reads_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let mode = fs::metadata(dir.path().join("token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only its owner may read it");
    for (method, path) in [
        ("PUT", PATH),
        ("DELETE", PATH),
        ("POST", "/v1/functions"),
        ("POST", "/v1/nodes/n/drain"),
        ("DELETE", "/v1/nodes/n/drain"),
        ("DELETE", "/v1/nodes/n"),
    ] {
        for headers in [&[HOST, JSON][..], &[HOST, JSON, ("authorization", "Bearer 0123456789abcdef0123456789abcdef")]]
        {
            let (status, said) = running.request_with(method, path, headers, BODY).await;
            assert_eq!(status, 401, "{method} {path}: {said:?}");
            assert!(String::from_utf8_lossy(&said).contains("--token-file"), "{said:?}");
        }
    }
    assert_eq!(running.request("GET", PATH, "").await.0, 404, "nothing was registered");
    for path in ["/v1/functions", "/v1/nodes", "/v1/status", "/v1/top", "/healthz", "/metrics"] {
        assert_eq!(running.request_with("GET", path, &[HOST], "").await.0, 200, "{path}");
    }
    assert_eq!(running.put("f", BODY).await, 201);
    let token = running.token.clone();
    running.stop().await;
    let again = Running::start(dir.path()).await;
    assert_eq!(again.token, token, "it outlives a restart");
    again.stop().await;
}

#[tokio::test]
async fn a_body_that_a_browser_may_send_unasked_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running =
        Running::start_with(Config { data_dir: dir.path().to_owned(), auth: false, ..Config::default() }).await;
    assert!(!dir.path().join("token").exists(), "nobody asks for one");
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("multipart/form-data")] {
        let headers: Vec<_> = [HOST].into_iter().chain(kind.map(|kind| ("content-type", kind))).collect();
        for (method, path) in [("PUT", PATH), ("POST", "/v1/functions")] {
            let (status, said) = running.request_with(method, path, &headers, BODY).await;
            assert_eq!(status, 415, "{method} {path} {kind:?}: {said:?}");
        }
    }
    let foreign = [HOST, JSON, ("origin", "http://evil.example")];
    assert_eq!(running.request_with("PUT", PATH, &foreign, BODY).await.0, 403);
    assert_eq!(running.request_with("PUT", PATH, &[("host", "evil.example"), JSON], BODY).await.0, 403);
    let json = [HOST, ("content-type", "Application/JSON; charset=utf-8")];
    assert_eq!(running.request_with("PUT", PATH, &json, BODY).await.0, 201, "without auth nothing else is asked for");
    let lines = [HOST, ("content-type", "application/x-ndjson")];
    assert_eq!(running.request_with("POST", "/v1/functions", &lines, r#"{"name":"g","image":"any"}"#).await.0, 200);
    assert_eq!(running.request_with("PUT", PATH, &lines, BODY).await.0, 415, "one document is no lines");
    running.stop().await;
}

#[tokio::test]
async fn the_form_has_a_switch_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let (status, said) = running.request("POST", "/", "name=f&image=any").await;
    assert_eq!(status, 403);
    assert!(String::from_utf8_lossy(&said).contains("--form, or `form = true`"), "{said:?}");
    running.stop().await;
    let running =
        Running::start_with(Config { data_dir: dir.path().to_owned(), form: true, ..Config::default() }).await;
    let form = [HOST, ("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(
        running.request_with("POST", "/", &form, "name=f&image=any").await.0,
        200,
        "existing clients show no token"
    );
    assert_eq!(running.request_with("POST", "/", &[HOST, JSON], "name=g&image=any").await.0, 415);
    let page = [HOST, form[1], ("origin", "http://evil.example")];
    assert_eq!(
        running.request_with("POST", "/", &page, "name=g&image=any").await.0,
        403,
        "a browser says whose page it is"
    );
    running.stop().await;
}

#[tokio::test]
async fn peers_are_let_in_with_the_token_of_their_cluster_only() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let other = tempfile::tempdir().unwrap();
    let other = Token::read_or_create(&other.path().join(CLUSTER_TOKEN_FILE)).unwrap();
    let operators = Token::read(&dir.path().join("token")).unwrap();
    for (token, said) in
        [(None, "shows no token"), (Some(other), "shows another token"), (Some(operators), "shows another token")]
    {
        let port = StreamPort { token, ..running.stream.clone() };
        for refused in [
            DataPlane::connect(&port, DataPlane::hello("d")).await.err(),
            Worker::connect(&port, Worker::hello("w")).await.err(),
        ] {
            let refused = refused.expect("it is refused");
            assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{refused}");
            assert!(refused.message().contains(said) && refused.message().contains("token_file"), "{refused}");
        }
    }
    let mut worker = Worker::connect(&running.stream, Worker::hello("w")).await.unwrap();
    assert!(worker.read().await.welcome.is_some(), "with the right one it is let in");
    running.stop().await;

    let dir = tempfile::tempdir().unwrap();
    let open = Running::start_with(Config { data_dir: dir.path().to_owned(), auth: false, ..Config::default() }).await;
    assert!(open.stream.token.is_none(), "none is made");
    let mut worker = Worker::connect(&open.stream, Worker::hello("w")).await.unwrap();
    assert!(worker.read().await.welcome.is_some());
    open.stop().await;
}

#[tokio::test]
async fn connections_that_show_no_token_end_and_leave_room_for_peers() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let mut silent = Vec::new();
    // More than are taken at once of those that have not shown a token.
    for _ in 0..300 {
        silent.push(TcpStream::connect(&running.stream.address).await.unwrap());
    }
    let mut worker = Worker::connect(&running.stream, Worker::hello("w")).await.expect("there is room for it");
    for mut connection in silent {
        let ended = async { while let Ok(1..) = connection.read(&mut [0; 1024]).await {} };
        timeout(WAIT_TIMEOUT * 2, ended).await.expect("it says nothing, and is closed");
    }
    worker.read().await;
    running.stop().await;
}

#[tokio::test]
async fn a_connection_that_shows_no_token_and_reads_nothing_ends_too() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut connection = socket.connect(running.stream.address.parse().unwrap()).await.unwrap();
    connection.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let pings = b"\0\0\x08\x06\0\0\0\0\0abcdefgh".repeat(1000);
    // Each is answered, until the answers fill all queues and nothing more is read.
    let ended = async { while connection.write_all(&pings).await.is_ok() {} };
    timeout(WAIT_TIMEOUT * 2, ended).await.expect("it is closed");
    running.stop().await;
}
