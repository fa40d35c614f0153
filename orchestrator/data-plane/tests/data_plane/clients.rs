//! Clients that hold what others need: connections, places, slots.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    client::get,
    control_plane::PATIENCE,
    world::{World, function, until, with_sandbox},
};

const HALF_A_HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: f\r\nx-never";

/// The beginning of an HTTP/2 connection, and the beginning of a frame.
const HALF_A_FRAME: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x20\x01";

async fn connect(world: &World, bytes: &[u8]) -> TcpStream {
    let mut connection = TcpStream::connect(world.data_plane).await.unwrap();
    connection.write_all(bytes).await.unwrap();
    connection
}

async fn is_closed(connection: &mut TcpStream) {
    let mut heard = Vec::new();
    // A reset is an end as well.
    let _ = timeout(PATIENCE, connection.read_to_end(&mut heard)).await.expect("the data plane closes the connection");
}

#[tokio::test]
async fn a_request_that_has_begun_has_to_come() {
    let world = World::with(|config| config.limits.header_timeout = Duration::from_millis(100)).await;
    is_closed(&mut connect(&world, HALF_A_HEAD).await).await;
    // Also as the second of a connection, and when it comes byte by byte.
    let mut connection = connect(&world, b"GET / HTTP/1.1\r\nhost: nobody\r\n\r\n").await;
    assert!(connection.read_u8().await.is_ok());
    connection.write_all(HALF_A_HEAD).await.unwrap();
    let drip = async { while connection.write_all(b"x").await.is_ok() {} };
    timeout(PATIENCE, drip).await.expect("the data plane closes the connection");
}

#[tokio::test]
async fn half_requests_do_not_lock_others_out() {
    let mut world = World::with(|config| config.limits.client_connections = Some(2)).await;
    let _session = world.greeted(vec![function()]).await;
    let _half = [connect(&world, HALF_A_HEAD).await, connect(&world, HALF_A_HEAD).await];
    let served = async || get(world.data_plane, "nobody", "/").await.status == 404;
    until("a client is served at the bound", served).await;
}

#[tokio::test]
async fn half_requests_do_not_hold_up_a_shutdown() {
    let (mut world, mut session, _sandbox) = with_sandbox(1).await;
    let _half = [connect(&world, HALF_A_HEAD).await, connect(&world, HALF_A_FRAME).await];
    assert_eq!(get(world.data_plane, "f", "/").await.status, 200, "the others have been accepted");
    world.shutdown.cancel();
    session.ack(1, |ack| ack.slots == 0).await;
    session.close();
    world.ended().await;
}
