//! Bytes after a request on its connection: another request, or bytes that must not be taken for one (RFC 9112).

use sim::WAIT_TIMEOUT;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::framing::{OK, exchange, status_codes, with_scripted};

#[tokio::test]
async fn pipelined_requests_are_served_in_order() {
    let (world, _session, sandbox) = with_scripted(OK).await;
    let received = exchange(
        &world,
        "POST /one HTTP/1.1\r\nhost: f\r\ncontent-length: 3\r\n\r\nabcGET /two HTTP/1.1\r\nhost: nobody\r\n\r\n\
         GET /three HTTP/1.1\r\nhost: f\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(status_codes(&received), ["200", "404", "200"], "{received}");
    let sent = sandbox.sent().await;
    assert!(sent.contains("POST /one ") && !sent.contains("/two") && sent.contains("GET /three "), "{sent}");
}

#[tokio::test]
async fn an_unread_body_after_a_refusal_is_not_parsed_as_a_request() {
    let (world, _session, sandbox) = with_scripted(OK).await;
    let inner = "GET /smuggled HTTP/1.1\r\nhost: f\r\n\r\n";
    let outer = format!("POST /a HTTP/1.1\r\nhost: nobody\r\ncontent-length: {}\r\n\r\n{inner}", inner.len());
    let received = exchange(&world, &outer).await;
    assert_eq!(status_codes(&received), ["404"], "{received}");
    assert_eq!(sandbox.sent().await, "", "what was a body became a request");
}

#[tokio::test]
async fn a_length_beside_a_coding_is_not_forwarded_and_ends_the_connection() {
    for fields in ["content-length: 4\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 4"]
    {
        let (world, _session, sandbox) = with_scripted(OK).await;
        let bytes = format!(
            "GET /0 HTTP/1.1\r\nhost: f\r\n\r\nPOST /a HTTP/1.1\r\nhost: f\r\n{fields}\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
             GET /b HTTP/1.1\r\nhost: f\r\n\r\n"
        );
        let received = exchange(&world, &bytes).await;
        let sent = sandbox.sent().await;
        // 9112, 6.1: the coding counts, the length must not be forwarded, and what follows may be no request.
        assert_eq!(status_codes(&received), ["200", "200"], "{fields}: {received}");
        assert_eq!(received.matches("connection: close").count(), 1, "{fields}: {received}");
        assert!(!sent.contains("content-length") && !sent.contains("/b"), "{fields}: {sent}");
        assert!(sent.contains("transfer-encoding: chunked") && sent.contains("3\r\nabc\r\n0\r\n"), "{sent}");
    }
}

#[tokio::test]
async fn input_after_a_request_with_two_framings_is_read_until_it_ends() {
    let (world, _session, _sandbox) = with_scripted(OK).await;
    let mut connection = TcpStream::connect(world.data_plane).await.unwrap();
    let fields = "content-length: 4\r\ntransfer-encoding: chunked";
    let request = format!("POST /a HTTP/1.1\r\nhost: f\r\n{fields}\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut received = String::new();
    timeout(WAIT_TIMEOUT, connection.read_to_string(&mut received))
        .await
        .expect("the data plane ends its side")
        .unwrap();
    assert_eq!(status_codes(&received), ["200"], "{received}");
    // 9112, 9.6: a connection that is reset may cost a client the response.
    let rest = vec![b'x'; 16 << 20];
    timeout(WAIT_TIMEOUT, connection.write_all(&rest)).await.expect("it is read").expect("no reset");
}

#[tokio::test]
async fn requests_are_counted_as_the_library_reads_them() {
    let (world, _session, _sandbox) = with_scripted(OK).await;
    // For the library a line that ends with LF alone is part of the trailer section.
    let chunked =
        "POST /a HTTP/1.1\r\nhost: f\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\nGET /#x HTTP/1.1\r\n\r\n";
    let others = "GET /b HTTP/1.1\r\nhost: f\r\n\r\nGET /c#d HTTP/1.1\r\nhost: f\r\nconnection: close\r\n\r\n";
    let received = exchange(&world, &format!("{chunked}{others}")).await;
    assert_eq!(status_codes(&received), ["200", "200", "400"], "{received}");
}
