//! The request that invokes a function: an empty body, and the headers that existing trace replayers send.
//!
//! The part that is the same for all invocations of a function is made before the run, so that the pacing thread only adds
//! run time and memory.

use std::io::Write;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header, request::Parts};
use http_body_util::Empty;
use trace::Due;

use crate::{
    http::target::{Connections, Protocol, Target},
    target_profile::{HeaderTemplate, RunTimeForm, Values},
};

/// Makes the requests of a schedule.
#[derive(Debug)]
pub(crate) struct Requests {
    functions: FunctionRequests,
    run_time: RunTimeForm,
}

/// The part shared by all invocations of a function, in the order of the schedule's functions.
#[derive(Debug)]
enum FunctionRequests {
    /// The head up to the headers that differ.
    Http1(Vec<Box<[u8]>>),
    /// The head without them.
    H2c(Vec<Parts>),
}

impl Requests {
    /// Prepares the requests to a target for functions by name.
    ///
    /// # Errors
    /// If a name cannot be part of a request.
    pub(crate) fn new<'a>(target: &Target, functions: impl Iterator<Item = &'a str>) -> anyhow::Result<Self> {
        let functions =
            functions.map(|name| FunctionHead::new(target, name).with_context(|| format!("function {name:?}")));
        // Only for the protocol that is spoken: a trace may have a hundred thousand functions.
        let functions = match target.protocol {
            Protocol::Http1 => {
                let close = target.connections == Connections::Fresh;
                let heads: anyhow::Result<_> = functions.map(|head| Ok(head?.http1(close))).collect();
                FunctionRequests::Http1(heads?)
            }
            Protocol::H2c => {
                let heads: anyhow::Result<_> = functions.map(|head| Ok(head?.h2c())).collect();
                FunctionRequests::H2c(heads?)
            }
        };
        Ok(Self { functions, run_time: target.profile.run_time })
    }

    /// Run time that the request of an invocation asks for, in microseconds: the schedule's, as far as its form can say it.
    pub(crate) fn requested_us(&self, due: &Due) -> u64 {
        self.run_time.requested_us(due.run_us)
    }

    /// Writes the HTTP/1.1 request of an invocation into `buffer`, replacing its content.
    pub(crate) fn write(&self, due: &Due, buffer: &mut Vec<u8>) {
        buffer.clear();
        if let FunctionRequests::Http1(heads) = &self.functions {
            buffer.extend_from_slice(heads.get(position(due)).map_or(b"", |head| head));
        }
        let run_us = self.requested_us(due);
        // Writing into a vector cannot fail.
        let _ = match self.run_time {
            RunTimeForm::Milliseconds => write!(buffer, "requested_cpu: {}.{:03}\r\n", run_us / 1000, run_us % 1000),
            RunTimeForm::WholeMilliseconds => write!(buffer, "requested_cpu: {}\r\n", run_us / 1000),
        };
        let _ = write!(buffer, "requested_memory: {}\r\n\r\n", due.memory_mib);
    }

    /// The HTTP/2 request of an invocation; nothing when its function has none.
    pub(crate) fn h2c(&self, due: &Due) -> Option<Request<Empty<Bytes>>> {
        let FunctionRequests::H2c(parts) = &self.functions else { return None };
        let mut request = Request::from_parts(parts.get(position(due))?.clone(), Empty::new());
        let run_us = self.requested_us(due);
        let run_time = match self.run_time {
            RunTimeForm::Milliseconds => {
                let ms = format!("{}.{:03}", run_us / 1000, run_us % 1000);
                HeaderValue::try_from(ms).expect("digits and a point are a header value")
            }
            RunTimeForm::WholeMilliseconds => HeaderValue::from(run_us / 1000),
        };
        request.headers_mut().append(HeaderName::from_static("requested_cpu"), run_time);
        request.headers_mut().append(HeaderName::from_static("requested_memory"), HeaderValue::from(due.memory_mib));
        Some(request)
    }
}

/// The function of an invocation, as a position in the schedule's functions.
pub(crate) fn position(due: &Due) -> usize {
    usize::try_from(due.function).unwrap_or(usize::MAX)
}

/// The templates of a target for one function, rendered.
struct FunctionHead<'a> {
    target: &'a Target,
    function: HeaderValue,
    uri: Uri,
    path: String,
    profile_headers: Vec<(HeaderName, HeaderValue)>,
    added_headers: Vec<(HeaderName, HeaderValue)>,
}

impl<'a> FunctionHead<'a> {
    fn new(target: &'a Target, name: &str) -> anyhow::Result<Self> {
        let values = Values { function: name, address: &target.first_address };
        let render = |headers: &[HeaderTemplate]| -> anyhow::Result<Vec<(HeaderName, HeaderValue)>> {
            let rendered = headers.iter().map(|(name, value)| Ok((name.clone(), value.render(values).try_into()?)));
            rendered.collect()
        };
        let (profile, path) = (&target.profile, target.profile.path.render(values));
        Ok(Self {
            target,
            function: name.try_into()?,
            uri: format!("http://{}{path}", profile.host.render(values)).parse()?,
            path,
            profile_headers: render(&profile.headers)?,
            added_headers: render(&target.headers)?,
        })
    }

    /// The head of an HTTP/1.1 request; `close` asks the system to close the connection after its response.
    fn http1(&self, close: bool) -> Box<[u8]> {
        let host = self.uri.authority().map_or("", |authority| authority.as_str());
        let mut head =
            format!("{} {} HTTP/1.1\r\nhost: {host}\r\n", self.target.profile.method, self.path).into_bytes();
        let mut line = |name: &str, value: &[u8]| head.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        self.profile_headers.iter().for_each(|(name, value)| line(name.as_str(), value.as_bytes()));
        line("workload", b"trace");
        line("function", self.function.as_bytes());
        if close {
            line("connection", b"close");
        }
        line("content-length", b"0");
        self.added_headers.iter().for_each(|(name, value)| line(name.as_str(), value.as_bytes()));
        head.into_boxed_slice()
    }

    /// The head of an HTTP/2 request.
    fn h2c(self) -> Parts {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = self.target.profile.method.clone();
        parts.uri = self.uri;
        let mut headers = HeaderMap::new();
        headers.extend([(HeaderName::from_static("workload"), HeaderValue::from_static("trace"))]);
        headers.extend([(HeaderName::from_static("function"), self.function)]);
        headers.extend([(header::CONTENT_LENGTH, HeaderValue::from_static("0"))]);
        for (name, value) in self.profile_headers.into_iter().chain(self.added_headers) {
            // Not `insert`: a header may be given several times.
            headers.append(name, value);
        }
        parts.headers = headers;
        parts
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trace::Phase;

    use super::*;
    use crate::{
        http::target::Spread,
        target_profile::{DEFAULT_TARGET, TargetProfiles, Template},
    };

    const DUE: Due = Due { due_ns: 0, function: 1, run_us: 12_045, memory_mib: 170, phase: Phase::Measured };

    fn target(profile: &str, headers: &[(&'static str, &str)], protocol: Protocol) -> Target {
        let header =
            |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), Template::parse(value).unwrap());
        Target {
            addresses: Vec::new(),
            first_address: "h:80".to_owned(),
            profile: TargetProfiles::load(None).unwrap().get(profile).unwrap().clone(),
            protocol,
            connections: Connections::Pooled,
            open: 0,
            spread: Spread::RoundRobin,
            headers: headers.iter().map(header).collect(),
            timeout: Duration::ZERO,
        }
    }

    fn http1(target: &Target) -> String {
        let mut buffer = b"leftover".to_vec();
        Requests::new(target, ["f-a", "f-b"].into_iter()).unwrap().write(&DUE, &mut buffer);
        String::from_utf8(buffer).unwrap()
    }

    fn h2c(target: &Target) -> Request<Empty<Bytes>> {
        Requests::new(target, ["f-a", "f-b"].into_iter()).unwrap().h2c(&DUE).unwrap()
    }

    #[test]
    fn headers_that_are_added_are_in_requests_of_both_protocols() {
        let headers = [("x-tenant", "a b"), ("x-tenant", "c-{function}"), ("cookie", "k=v: w")];
        let text = http1(&target(DEFAULT_TARGET, &headers, Protocol::Http1));
        let expected =
            "content-length: 0\r\nx-tenant: a b\r\nx-tenant: c-f-b\r\ncookie: k=v: w\r\nrequested_cpu: 12.045\r\n";
        assert!(text.contains(expected), "{text}");
        let request = h2c(&target(DEFAULT_TARGET, &headers, Protocol::H2c));
        assert_eq!(request.headers().get_all("x-tenant").iter().collect::<Vec<_>>(), ["a b", "c-f-b"]);
    }

    #[test]
    fn a_request_says_function_time_and_memory() {
        let expected = "POST / HTTP/1.1\r\nhost: f-b\r\nworkload: trace\r\nfunction: f-b\r\ncontent-length: 0\r\n\
                        requested_cpu: 12.045\r\nrequested_memory: 170\r\n\r\n";
        assert_eq!(http1(&target(DEFAULT_TARGET, &[], Protocol::Http1)), expected);
    }

    #[test]
    fn knative_gets_namespace_and_revision_as_from_an_ingress() {
        let text = http1(&Target { connections: Connections::Fresh, ..target("knative", &[], Protocol::Http1) });
        assert!(
            text.starts_with(
                "POST / HTTP/1.1\r\nhost: f-b.default.svc.cluster.local\r\nknative-serving-namespace: default\r\n\
                 knative-serving-revision: f-b-00001\r\nworkload: trace\r\nfunction: f-b\r\nconnection: close\r\n"
            ),
            "{text}"
        );
        let request = h2c(&target("knative", &[], Protocol::H2c));
        assert_eq!(request.uri().authority().unwrap(), "f-b.default.svc.cluster.local");
        assert_eq!(request.headers()["knative-serving-revision"], "f-b-00001");
    }

    #[test]
    fn both_protocols_send_the_same_headers() {
        let request = h2c(&target(DEFAULT_TARGET, &[], Protocol::H2c));
        assert_eq!(request.uri().authority().unwrap(), "f-b");
        assert_eq!(
            (&request.headers()["function"], &request.headers()["requested_cpu"]),
            (&"f-b".parse().unwrap(), &"12.045".parse().unwrap())
        );
        assert_eq!(request.headers()["requested_memory"], "170");
    }

    #[test]
    fn a_system_may_refuse_fractions_of_milliseconds() {
        assert!(http1(&target("dirigent-go", &[], Protocol::Http1)).contains("\r\nrequested_cpu: 12\r\n"));
        assert_eq!(h2c(&target("dirigent-go", &[], Protocol::H2c)).headers()["requested_cpu"], "12");
        let requested = [0, 1, 499, 1_499, 1_500].map(|run_us| RunTimeForm::WholeMilliseconds.requested_us(run_us));
        assert_eq!(requested, [0, 1_000, 1_000, 1_000, 2_000]);
    }

    #[test]
    fn method_path_and_address_are_those_of_the_system() {
        let mut external = target("external", &[], Protocol::Http1);
        external.profile.method = http::Method::GET;
        external.profile.path = Template::parse("/run/{function}?x=1").unwrap();
        assert!(http1(&external).starts_with("GET /run/f-b?x=1 HTTP/1.1\r\nhost: h:80\r\n"), "{}", http1(&external));
        let request = h2c(&Target { protocol: Protocol::H2c, ..external });
        assert_eq!((request.method().as_str(), request.uri().to_string().as_str()), ("GET", "http://h:80/run/f-b?x=1"));
    }

    #[test]
    fn a_name_that_cannot_be_in_a_request_is_refused() {
        let error = Requests::new(&target(DEFAULT_TARGET, &[], Protocol::Http1), ["a b"].into_iter()).unwrap_err();
        assert!(format!("{error:#}").starts_with("function \"a b\": "), "{error:#}");
    }
}
