//! The request that invokes a function: `POST /` with an empty body, and the headers existing trace replayers send.
//!
//! The part of the head that is the same for all invocations of a function is made before the run.

use std::io::Write;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, header};
use http_body_util::Empty;
use trace::Due;

use crate::http::target::{Kind, Target};

/// A header that the user adds to each invocation.
pub(crate) type Header = (HeaderName, HeaderValue);

/// Headers that say what is invoked, or how long the request is and where it ends.
const OWN: [&str; 12] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "upgrade",
    "keep-alive",
    "proxy-connection",
    "te",
    "workload",
    "function",
    "requested_cpu",
    "requested_memory",
];

/// Reads `NAME: VALUE`.
///
/// # Errors
/// When it is not of this form, or one that this program writes itself.
pub(crate) fn read_header(text: &str) -> anyhow::Result<Header> {
    let expected = || format!("expected NAME: VALUE, found {text:?}");
    let (name, value) = text.split_once(':').with_context(expected)?;
    let name: HeaderName = name.trim().parse().with_context(expected)?;
    let value: HeaderValue = value.trim().parse().with_context(expected)?;
    if OWN.contains(&name.as_str()) {
        bail!("{name} is written by the load generator itself");
    }
    Ok((name, value))
}

/// Makes the requests of a schedule.
#[derive(Debug)]
pub(crate) struct Requests {
    /// Head of each function's request, up to the headers that differ between its invocations.
    heads: Vec<Box<[u8]>>,
}

impl Requests {
    /// Prepares the heads for functions by name; `close` asks the system to close the connection after its response.
    pub(crate) fn new<'a>(
        (kind, headers): (Kind, &[Header]),
        functions: impl Iterator<Item = &'a str>,
        close: bool,
    ) -> Self {
        let mut added = Vec::new();
        for (name, value) in headers {
            added.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        let connection = if close { "connection: close\r\n" } else { "" };
        let head = |name: &str| {
            let host = kind.host(name);
            let naming: String =
                kind.headers(name).iter().map(|(header, value)| format!("{header}: {value}\r\n")).collect();
            let head = format!(
                "POST / HTTP/1.1\r\nhost: {host}\r\n{naming}workload: trace\r\nfunction: {name}\r\n{connection}\
                 content-length: 0\r\n"
            );
            [head.as_bytes(), &added].concat().into_boxed_slice()
        };
        Self { heads: functions.map(head).collect() }
    }

    /// Writes the HTTP/1.1 request of an invocation into `buffer`, replacing what is there.
    pub(crate) fn write(&self, due: &Due, buffer: &mut Vec<u8>) {
        buffer.clear();
        buffer.extend_from_slice(self.heads.get(position(due)).map_or(b"", |head| head));
        let (ms, us) = (due.run_us / 1000, due.run_us % 1000);
        // Writing into a vector cannot fail.
        let _ = write!(buffer, "requested_cpu: {ms}.{us:03}\r\nrequested_memory: {}\r\n\r\n", due.memory_mib);
    }
}

/// The function of an invocation, as a position in the schedule's functions.
pub(crate) fn position(due: &Due) -> usize {
    usize::try_from(due.function).unwrap_or(usize::MAX)
}

/// The HTTP/2 request of an invocation of a function by name.
///
/// # Errors
/// When the name cannot stand in a header.
pub(crate) fn h2c_request(target: &Target, name: &str, due: &Due) -> Result<Request<Empty<Bytes>>, http::Error> {
    let kind = target.kind;
    let ms = format!("{}.{:03}", due.run_us / 1000, due.run_us % 1000);
    let request = Request::post(format!("http://{}/", kind.host(name)));
    let naming = kind.headers(name).into_iter();
    let request = naming.fold(request, |request, (header, value)| request.header(header, value));
    let added = target.headers.iter();
    added
        .fold(request, |request, (header, value)| request.header(header, value))
        .header(HeaderName::from_static("workload"), HeaderValue::from_static("trace"))
        .header(HeaderName::from_static("function"), name)
        .header(HeaderName::from_static("requested_cpu"), ms)
        .header(HeaderName::from_static("requested_memory"), due.memory_mib)
        .header(header::CONTENT_LENGTH, HeaderValue::from_static("0"))
        .body(Empty::new())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trace::Phase;

    use super::*;
    use crate::http::target::{Connections, Protocol, Spread};

    const DUE: Due = Due { due_ns: 0, function: 1, run_us: 12_045, memory_mib: 170, phase: Phase::Measured };

    fn target(kind: Kind, headers: &[Header]) -> Target {
        Target {
            addresses: Vec::new(),
            kind,
            protocol: Protocol::H2c,
            connections: Connections::Pooled,
            open: 0,
            spread: Spread::RoundRobin,
            headers: headers.to_vec(),
            timeout: Duration::ZERO,
        }
    }

    #[test]
    fn headers_that_are_added_are_in_requests_of_both_protocols_and_none_of_its_own_is() {
        let headers = ["X-Tenant: a b", "x-tenant:c", "Cookie: k=v: w"].map(|text| read_header(text).unwrap());
        let mut buffer = Vec::new();
        Requests::new((Kind::Dirigent, &headers), ["f-a", "f-b"].into_iter(), false).write(&DUE, &mut buffer);
        let text = String::from_utf8(buffer).unwrap();
        let expected =
            "content-length: 0\r\nx-tenant: a b\r\nx-tenant: c\r\ncookie: k=v: w\r\nrequested_cpu: 12.045\r\n";
        assert!(text.contains(expected), "{text}");
        let request = h2c_request(&target(Kind::Dirigent, &headers), "f-b", &DUE).unwrap();
        assert_eq!(request.headers().get_all("x-tenant").iter().collect::<Vec<_>>(), ["a b", "c"]);
        for text in ["x", "", ": v", "a b: c", "x: a\r\ny: b"] {
            let error = format!("{:#}", read_header(text).unwrap_err());
            assert!(error.starts_with("expected NAME: VALUE"), "{text:?}: {error}");
        }
        assert!(read_header("Host: h").unwrap_err().to_string().contains("host is written by the load generator"));
    }

    #[test]
    fn a_request_says_function_time_and_memory() {
        let requests = Requests::new((Kind::Dirigent, &[]), ["f-a", "f-b"].into_iter(), false);
        let mut buffer = b"leftover".to_vec();
        requests.write(&DUE, &mut buffer);
        let expected = "POST / HTTP/1.1\r\nhost: f-b\r\nworkload: trace\r\nfunction: f-b\r\ncontent-length: 0\r\n\
                        requested_cpu: 12.045\r\nrequested_memory: 170\r\n\r\n";
        assert_eq!(String::from_utf8(buffer).unwrap(), expected);
    }

    #[test]
    fn knative_is_told_namespace_and_revision_as_an_ingress_tells_it() {
        let mut buffer = Vec::new();
        Requests::new((Kind::Knative, &[]), ["f-a", "f-b"].into_iter(), true).write(&DUE, &mut buffer);
        let text = String::from_utf8(buffer).unwrap();
        assert!(
            text.starts_with(
                "POST / HTTP/1.1\r\nhost: f-b.default.svc.cluster.local\r\nknative-serving-namespace: default\r\n\
                 knative-serving-revision: f-b-00001\r\nworkload: trace\r\nfunction: f-b\r\nconnection: close\r\n"
            ),
            "{text}"
        );
        let request = h2c_request(&target(Kind::Knative, &[]), "f-b", &DUE).unwrap();
        assert_eq!(request.uri().authority().unwrap(), "f-b.default.svc.cluster.local");
        assert_eq!(request.headers()["knative-serving-revision"], "f-b-00001");
    }

    #[test]
    fn both_protocols_ask_for_the_same() {
        let request = h2c_request(&target(Kind::Dirigent, &[]), "f-b", &DUE).unwrap();
        assert_eq!(request.uri().authority().unwrap(), "f-b");
        assert_eq!(
            (&request.headers()["function"], &request.headers()["requested_cpu"]),
            (&"f-b".parse().unwrap(), &"12.045".parse().unwrap())
        );
        assert_eq!(request.headers()["requested_memory"], "170");
    }
}
