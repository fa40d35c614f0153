//! Transforms header fields between client and sandbox: hop-by-hop fields are dropped, a proxy's fields are added.
//!
//! The rules are RFC 9110, sections 7.6 (message forwarding) and 6.6; the `X-Dirigent-…` fields are this system's own.

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use thiserror::Error;

use crate::config::Limits;

/// Name of the refusal's cause, in responses that are not the function's.
pub(crate) const ERROR: HeaderName = HeaderName::from_static("x-dirigent-error");
/// `1` if the serving sandbox became ready after the invocation arrived, else `0`.
pub(crate) const COLD: HeaderName = HeaderName::from_static("x-dirigent-cold");
/// Id of the serving sandbox.
pub(crate) const SANDBOX: HeaderName = HeaderName::from_static("x-dirigent-sandbox");
/// Number of attempts.
pub(crate) const ATTEMPTS: HeaderName = HeaderName::from_static("x-dirigent-attempts");
/// Durations of the phases of an invocation.
pub(crate) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Hop-by-hop fields, whether or not Connection names them (RFC 9110, section 7.6.1). Upgrade is thereby ignored, as a
/// server may (section 7.8), and the request is forwarded without it. Connection must be the first.
static HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
];

/// Fields that are added on behalf of a client connection.
#[derive(Clone, Debug)]
pub(crate) struct ClientFields {
    /// The client's IP address.
    pub(crate) forwarded_for: HeaderValue,
}

/// The body has a transfer coding other than `chunked`, so its bytes cannot be forwarded without it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a transfer coding other than chunked is not supported")]
pub(crate) struct UnknownCoding;

/// Transforms a client's request fields for a sandbox, in place. `version` is the client's. Trailers are forwarded, so
/// the request for them (TE) is renewed for the next hop.
///
/// # Errors
/// Returns an error if the body has a coding that cannot be decoded.
pub(crate) fn towards_sandbox(
    fields: &mut HeaderMap,
    version: Version,
    client: &ClientFields,
) -> Result<(), UnknownCoding> {
    let wants_trailers = fields.get_all(header::TE).iter().any(|te| {
        te.to_str().is_ok_and(|te| te.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers")))
    });
    drop_hop_by_hop(fields)?;
    if wants_trailers {
        fields.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if version == Version::HTTP_2 {
        join_cookies(fields);
    }
    append_forwarded_for(fields, &client.forwarded_for);
    fields.append(header::VIA, HeaderValue::from_static(via(version)));
    Ok(())
}

/// Transforms a sandbox's response fields for the client, in place.
///
/// # Errors
/// Returns an error if the body has a coding that cannot be decoded.
pub(crate) fn towards_client(fields: &mut HeaderMap) -> Result<(), UnknownCoding> {
    drop_hop_by_hop(fields)
}

/// Transforms trailer fields for the other side, in place.
pub(crate) fn trailers(fields: &mut HeaderMap) {
    // Trailers frame no body, so a coding in them has no meaning and is dropped like the others.
    let _ = drop_hop_by_hop(fields);
}

/// Inserts our own value before the function's values of the same name, which are kept.
pub(crate) fn insert_first(fields: &mut HeaderMap, name: &HeaderName, value: HeaderValue) {
    if fields.contains_key(name) {
        let theirs: Vec<_> = fields.get_all(name).iter().cloned().collect();
        fields.insert(name, value);
        for value in theirs {
            fields.append(name, value);
        }
    } else {
        fields.insert(name, value);
    }
}

/// Sets the request id if there is none.
pub(crate) fn ensure_request_id(fields: &mut HeaderMap, id: impl FnOnce() -> HeaderValue) {
    if !fields.contains_key(REQUEST_ID) {
        fields.insert(REQUEST_ID, id());
    }
}

/// Returns true if a header or trailer section is within `limits`.
pub(crate) fn fits(fields: &HeaderMap, limits: &Limits) -> bool {
    fields.len() <= limits.header_count && size(fields) as u64 <= limits.header_bytes.as_u64()
}

/// Bytes of a header section as HTTP/1.1 writes it.
pub(crate) fn size(fields: &HeaderMap) -> usize {
    // ": " and the line's end.
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// Drops hop-by-hop fields, those that Connection names, and reserved fields, which may be forged or stale.
fn drop_hop_by_hop(fields: &mut HeaderMap) -> Result<(), UnknownCoding> {
    // One pass over the names; most requests have nothing to drop.
    let mut found = 0u16;
    let mut ours = false;
    for name in fields.keys() {
        match hop_by_hop(name.as_str()) {
            Some(index) => found |= 1 << index,
            None => ours |= is_ours(name),
        }
    }
    if found & (1 << TRANSFER_ENCODING) != 0 {
        if fields.get_all(header::TRANSFER_ENCODING).iter().any(|coding| !is_chunked(coding)) {
            return Err(UnknownCoding);
        }
        // The coding overrides a length, which must not be forwarded (RFC 9112, section 6.3).
        fields.remove(header::CONTENT_LENGTH);
    }
    if found & 1 != 0 {
        drop_named_by_connection(fields);
    }
    for (index, name) in HOP_BY_HOP.iter().enumerate() {
        if found & 1 << index != 0 {
            fields.remove(name);
        }
    }
    if ours {
        for name in [ERROR, COLD, SANDBOX, ATTEMPTS] {
            fields.remove(name);
        }
    }
    Ok(())
}

/// Index of Transfer-Encoding in [`HOP_BY_HOP`].
const TRANSFER_ENCODING: usize = 2;

fn is_chunked(coding: &HeaderValue) -> bool {
    coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")
}

/// Index in [`HOP_BY_HOP`]. Runs for every field, so it matches on text, which mostly compares lengths.
fn hop_by_hop(name: &str) -> Option<usize> {
    match name {
        "connection" => Some(0),
        "te" => Some(1),
        "transfer-encoding" => Some(TRANSFER_ENCODING),
        "upgrade" => Some(3),
        "proxy-authenticate" => Some(4),
        "proxy-authorization" => Some(5),
        "keep-alive" => Some(6),
        "proxy-connection" => Some(7),
        _ => None,
    }
}

fn is_ours(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-dirigent-")
}

fn drop_named_by_connection(fields: &mut HeaderMap) {
    let named: Vec<HeaderName> = fields
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // Naming these would remove what every hop needs.
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect();
    for name in named {
        fields.remove(name);
    }
}

/// HTTP/2 may split a Cookie field; HTTP/1.1 may not (RFC 9113, section 8.2.3).
fn join_cookies(fields: &mut HeaderMap) {
    if fields.get_all(header::COOKIE).iter().nth(1).is_some() {
        let crumbs: Vec<_> = fields.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
            fields.insert(header::COOKIE, joined);
        }
    }
}

fn append_forwarded_for(fields: &mut HeaderMap, client: &HeaderValue) {
    let earlier: Vec<_> = fields.get_all(FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
    if earlier.is_empty() {
        fields.insert(FORWARDED_FOR, client.clone());
    } else {
        let all = [earlier.join(&b", "[..]), client.as_bytes().to_vec()].join(&b", "[..]);
        if let Ok(all) = HeaderValue::from_bytes(&all) {
            fields.insert(FORWARDED_FOR, all);
        }
    }
}

fn via(version: Version) -> &'static str {
    // The received version and a pseudonym (RFC 9110, section 7.6.3).
    match version {
        Version::HTTP_2 => "2 dirigent",
        Version::HTTP_10 => "1.0 dirigent",
        _ => "1.1 dirigent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        map
    }

    fn client() -> ClientFields {
        ClientFields { forwarded_for: HeaderValue::from_static("10.0.0.9") }
    }

    #[test]
    fn hop_by_hop_and_reserved_fields_are_dropped_and_the_others_stay() {
        let mut request = fields(&[
            ("host", "f"),
            ("connection", "keep-alive, X-Private"),
            ("connection", "host"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("te", "gzip"),
            ("x-dirigent-cold", "1"),
            ("traceparent", "00-1-2-01"),
        ]);
        towards_sandbox(&mut request, Version::HTTP_11, &client()).unwrap();
        let expected = fields(&[
            ("host", "f"),
            ("traceparent", "00-1-2-01"),
            ("x-forwarded-for", "10.0.0.9"),
            ("via", "1.1 dirigent"),
        ]);
        assert_eq!(request, expected);
    }

    #[test]
    fn addresses_and_hops_are_appended_and_http2_cookies_are_joined() {
        let mut request = fields(&[
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("via", "1.1 edge"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("te", "trailers"),
        ]);
        towards_sandbox(&mut request, Version::HTTP_2, &client()).unwrap();
        let expected = fields(&[
            ("x-forwarded-for", "1.1.1.1, 2.2.2.2, 10.0.0.9"),
            ("via", "1.1 edge"),
            ("via", "2 dirigent"),
            ("cookie", "a=1; b=2"),
            ("te", "trailers"),
        ]);
        assert_eq!(request, expected);
    }

    #[test]
    fn a_coding_overrides_a_length_and_only_chunked_can_be_decoded() {
        let mut response = fields(&[("content-length", "2"), ("transfer-encoding", "Chunked"), ("etag", "a")]);
        assert_eq!(towards_client(&mut response), Ok(()));
        assert_eq!(response, fields(&[("etag", "a")]));
        for coding in ["gzip", "gzip, chunked", "chunked, chunked", "identity"] {
            let mut response = fields(&[("transfer-encoding", coding)]);
            assert_eq!(towards_client(&mut response), Err(UnknownCoding), "{coding}");
        }
    }

    #[test]
    fn own_fields_come_before_those_of_the_function() {
        let mut response = fields(&[("server-timing", "a"), ("set-cookie", "x"), ("server-timing", "b")]);
        insert_first(&mut response, &SERVER_TIMING, HeaderValue::from_static("ours"));
        let values: Vec<_> = response.get_all(SERVER_TIMING).iter().collect();
        assert_eq!(values, ["ours", "a", "b"]);
    }

    #[test]
    fn the_two_lists_of_hop_by_hop_fields_agree() {
        for (index, name) in HOP_BY_HOP.iter().enumerate() {
            assert_eq!(hop_by_hop(name.as_str()), Some(index), "{name}");
        }
    }

    #[test]
    fn a_request_id_is_forwarded_or_generated() {
        let mut request = fields(&[("x-request-id", "mine")]);
        ensure_request_id(&mut request, || HeaderValue::from_static("made"));
        assert_eq!(request[REQUEST_ID], "mine");
        let mut request = HeaderMap::new();
        ensure_request_id(&mut request, || HeaderValue::from_static("made"));
        assert_eq!(request[REQUEST_ID], "made");
    }

    #[test]
    fn the_size_of_a_section_is_that_of_its_lines() {
        assert_eq!(size(&fields(&[("host", "f"), ("a", "bc")])), "host: f\r\na: bc\r\n".len());
    }
}
