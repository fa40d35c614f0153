//! Classifies a missing response: whose fault it is, and whether the sandbox may have acted on the request.

use std::{error::Error, io};

use h2::Reason;

/// The reason why a request got no response on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoResponse {
    /// The connection ended. Once may be chance; a sandbox with repeated ends is broken.
    ConnectionEnded,
    /// The response is too large or no valid HTTP. Any sandbox of the function would write it, so this one is not
    /// broken.
    Unreadable,
    /// The function reset the stream and thereby gave up this request only.
    StreamReset,
    /// The sandbox has not acted on the request and says so (RFC 9113, section 8.7): REFUSED_STREAM, or a GOAWAY whose
    /// last stream is an earlier one.
    Unprocessed,
}

impl NoResponse {
    /// Classifies `error`, which came in place of a response.
    pub(crate) fn of(error: &hyper::Error) -> Self {
        let cause = error.source();
        // `Frames` refuses a trailer section with this kind.
        let is_invalid = |error: &io::Error| error.kind() == io::ErrorKind::InvalidData;
        if error.is_parse() || cause.and_then(|cause| cause.downcast_ref()).is_some_and(is_invalid) {
            return Self::Unreadable;
        }
        match cause.and_then(|cause| cause.downcast_ref::<h2::Error>()) {
            // The library reports a GOAWAY for the streams that it excludes; all others end with the connection.
            Some(error) if error.is_remote() && error.is_go_away() => Self::Unprocessed,
            Some(error) if error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM) => Self::Unprocessed,
            Some(error) if error.is_remote() && error.is_reset() => Self::StreamReset,
            Some(error) if error.is_library() => Self::Unreadable,
            _ => Self::ConnectionEnded,
        }
    }
}
