//! The request that invokes a function: `POST /` with an empty body, and the headers existing trace replayers send.
//!
//! The part of the head that is the same for all invocations of a function is made before the run.

use std::io::Write;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, header};
use http_body_util::Empty;
use trace::Due;

/// Makes the requests of a schedule.
#[derive(Debug)]
pub(crate) struct Requests {
    /// Head of each function's request, up to the headers that differ between its invocations.
    heads: Vec<Box<[u8]>>,
}

impl Requests {
    /// Prepares the heads for functions by name; `close` asks the system to close the connection after its answer.
    pub(crate) fn new<'a>(functions: impl Iterator<Item = &'a str>, close: bool) -> Self {
        let connection = if close { "connection: close\r\n" } else { "" };
        let head = |name: &str| {
            format!(
                "POST / HTTP/1.1\r\nhost: {name}\r\nworkload: trace\r\nfunction: {name}\r\n{connection}content-length: 0\r\n"
            )
            .into_bytes()
            .into_boxed_slice()
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
pub(crate) fn h2c_request(name: &str, due: &Due) -> Result<Request<Empty<Bytes>>, http::Error> {
    let ms = format!("{}.{:03}", due.run_us / 1000, due.run_us % 1000);
    Request::post(format!("http://{name}/"))
        .header(HeaderName::from_static("workload"), HeaderValue::from_static("trace"))
        .header(HeaderName::from_static("function"), name)
        .header(HeaderName::from_static("requested_cpu"), ms)
        .header(HeaderName::from_static("requested_memory"), due.memory_mib)
        .header(header::CONTENT_LENGTH, HeaderValue::from_static("0"))
        .body(Empty::new())
}

#[cfg(test)]
mod tests {
    use trace::Phase;

    use super::*;

    const DUE: Due = Due { due_ns: 0, function: 1, run_us: 12_045, memory_mib: 170, phase: Phase::Measured };

    #[test]
    fn a_request_says_function_time_and_memory() {
        let requests = Requests::new(["f-a", "f-b"].into_iter(), false);
        let mut buffer = b"leftover".to_vec();
        requests.write(&DUE, &mut buffer);
        let expected = "POST / HTTP/1.1\r\nhost: f-b\r\nworkload: trace\r\nfunction: f-b\r\ncontent-length: 0\r\n\
                        requested_cpu: 12.045\r\nrequested_memory: 170\r\n\r\n";
        assert_eq!(String::from_utf8(buffer).unwrap(), expected);
    }

    #[test]
    fn both_protocols_ask_for_the_same() {
        let request = h2c_request("f-b", &DUE).unwrap();
        assert_eq!(request.uri().authority().unwrap(), "f-b");
        assert_eq!(
            (&request.headers()["function"], &request.headers()["requested_cpu"]),
            (&"f-b".parse().unwrap(), &"12.045".parse().unwrap())
        );
        assert_eq!(request.headers()["requested_memory"], "170");
    }
}
