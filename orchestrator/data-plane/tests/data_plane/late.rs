//! Late input in an outage of the control plane: connections, and responses that had arrived long before.

use std::{sync::atomic::Ordering, time::Duration};

use api::wire;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    client::get,
    outage::{Outage, jump},
    sandbox::{HUGE_BYTES, Sandbox},
    world::{active, until},
};

/// A client that has requested `path` of `f` and reads when the test does. Its connection ends with the response.
async fn fetch(outage: &Outage, path: &str) -> TcpStream {
    let mut client = TcpStream::connect(outage.world.data_plane).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: f\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

#[tokio::test]
async fn a_connection_that_was_made_too_late_is_not_used() {
    for is_suspended in [true, false] {
        let (outage, session) = Outage::with(|config| config.limits.connect_timeout = Duration::from_secs(600)).await;
        outage.lose(session).await;
        outage.sandbox.end_connections().await;
        outage.network.is_held.send_replace(true);
        let tried = outage.network.tried.load(Ordering::SeqCst);
        let mut client = fetch(&outage, "/").await;
        until("it connects", async || outage.network.tried.load(Ordering::SeqCst) > tried).await;
        if is_suspended {
            jump(61).await
        } else {
            outage.go_on(61).await
        }
        outage.sandbox.kill();
        let other = Sandbox::start_at(outage.sandbox.address).await;
        outage.network.is_held.send_replace(false);
        let mut response = String::new();
        client.read_to_string(&mut response).await.unwrap();
        assert!(response.starts_with("HTTP/1.1 502 "), "{response}");
        assert_eq!(other.state.served.load(Ordering::SeqCst), 0);
        assert_eq!(outage.metric("sandboxes_failed_total").await, 0, "nothing is known against the sandbox");
    }
}

#[tokio::test]
async fn a_connection_that_was_made_too_late_counts_as_an_attempt() {
    let (outage, mut session) = Outage::with(|config| config.limits.connect_timeout = Duration::from_secs(600)).await;
    let functions = vec![wire::FunctionConfig { queue_deadline_ms: 3_600_000, ..Outage::function() }];
    session.send(wire::ToDataPlane { functions, sequence: 2, ..Default::default() });
    session.applied(2).await;
    let mut first = fetch(&outage, "/hold").await;
    outage.sandbox.running(1).await;
    let late = Sandbox::start().await;
    session.delta(active(2, &late, 1));
    session.ack(2, |ack| ack.slots == 1).await;
    outage.lose(session).await;
    outage.network.is_held.send_replace(true);
    let tried = outage.network.tried.load(Ordering::SeqCst);
    let mut client = fetch(&outage, "/").await;
    until("it connects", async || outage.network.tried.load(Ordering::SeqCst) > tried).await;
    outage.go_on(61).await;
    // The other sandbox has an open connection, which needs no trust.
    outage.sandbox.state.gate.add_permits(1);
    let mut response = String::new();
    first.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    outage.network.is_held.send_replace(false);
    let mut response = String::new();
    client.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200 ") && response.contains("\r\nx-dirigent-attempts: 2\r\n"), "{response}");
    assert_eq!(late.state.served.load(Ordering::SeqCst), 0);
    assert_eq!(outage.metric("sandboxes_failed_total").await, 0, "nothing is known against it");
}

/// A client that reads a huge response so slowly that all buffers on the way are full, while the sandbox has written
/// all of it and closed. Returns the bytes read so far as well.
async fn fetch_slowly(outage: &Outage) -> (TcpStream, usize) {
    let mut client = fetch(outage, "/huge").await;
    let mut part = vec![0; 131_072];
    let mut read = client.read_exact(&mut part).await.unwrap();
    while *outage.sandbox.state.open.borrow() > 0 {
        read += client.read_exact(&mut part).await.unwrap();
        // Meanwhile the buffers behind it have moved up.
        assert_eq!(outage.metric("running").await, 1, "its end has not been read");
    }
    (client, read)
}

async fn slow_outage() -> Outage {
    let (outage, session) = Outage::with(|config| config.limits.send_timeout = Duration::from_secs(3600)).await;
    outage.lose(session).await;
    outage
}

#[tokio::test]
async fn the_end_of_a_response_that_is_read_late_is_no_evidence_of_its_sandbox() {
    for client_leaves in [false, true] {
        let outage = slow_outage().await;
        let (mut client, read) = fetch_slowly(&outage).await;
        outage.sandbox.kill();
        outage.go_on(61).await;
        assert_eq!(outage.metric("running").await, 1, "its end has not been read");
        if client_leaves {
            drop(client);
        } else {
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.unwrap();
            assert!(read + rest.len() > HUGE_BYTES, "all of it has come, and the head");
        }
        until("its slot is free", async || outage.metric("running").await == 0).await;
        outage.assert_is_not_used().await;
    }
}

#[tokio::test]
async fn a_sandbox_whose_slots_were_in_use_for_long_is_trusted_when_one_is_free() {
    let outage = slow_outage().await;
    let (mut client, _read) = fetch_slowly(&outage).await;
    outage.go_on(70).await;
    assert_eq!(outage.metric("running").await, 1, "its end has not been read");
    client.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(get(outage.world.data_plane, "f", "/").await.status, 200, "a new connection is opened");
}
