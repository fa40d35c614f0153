//! Addresses and paths as options name them: checked when they are typed, so that a call goes there and nowhere else.

use std::{fmt, str::FromStr};

use thiserror::Error;
use ureq::http::{Uri, uri::PathAndQuery};

/// Base URL of a component: up to the path, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address(String);

/// Path of an invocation, with query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InvocationPath(String);

/// The text is no address, or no path.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum AddressError {
    /// It cannot be called.
    #[error("expected HOST:PORT or http://HOST:PORT")]
    Form,
    /// Parts have no certificates.
    #[error("only http is spoken: expected HOST:PORT or http://HOST:PORT")]
    Scheme,
    /// Put behind an address it could name another one.
    #[error("expected a path that begins with `/`")]
    Path,
    /// It has a character that must be written otherwise.
    #[error("expected a path as in a URL: `%20` for a space, no `#`")]
    Character,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (rest, has_scheme) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (rest, true),
            Some(_) => return Err(AddressError::Scheme),
            None => (text, false),
        };
        let base = format!("http://{}", rest.trim_end_matches('/'));
        let uri: Uri = base.parse().map_err(|_| AddressError::Form)?;
        let authority = uri.authority().ok_or(AddressError::Form)?;
        // A port that is left out is 80 only where a whole URL is given, as everywhere; `foo` alone is a slip.
        let is_port_right = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => has_scheme,
            _ => authority.port_u16().is_some_and(|port| port > 0),
        };
        let is_plain = !authority.as_str().contains('@') && uri.query().is_none() && !base.contains('#');
        if authority.host().is_empty() || !is_port_right || !is_plain {
            return Err(AddressError::Form);
        }
        Ok(Self(base))
    }
}

impl Address {
    /// Returns true if it goes on behind the host and port.
    pub(crate) fn has_path(&self) -> bool {
        self.0.strip_prefix("http://").is_some_and(|rest| rest.contains('/'))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for InvocationPath {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if !text.starts_with('/') {
            return Err(AddressError::Path);
        }
        let is_right = !text.contains('#') && text.parse::<PathAndQuery>().is_ok();
        if is_right { Ok(Self(text.to_owned())) } else { Err(AddressError::Character) }
    }
}

impl InvocationPath {
    /// As it is put behind an address.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_http_with_host_and_port() {
        for (text, expected) in [
            ("127.0.0.1:1/", Ok("http://127.0.0.1:1")),
            ("http://h:2", Ok("http://h:2")),
            ("HTTP://h", Ok("http://h")),
            ("[::1]:9091", Ok("http://[::1]:9091")),
            ("http://gate/cluster/", Ok("http://gate/cluster")),
            ("https://h:2", Err(AddressError::Scheme)),
            ("foo", Err(AddressError::Form)),
            ("", Err(AddressError::Form)),
            (":9091", Err(AddressError::Form)),
            ("h:99999", Err(AddressError::Form)),
            ("h:0", Err(AddressError::Form)),
            ("http://a@h:1", Err(AddressError::Form)),
            ("http://h:1?x", Err(AddressError::Form)),
        ] {
            let found = text.parse::<Address>().map(|address| address.to_string());
            assert_eq!(found, expected.map(str::to_owned), "{text:?}");
        }
    }

    #[test]
    fn a_path_begins_with_a_slash() {
        for (text, expected) in [
            ("/", Ok("/")),
            ("/a/b?c=d", Ok("/a/b?c=d")),
            ("foo", Err(AddressError::Path)),
            ("@127.0.0.1:9/", Err(AddressError::Path)),
            ("", Err(AddressError::Path)),
            ("/a b", Err(AddressError::Character)),
            ("/a#b", Err(AddressError::Character)),
        ] {
            let found = text.parse::<InvocationPath>().map(|path| path.as_str().to_owned());
            assert_eq!(found, expected.map(str::to_owned), "{text:?}");
        }
    }
}
