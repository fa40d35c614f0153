//! Validates request targets and chooses the form that a sandbox is sent (RFC 9112, section 3.2).

use http::{
    Method, Uri, Version,
    request::Parts,
    uri::{InvalidUriParts, PathAndQuery},
};

/// Target of OPTIONS for a server as a whole.
const WHOLE_SERVER: &str = "*";

/// Returns true if the target is a path (origin form), a URL (absolute form), or `*` with OPTIONS. A bare host, or a
/// path without a leading slash, names no resource of a function.
pub(crate) fn is_valid(method: &Method, uri: &Uri) -> bool {
    match uri.path_and_query().map(PathAndQuery::as_str) {
        None => false,
        Some(WHOLE_SERVER) => method == Method::OPTIONS,
        Some(path) => path.starts_with('/') || (uri.scheme().is_some() && path.starts_with('?')),
    }
}

/// Rewrites OPTIONS of a URL without a path to `*` (RFC 9112, section 3.2.4). The HTTP library makes an absent path a
/// slash, so a slash in absolute form is taken for it; HTTP/2 has a `*` of its own.
///
/// # Errors
/// None for targets that [`is_valid`].
pub(crate) fn shorten(head: &mut Parts) -> Result<(), InvalidUriParts> {
    let is_absolute = head.uri.authority().is_some() && head.version != Version::HTTP_2;
    if head.method == Method::OPTIONS && is_absolute && head.uri.path_and_query().is_some_and(|path| path == "/") {
        let mut parts = std::mem::take(&mut head.uri).into_parts();
        parts.path_and_query = Some(PathAndQuery::from_static(WHOLE_SERVER));
        head.uri = Uri::from_parts(parts)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn a_target_is_a_path_or_a_url() {
        let valid = |method, target: &str| is_valid(&method, &target.parse().unwrap());
        for target in ["/", "/a?b", "//a", "http://f", "http://f/", "http://f?q", "http://f/a"] {
            assert!(valid(Method::GET, target), "{target}");
        }
        for target in ["*", "f", "f:80"] {
            assert!(!valid(Method::GET, target), "{target}");
        }
        assert!(valid(Method::OPTIONS, "*"));
    }

    #[test]
    fn only_options_of_a_whole_server_lose_their_path() {
        let shortened = |method: Method, target: &str, version| {
            let mut head =
                Request::builder().method(method).uri(target).version(version).body(()).unwrap().into_parts().0;
            shorten(&mut head).unwrap();
            head.uri.path().to_owned()
        };
        assert_eq!(shortened(Method::OPTIONS, "http://f", Version::HTTP_11), "*");
        assert_eq!(shortened(Method::OPTIONS, "http://f/", Version::HTTP_2), "/", "a preflight request");
        for (method, target) in [(Method::GET, "http://f"), (Method::OPTIONS, "/"), (Method::OPTIONS, "http://f?q")] {
            assert_eq!(shortened(method, target, Version::HTTP_11), "/", "{target}");
        }
    }
}
