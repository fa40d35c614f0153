//! Header and trailer sections: one bound for both protocols, in both directions, and nothing is dropped silently.

use std::{convert::Infallible, net::SocketAddr};

use api::wire::{self, EndpointState};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Body, Frame, Incoming},
    client::conn,
    server,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use model::Protocol;
use service::{ANY_LOOPBACK, Network, OsNetwork};
use sim::{DataPlaneStream, WAIT_TIMEOUT};
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};

use super::{
    client::get,
    world::{World, delta, function},
};

/// More than any section here has: the limit of the HTTP library of client and sandbox.
const PLENTY: usize = 4 * 1024 * 1024;
const MANY: usize = 1000;

/// The section of a message that has the fields.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Section {
    Header,
    Trailer,
}

/// `count` fields with values of `bytes` bytes.
#[derive(Clone, Copy, Debug)]
struct Fields {
    count: usize,
    bytes: usize,
}

const NONE: Fields = Fields { count: 0, bytes: 0 };

impl Fields {
    fn put_into(self, map: &mut HeaderMap) {
        for index in 0..self.count {
            let name = HeaderName::try_from(format!("x-fill-{index}")).unwrap();
            map.insert(name, HeaderValue::try_from("y".repeat(self.bytes)).unwrap());
        }
    }

    /// Number of them that are in `map` unchanged.
    fn found_in(map: &HeaderMap) -> usize {
        let bytes = |name: &HeaderName, value: &HeaderValue| if is_fill(name) { value.len() } else { 0 };
        map.iter().map(|(name, value)| bytes(name, value)).sum()
    }
}

fn is_fill(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-fill-")
}

/// A body in one piece, followed by `fields` if they are trailers, and the header fields that go with it.
fn message(section: Section, fields: Fields, text: String) -> (HeaderMap, impl Body<Data = Bytes, Error = Infallible>) {
    let (mut head, mut trailers) = (HeaderMap::new(), HeaderMap::new());
    let filled = if section == Section::Header { &mut head } else { &mut trailers };
    fields.put_into(filled);
    if !trailers.is_empty() {
        // In HTTP/1.1 only trailers that are named here are sent.
        let names: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        head.insert(header::TRAILER, HeaderValue::try_from(names.join(",")).unwrap());
    }
    let mut frames = vec![Ok(Frame::data(Bytes::from(text)))];
    frames.extend((!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers))));
    (head, StreamBody::new(futures::stream::iter(frames)))
}

/// A sandbox of one protocol that reports what arrived and responds with the requested fields.
struct Filler {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Filler {
    async fn start(protocol: Protocol) -> Self {
        let listener = OsNetwork.bind(ANY_LOOPBACK).await.unwrap();
        let address = listener.local_address().unwrap();
        let server = tokio::spawn(async move {
            loop {
                let io = TokioIo::new(listener.accept().await.unwrap().io);
                let service = service_fn(response);
                tokio::spawn(async move {
                    match protocol {
                        Protocol::Http1 => {
                            let mut builder = server::conn::http1::Builder::new();
                            builder.max_headers(MANY).max_header_size(PLENTY).max_buf_size(PLENTY);
                            drop(builder.serve_connection(io, service).await);
                        }
                        Protocol::H2c => {
                            let mut builder = server::conn::http2::Builder::new(TokioExecutor::new());
                            builder.max_header_list_size(u32::try_from(PLENTY).unwrap());
                            drop(builder.serve_connection(io, service).await);
                        }
                    }
                });
            }
        });
        Self { address, server }
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn response(
    request: Request<Incoming>,
) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let requested: Vec<usize> = head.uri.query().unwrap().split(',').map(|number| number.parse().unwrap()).collect();
    let section = if requested[0] == 0 { Section::Header } else { Section::Trailer };
    let body = body.collect().await?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    let came = format!("{} {}", Fields::found_in(&head.headers), Fields::found_in(&trailers));
    let (fields, body) = message(section, Fields { count: requested[1], bytes: requested[2] }, came);
    let mut response = Response::new(body);
    response.headers_mut().extend(fields);
    Ok(response)
}

/// The outcome for a client: bytes of fields in the header and trailer sections that the sandbox got, and that came
/// back.
#[derive(Debug, PartialEq)]
enum Outcome {
    Whole { requested: String, header: usize, trailer: usize },
    Refused(u16, String),
    Broken,
}

/// Sends `up` to `host` and requests `down`, over HTTP/2 or HTTP/1.1.
async fn exchange(world: &World, http2: bool, host: &str, section: Section, [up, down]: [Fields; 2]) -> Outcome {
    let (fields, body) = message(section, up, "body".to_owned());
    let path = format!("/?{},{},{}", usize::from(section == Section::Trailer), down.count, down.bytes);
    let uri = if http2 { format!("http://{host}{path}") } else { path };
    let mut request = Request::post(uri).body(Box::pin(body)).unwrap();
    request.headers_mut().extend(fields);
    request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    let io = TokioIo::new(TcpStream::connect(world.data_plane).await.unwrap());
    let response = if http2 {
        let mut builder = conn::http2::Builder::new(TokioExecutor::new());
        builder.max_header_list_size(u32::try_from(PLENTY).unwrap());
        let (mut sender, connection) = builder.handshake(io).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        timeout(WAIT_TIMEOUT, sender.send_request(request)).await
    } else {
        request.headers_mut().insert(header::HOST, HeaderValue::try_from(host).unwrap());
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("te"));
        let mut builder = conn::http1::Builder::new();
        builder.max_headers(MANY).max_header_size(PLENTY).max_buf_size(PLENTY);
        let (mut sender, connection) = builder.handshake(io).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        timeout(WAIT_TIMEOUT, sender.send_request(request)).await
    };
    let what = || format!("an answer to {section:?} {up:?}, {down:?} for {host}, HTTP/2: {http2}");
    let Ok(response) = response.unwrap_or_else(|_| panic!("{}", what())) else { return Outcome::Broken };
    let (head, body) = response.into_parts();
    let Ok(body) = timeout(WAIT_TIMEOUT, body.collect()).await.expect("the body ends") else { return Outcome::Broken };
    let trailer = body.trailers().map_or(0, Fields::found_in);
    if head.status != 200 {
        let error = head.headers.get("x-dirigent-error").map_or("", |name| name.to_str().unwrap());
        return Outcome::Refused(head.status.as_u16(), error.to_owned());
    }
    let requested = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    Outcome::Whole { requested, header: Fields::found_in(&head.headers), trailer }
}

/// `f` over HTTP/1.1 and `g` over h2c, with at most `count` fields per section, or the default.
async fn both_protocols(count: Option<usize>) -> (World, DataPlaneStream, [Filler; 2]) {
    let mut world = World::with(|config| {
        let limits = &mut config.limits;
        limits.header_count = count.unwrap_or(limits.header_count);
    })
    .await;
    let function_config = wire::FunctionConfig { timeout_ms: 60_000, ..function() };
    let g = wire::FunctionConfig {
        function: 2,
        name: "g".to_owned(),
        protocol: wire::Protocol::H2c.into(),
        ..function_config.clone()
    };
    let mut session = world.accept_stream(vec![function_config, g]).await;
    let fillers = [Filler::start(Protocol::Http1).await, Filler::start(Protocol::H2c).await];
    for (number, filler) in (1..).zip(&fillers) {
        let delta = delta(number, filler.address, 1, EndpointState::Active, 1);
        session.delta(wire::EndpointDelta { function: number, ..delta });
        session.ack(number, |ack| ack.slots == 1).await;
    }
    (world, session, fillers)
}

const WAYS: [(bool, &str); 4] = [(false, "f"), (false, "g"), (true, "f"), (true, "g")];
const SECTIONS: [Section; 2] = [Section::Header, Section::Trailer];

/// Each section of `fields` arrives unchanged in both directions.
async fn assert_passes(world: &World, fields: Fields) {
    for (http2, host) in WAYS {
        for section in SECTIONS {
            let outcome = exchange(world, http2, host, section, [fields, fields]).await;
            let bytes = fields.count * fields.bytes;
            let (header, trailer) = if section == Section::Header { (bytes, 0) } else { (0, bytes) };
            let expected = Outcome::Whole { requested: format!("{header} {trailer}"), header, trailer };
            assert_eq!(outcome, expected, "{section:?} of {fields:?} to {host}, HTTP/2: {http2}");
        }
    }
}

#[tokio::test]
async fn sections_within_the_bound_pass_both_ways_in_both_protocols() {
    let (world, _session, _fillers) = both_protocols(Some(100)).await;
    for fields in [Fields { count: 1, bytes: 60_000 }, Fields { count: 80, bytes: 700 }] {
        assert_passes(&world, fields).await;
    }
}

#[tokio::test]
async fn more_than_a_hundred_fields_pass_where_they_are_allowed() {
    let (world, _session, _fillers) = both_protocols(Some(300)).await;
    assert_passes(&world, Fields { count: 250, bytes: 1 }).await;
}

#[tokio::test]
async fn more_than_a_hundred_fields_pass_by_default() {
    let (world, _session, _fillers) = both_protocols(None).await;
    assert_passes(&world, Fields { count: 150, bytes: 1 }).await;
}

#[tokio::test]
async fn sections_beyond_the_bound_are_refused_or_abort_their_message() {
    let (world, _session, _fillers) = both_protocols(Some(100)).await;
    for beyond in
        [Fields { count: 1, bytes: 66_000 }, Fields { count: 101, bytes: 1 }, Fields { count: 1, bytes: 400_000 }]
    {
        for (http2, host) in WAYS {
            let what = format!("{beyond:?} to {host}, HTTP/2: {http2}");
            let request = exchange(&world, http2, host, Section::Header, [beyond, NONE]).await;
            assert!(matches!(&request, Outcome::Refused(431, _)), "{what}: {request:?}");
            let response = exchange(&world, http2, host, Section::Header, [NONE, beyond]).await;
            assert_eq!(response, Outcome::Refused(502, "upstream".to_owned()), "{what}");
            let request = exchange(&world, http2, host, Section::Trailer, [beyond, NONE]).await;
            assert!(matches!(&request, Outcome::Refused(431, _) | Outcome::Broken), "trailers of {what}: {request:?}");
            let response = exchange(&world, http2, host, Section::Trailer, [NONE, beyond]).await;
            // A refusal, if they arrived before anything had left.
            let is_refused = response == Outcome::Refused(502, "upstream".to_owned());
            assert!(is_refused || response == Outcome::Broken, "trailers of {what}: {response:?}");
        }
    }
    assert_eq!(get(world.data_plane, "nobody", "/").await.status, 404, "the data plane is in order");
    let fields = Fields { count: 1, bytes: 1 };
    assert_passes(&world, fields).await;
}
