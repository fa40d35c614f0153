//! A client's request in the form that a sandbox is sent, once or several times.

use std::sync::Arc;

use http::{
    HeaderValue, Method, Request, Uri, Version, header,
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};
use model::Protocol;

use crate::{
    headers::{self, ClientFields},
    host,
    refusal::{Cause, Refusal},
    target,
    upload::{Upload, UploadError, UploadSource},
};

pub(crate) struct Outgoing {
    /// `None` once it was sent and cannot be sent again.
    head: Option<Parts>,
    /// Protocol that `head` is written for.
    form: Protocol,
    upload: Option<Arc<UploadSource>>,
}

impl Outgoing {
    /// Transforms a client's request for a sandbox, which most probably speaks `protocol`.
    ///
    /// # Errors
    /// Returns a refusal if the target cannot be expressed in that protocol, or the body has a coding that cannot be
    /// decoded.
    pub(crate) fn new(
        mut head: Parts,
        upload: Option<Arc<UploadSource>>,
        client: &ClientFields,
        protocol: Protocol,
    ) -> Result<Self, Refusal> {
        let version = head.version;
        target::shorten(&mut head).map_err(|_| Cause::BadRequest.about("target", "the target is no path"))?;
        headers::towards_sandbox(&mut head.headers, version, client)
            .map_err(|error| Cause::Unsupported.because(error.to_string()))?;
        write_for(&mut head, upload.as_deref(), protocol)
            .ok_or_else(|| Cause::BadRequest.about("target", "the target is none of its method"))?;
        Ok(Self { head: Some(head), form: protocol, upload })
    }

    /// Sets its id if it has none.
    pub(crate) fn ensure_id(&mut self, id: impl FnOnce() -> HeaderValue) {
        if let Some(head) = &mut self.head {
            headers::ensure_request_id(&mut head.headers, id);
        }
    }

    /// The request to send to a sandbox that speaks `protocol`: a function's protocol may change while a request waits.
    /// `None` if it cannot be sent again, or not in that protocol.
    pub(crate) fn request(&mut self, protocol: Protocol) -> Option<Request<Upload>> {
        if self.form != protocol {
            let head = self.head.as_mut()?;
            // Remove what the other protocol needed for this hop.
            head.headers.remove(header::CONNECTION);
            head.headers.remove(header::TRANSFER_ENCODING);
            write_for(head, self.upload.as_deref(), protocol)?;
            self.form = protocol;
        }
        let Some(source) = &self.upload else {
            return Some(Request::from_parts(self.head.clone()?, Upload::Empty));
        };
        let upload = Upload::of(source.clone());
        // If no retry is possible the head is moved rather than cloned.
        let head = if source.may_repeat() { self.head.clone()? } else { self.head.take()? };
        Some(Request::from_parts(head, upload))
    }

    /// Takes back a request of which nothing was sent, so that it can be sent again whatever its method.
    pub(crate) fn unsent(&mut self, request: Request<Upload>) {
        self.head = Some(request.into_parts().0);
    }

    /// Returns true if it can be sent once more.
    pub(crate) fn can_repeat(&self) -> bool {
        self.head.is_some() && self.upload.as_ref().is_none_or(|upload| upload.can_repeat())
    }

    pub(crate) fn upload_error(&self) -> Option<UploadError> {
        self.upload.as_ref().and_then(|upload| upload.error())
    }
}

/// Writes a head without hop-by-hop fields for `protocol`; `None` if it cannot be expressed.
fn write_for(head: &mut Parts, upload: Option<&UploadSource>, protocol: Protocol) -> Option<()> {
    match protocol {
        Protocol::Http1 => {
            // TE concerns this hop only, which Connection has to say (RFC 9110, section 10.1.4).
            if head.headers.contains_key(header::TE) {
                head.headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
            }
            // The HTTP library sends no body of unknown length with these methods without an explicit coding.
            let is_silent = head.method == Method::GET || head.method == Method::HEAD;
            if is_silent && upload.is_some_and(|upload| !upload.has_known_length()) {
                head.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            to_http1(head)
        }
        Protocol::H2c => to_http2(head),
    }
}

/// Origin form and a Host field (RFC 9112, section 3.2).
fn to_http1(head: &mut Parts) -> Option<()> {
    if let Some(authority) = head.uri.authority() {
        // User information must not be sent on (RFC 9110, section 4.2.4).
        let host = authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, host)| host);
        let host = HeaderValue::from_str(host).ok()?;
        head.headers.insert(header::HOST, host);
        let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        head.uri = Uri::from(path);
    }
    head.version = Version::HTTP_11;
    Some(())
}

/// `:scheme`, `:authority` and `:path` (RFC 9113, section 8.3.1).
fn to_http2(head: &mut Parts) -> Option<()> {
    if head.uri.authority().is_none() {
        let host = host::of(&head.uri, &head.headers)?;
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(host.parse::<Authority>().ok()?);
        parts.path_and_query = head.uri.path_and_query().cloned();
        head.uri = Uri::from_parts(parts).ok()?;
    }
    // `:authority` takes its place; a Host field that differs would be malformed (RFC 9113, section 8.3.1).
    head.headers.remove(header::HOST);
    head.version = Version::HTTP_2;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(request: Request<()>, protocol: Protocol) -> Request<Upload> {
        let client = ClientFields { forwarded_for: HeaderValue::from_static("10.0.0.9") };
        let mut outgoing = Outgoing::new(request.into_parts().0, None, &client, protocol).unwrap();
        assert!(outgoing.can_repeat(), "without a body it can");
        outgoing.request(protocol).unwrap()
    }

    #[test]
    fn a_target_is_rewritten_for_the_protocol_of_the_sandbox() {
        let http1 = || Request::builder().uri("/a?b").header("host", "f:80").body(()).unwrap();
        let http2 = || Request::builder().uri("http://f/a?b").version(Version::HTTP_2).body(()).unwrap();
        for request in [http1(), http2()] {
            let sent = send(request, Protocol::Http1);
            assert_eq!((sent.uri(), sent.version()), (&Uri::from_static("/a?b"), Version::HTTP_11));
            assert!(sent.headers()[header::HOST].to_str().unwrap().starts_with('f'));
        }
        for request in [http1(), http2()] {
            let sent = send(request, Protocol::H2c);
            assert_eq!((sent.uri().host(), sent.uri().path(), sent.version()), (Some("f"), "/a", Version::HTTP_2));
            assert!(!sent.headers().contains_key(header::HOST));
        }
    }

    #[test]
    fn a_request_is_rewritten_if_its_sandbox_speaks_the_other_protocol() {
        let client = ClientFields { forwarded_for: HeaderValue::from_static("10.0.0.9") };
        let head = || {
            let builder = Request::builder().uri("/a?b").header("host", "f").header("te", "trailers");
            builder.body(()).unwrap().into_parts().0
        };
        let direct = [Protocol::Http1, Protocol::H2c]
            .map(|protocol| Outgoing::new(head(), None, &client, protocol).unwrap().request(protocol).unwrap());
        let mut changing = Outgoing::new(head(), None, &client, Protocol::Http1).unwrap();
        for (protocol, expected) in [(Protocol::H2c, &direct[1]), (Protocol::Http1, &direct[0])] {
            let sent = changing.request(protocol).unwrap();
            assert_eq!((sent.uri(), sent.version()), (expected.uri(), expected.version()));
            assert_eq!(sent.headers(), expected.headers());
        }
    }
}
