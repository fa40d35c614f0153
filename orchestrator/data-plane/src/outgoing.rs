//! A client's request as it goes out to a sandbox, once or several times.

use std::sync::Arc;

use http::{
    HeaderValue, Request, Uri, Version, header,
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};
use model::Protocol;

use crate::{
    headers::{self, ClientFields},
    host,
    refusal::{Cause, Refusal},
    upload::{Upload, UploadError, UploadSource},
};

/// A request on its way out.
pub(crate) struct Outgoing {
    /// `None` once it was sent and cannot be sent again.
    head: Option<Parts>,
    upload: Option<Arc<UploadSource>>,
}

impl Outgoing {
    /// Makes a client's request fit for a sandbox that speaks `protocol`.
    ///
    /// # Errors
    /// When its target cannot be written in that protocol.
    pub(crate) fn new(
        mut head: Parts,
        upload: Option<Arc<UploadSource>>,
        client: &ClientFields,
        protocol: Protocol,
    ) -> Result<Self, Refusal> {
        headers::towards_sandbox(&mut head.headers, head.version, client, protocol);
        match protocol {
            Protocol::Http1 => to_http1(&mut head),
            Protocol::H2c => to_http2(&mut head),
        }
        .ok_or_else(|| Cause::BadRequest.plain())?;
        Ok(Self { head: Some(head), upload })
    }

    /// Gives it an id when it has none.
    pub(crate) fn ensure_id(&mut self, id: impl FnOnce() -> HeaderValue) {
        if let Some(head) = &mut self.head {
            headers::ensure_request_id(&mut head.headers, id);
        }
    }

    /// The request to send now; `None` when it cannot be sent again.
    pub(crate) fn request(&mut self) -> Option<Request<Upload>> {
        let Some(source) = &self.upload else {
            return Some(Request::from_parts(self.head.clone()?, Upload::Empty));
        };
        let upload = Upload::Shared { source: source.clone(), sent: 0 };
        let head = if source.may_repeat() { self.head.clone()? } else { self.head.take()? };
        Some(Request::from_parts(head, upload))
    }

    /// Whether it can be sent once more.
    pub(crate) fn can_repeat(&self) -> bool {
        self.head.is_some() && self.upload.as_ref().is_none_or(|upload| upload.can_repeat())
    }

    /// Why its body ended early, if it did.
    pub(crate) fn upload_error(&self) -> Option<UploadError> {
        self.upload.as_ref().and_then(|upload| upload.error())
    }
}

/// Origin form and a Host field (RFC 9112, section 3.2).
fn to_http1(head: &mut Parts) -> Option<()> {
    if let Some(authority) = head.uri.authority() {
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
        outgoing.request().unwrap()
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
}
