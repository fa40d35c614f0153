//! Targets with a fragment: a request line has no place for one (RFC 9112, section 3.2), and the HTTP library drops it
//! without a word. So the line is looked at as it comes in, where a request begins with what is read: one behind another
//! request in the same bytes is not seen, and goes on without its fragment.

use std::{
    mem::take,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use http::Method;

/// The fragment of a client's next request.
#[derive(Debug, Default)]
pub(super) struct Fragment {
    /// Read by each request, where `line` would be a lock.
    may_be: AtomicBool,
    /// The first line of what was read last, with a number sign in it.
    line: Mutex<Vec<u8>>,
}

impl Fragment {
    /// Looks at what was read while no request was under way.
    pub(super) fn look(&self, read: &[u8]) {
        if read.contains(&b'#')
            && let Some(line) = read.split(|byte| *byte == b'\n').next()
            && line.contains(&b'#')
        {
            *self.line.lock().unwrap_or_else(PoisonError::into_inner) = line.to_vec();
            self.may_be.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the request of `method` that has come has one.
    pub(super) fn take(&self, method: &Method) -> bool {
        if !self.may_be.load(Ordering::Relaxed) {
            return false;
        }
        self.may_be.store(false, Ordering::Relaxed);
        let line = take(&mut *self.line.lock().unwrap_or_else(PoisonError::into_inner));
        is_request_line(&line, method)
    }
}

/// Whether `line`, or a line that it is the end of, asks with `method` for a target with a number sign.
fn is_request_line(line: &[u8], method: &Method) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.rsplit(|byte| *byte == b' ');
    let version = words.next().unwrap_or_default();
    let target = words.next().unwrap_or_default();
    let is_method = words.next().is_none_or(|word| word == method.as_str().as_bytes()) && words.next().is_none();
    version.starts_with(b"HTTP/1.") && target.contains(&b'#') && is_method
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_is_in_the_target_of_a_request_line() {
        for (line, expected) in [
            ("GET /a#b HTTP/1.1\r", true),
            ("GET # HTTP/1.0", true),
            ("GET http://f/#a HTTP/1.1\r", true),
            ("a#b HTTP/1.1\r", true),
            ("POST /a#b HTTP/1.1\r", false),
            ("GET /a HTTP/1.1#\r", false),
            ("x-color: #fff\r", false),
            ("x-see: the #1 HTTP/1.1\r", false),
        ] {
            assert_eq!(is_request_line(line.as_bytes(), &Method::GET), expected, "{line}");
        }
    }

    #[test]
    fn what_was_read_is_asked_for_once() {
        let fragment = Fragment::default();
        fragment.look(b"GET /a HTTP/1.1\r\nx-color: #fff\r\n\r\n");
        assert!(!fragment.take(&Method::GET), "it is not in the line");
        fragment.look(b"GET /a#b HTTP/1.1\r\n\r\n");
        assert!(fragment.take(&Method::GET));
        assert!(!fragment.take(&Method::GET));
    }
}
