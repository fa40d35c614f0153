//! Replaces the refusals of requests that the HTTP library cannot parse. It writes a head without reason or body and
//! closes the connection; the client gets a refusal like all others instead.

use bytes::Bytes;

use crate::refusal::{Cause, Refusal};

/// The status lines that the library may write, and their meaning.
const HEADS: [(&[u8], Cause, &str); 3] = [
    (b"HTTP/1.1 400 Bad Request\r\n", Cause::BadRequest, "the request's head cannot be read"),
    (b"HTTP/1.1 414 URI Too Long\r\n", Cause::TargetTooLong, "the target is longer than 65,534 bytes"),
    (
        b"HTTP/1.1 431 Request Header Fields Too Large\r\n",
        Cause::HeadersTooLarge,
        "the header section is larger than allowed",
    ),
];

/// The refusal that replaces `bytes`; `None` if they are not the library's. Heads of ours and of functions have fields
/// that the library's have not.
pub(super) fn instead_of(bytes: &[u8]) -> Option<(Cause, Bytes)> {
    let (line, cause, detail) = HEADS.iter().find(|(line, ..)| bytes.starts_with(line))?;
    let fields = str::from_utf8(bytes[line.len()..].strip_suffix(b"\r\n\r\n")?).ok()?;
    let mut date = "";
    for field in fields.split("\r\n") {
        match field.split_once(": ")? {
            ("content-length", "0") | ("connection", "close") => {}
            ("date", value) => date = value,
            // A function's response that begins alike has further fields.
            _ => return None,
        }
    }
    let mut text = line.to_vec();
    text.extend_from_slice(format!("date: {date}\r\nconnection: close\r\n").as_bytes());
    text.extend_from_slice(&Refusal::write(&cause.about("head", *detail)));
    Some((*cause, text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_of_the_library_itself_are_replaced() {
        let bare = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: now\r\n\r\n";
        let (cause, text) = instead_of(bare).unwrap();
        assert_eq!(cause, Cause::BadRequest);
        let text = str::from_utf8(&text).unwrap();
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\ndate: now\r\nconnection: close\r\n"), "{text}");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\nx-dirigent-error: bad-request"), "{text}");
        assert!(head.contains(&format!("\r\ncontent-length: {}", body.len())) && body.starts_with('{'), "{text}");
        for other in [
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nx-dirigent-cold: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 1\r\n\r\nx",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            "",
        ] {
            assert_eq!(instead_of(other.as_bytes()), None, "{other}");
        }
    }
}
