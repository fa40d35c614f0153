//! Reads one HTTP/1.1 response from the bytes received so far: a pure function over a buffer.
//!
//! Responses of a function are a few hundred bytes and come in one read, so parsing starts from the front each time
//! rather than keeping a state machine; the bound on a response's size keeps that cheap.

use std::{borrow::Cow, mem::MaybeUninit};

use thiserror::Error;

use crate::signals::{SignalAdapter, Signals};

/// A response that has arrived whole.
#[derive(Debug)]
pub(crate) struct ParsedResponse<'a> {
    /// HTTP status.
    pub(crate) status: u16,
    /// The signals in its headers.
    pub(crate) signals: Signals,
    /// Its body.
    pub(crate) body: Cow<'a, [u8]>,
    /// True if the connection can carry another request.
    pub(crate) reusable: bool,
}

/// Bytes that are not a response.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum MalformedResponse {
    /// The status line or a header.
    #[error("malformed response head: {0}")]
    Head(httparse::Error),
    /// The framing of the body.
    #[error("malformed response body: {0}")]
    Body(&'static str),
    /// More than is kept.
    #[error("response is larger than {MAX_RESPONSE_BYTES} bytes")]
    TooLarge,
}

/// A response larger than this is refused: a function's response is a line of JSON, and rows must not cost memory.
pub(crate) const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// Headers looked at in one response; a system that sends more is refused rather than half read. A data plane passes
/// 256 of a function's on, and adds its own.
const MAX_HEADERS: usize = 288;

/// Framing of the body (RFC 9112, section 6).
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// Reads the response at the front of `bytes`, with what `adapter` finds in its headers; nothing when more bytes are needed. `ended` says
/// that no more will come.
///
/// # Errors
/// If the bytes cannot become a response.
pub(crate) fn parse<'a>(
    adapter: &dyn SignalAdapter,
    bytes: &'a [u8],
    ended: bool,
) -> Result<Option<ParsedResponse<'a>>, MalformedResponse> {
    let mut rest = bytes;
    loop {
        // Not initialised, since so many would cost as much as the rest of it.
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut head = httparse::Response::new(&mut []);
        let parsed =
            httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut head, rest, &mut headers);
        let httparse::Status::Complete(head_len) = parsed.map_err(MalformedResponse::Head)? else {
            return if bytes.len() > MAX_RESPONSE_BYTES { Err(MalformedResponse::TooLarge) } else { Ok(None) };
        };
        let status = head.code.unwrap_or(0);
        rest = &rest[head_len..];
        if !(100..200).contains(&status) {
            return whole(adapter, &head, rest, ended);
        }
        // An interim response (100, 103): the real one follows.
    }
}

fn whole<'a>(
    adapter: &dyn SignalAdapter,
    head: &httparse::Response<'_, '_>,
    rest: &'a [u8],
    ended: bool,
) -> Result<Option<ParsedResponse<'a>>, MalformedResponse> {
    let status = head.code.unwrap_or(0);
    let mut signals = Signals::default();
    let mut keep_alive = head.version == Some(1);
    let mut framing = None;
    for header in head.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("connection") {
            keep_alive = has_token(header.value, "keep-alive") || (keep_alive && !has_token(header.value, "close"));
        } else if is("transfer-encoding") {
            // A chunked body takes precedence over a length (RFC 9112, section 6.3).
            framing = Some(if has_token(header.value, "chunked") { Framing::Chunked } else { Framing::UntilClose });
        } else if is("content-length") {
            let length = length(header.value)?;
            framing.get_or_insert(Framing::Length(length));
        } else {
            adapter.read_header(&mut signals, header.name, header.value);
        }
    }
    let framing = if matches!(status, 204 | 304) { Framing::Length(0) } else { framing.unwrap_or(Framing::UntilClose) };
    let Some((body, used)) = body(rest, &framing, ended)? else {
        return if rest.len() > MAX_RESPONSE_BYTES { Err(MalformedResponse::TooLarge) } else { Ok(None) };
    };
    // Bytes beyond the response belong to no request: such a connection is not used again.
    let reusable = keep_alive && !ended && used == rest.len() && !matches!(framing, Framing::UntilClose);
    Ok(Some(ParsedResponse { status, signals, body, reusable }))
}

/// A body, and how many bytes it took.
type Framed<'a> = (Cow<'a, [u8]>, usize);

fn body<'a>(rest: &'a [u8], framing: &Framing, ended: bool) -> Result<Option<Framed<'a>>, MalformedResponse> {
    match framing {
        Framing::Length(length) if *length > MAX_RESPONSE_BYTES => Err(MalformedResponse::TooLarge),
        Framing::Length(length) => Ok(rest.get(..*length).map(|body| (Cow::Borrowed(body), *length))),
        Framing::UntilClose => Ok(ended.then_some((Cow::Borrowed(rest), rest.len()))),
        Framing::Chunked => chunks(rest),
    }
}

fn chunks(rest: &[u8]) -> Result<Option<Framed<'_>>, MalformedResponse> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let size =
            httparse::parse_chunk_size(&rest[at..]).map_err(|_| MalformedResponse::Body("invalid chunk size"))?;
        let httparse::Status::Complete((line, size)) = size else { return Ok(None) };
        let size = usize::try_from(size).map_err(|_| MalformedResponse::TooLarge)?;
        if size > MAX_RESPONSE_BYTES - body.len() {
            return Err(MalformedResponse::TooLarge);
        }
        at += line;
        if size == 0 {
            return Ok(trailers_len(&rest[at..])?.map(|trailers| (Cow::Owned(body), at + trailers)));
        }
        let Some(chunk) = rest.get(at..at + size + 2) else { return Ok(None) };
        let (data, end) = chunk.split_at(size);
        if end != b"\r\n" {
            return Err(MalformedResponse::Body("chunk does not end where its size says"));
        }
        body.extend_from_slice(data);
        at += size + 2;
    }
}

/// Length of the trailer section with its closing empty line.
fn trailers_len(rest: &[u8]) -> Result<Option<usize>, MalformedResponse> {
    let mut trailers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    match httparse::parse_headers(rest, &mut trailers).map_err(MalformedResponse::Head)? {
        httparse::Status::Complete((length, _)) => Ok(Some(length)),
        httparse::Status::Partial => Ok(None),
    }
}

fn length(value: &[u8]) -> Result<usize, MalformedResponse> {
    let text = str::from_utf8(value).unwrap_or("").trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(MalformedResponse::Body("content-length is not a number"));
    }
    text.parse().map_err(|_| MalformedResponse::TooLarge)
}

/// Returns true if a comma-separated header value holds a token, in any case.
fn has_token(value: &[u8], token: &str) -> bool {
    value.split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::NONE;

    fn response(text: &str) -> (u16, String, bool) {
        let response = parse(NONE, text.as_bytes(), false).unwrap().expect("a whole response");
        (response.status, String::from_utf8(response.body.into_owned()).unwrap(), response.reusable)
    }

    #[test]
    fn as_many_fields_as_a_data_plane_passes_on_are_read() {
        let fields = |count: usize| "x-more: 1\r\n".repeat(count);
        let text = |count| format!("HTTP/1.1 200 OK\r\n{}content-length: 2\r\n\r\nok", fields(count));
        let response = text(280);
        assert_eq!(parse(NONE, response.as_bytes(), false).unwrap().unwrap().body, &b"ok"[..]);
        assert!(parse(NONE, text(MAX_HEADERS).as_bytes(), false).is_err(), "one more is refused");
    }

    #[test]
    fn bodies_end_as_their_framing_says() {
        assert_eq!(response("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), (200, "hi".into(), true));
        assert_eq!(response("HTTP/1.1 204 No Content\r\n\r\n"), (204, String::new(), true));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n3;x=y\r\n yo\r\n0\r\n\r\n";
        assert_eq!(response(chunked), (200, "hi yo".into(), true));
        let interim = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(response(interim), (503, String::new(), true));
    }

    #[test]
    fn a_connection_is_not_reused_when_the_response_says_so() {
        assert!(!response("HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n").2);
        assert!(!response("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").2);
        assert!(!response("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nextra").2);
        let until_close = parse(NONE, b"HTTP/1.1 200 OK\r\n\r\nabc", true).unwrap().unwrap();
        assert_eq!((until_close.body.as_ref(), until_close.reusable), (b"abc".as_slice(), false));
    }

    #[test]
    fn every_prefix_of_a_response_waits_for_the_rest() {
        for text in [
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
        ] {
            for cut in 0..text.len() {
                let part = parse(NONE, &text.as_bytes()[..cut], false);
                assert!(matches!(part, Ok(None)), "cut at {cut} of {text:?} gave {part:?}");
            }
            assert_eq!(response(text), (200, "hello".into(), true));
        }
    }

    #[test]
    fn malformed_responses_are_refused() {
        for (text, why) in [
            ("SSH-2.0-x\r\n\r\n", "head"),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "not a number"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "larger"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "chunk size"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhiXX", "chunk does not end"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n", "larger"),
        ] {
            let error = parse(NONE, text.as_bytes(), false).expect_err(text).to_string();
            assert!(error.contains(why), "{text:?} gave {error:?}, expected {why:?}");
        }
        let endless = vec![b'a'; MAX_RESPONSE_BYTES + 1];
        let head = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &endless].concat();
        assert_eq!(parse(NONE, &head, false).map(|_| ()).unwrap_err(), MalformedResponse::TooLarge);
    }
}
