//! Routes a request to a function by the name in its host, without allocating.

use http::{HeaderMap, Method, Uri, header};
use model::FunctionName;

/// Longest function name: one DNS label.
const MAX_NAME: usize = 63;

/// The host that a request names, with its port; `None` if it names none, or several (RFC 9112, section 3.2).
pub(crate) fn of<'a>(uri: &'a Uri, fields: &'a HeaderMap) -> Option<&'a str> {
    let mut hosts = fields.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return None;
    }
    // A target in absolute form overrides Host (RFC 9112, section 3.2.2).
    match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => host?.to_str().ok(),
    }
}

/// Returns true if the method can be proxied: CONNECT would need a tunnel to an origin that a function is not.
pub(crate) fn is_supported(method: &Method) -> bool {
    method != Method::CONNECT
}

/// Looks up the function that a host names, ignoring port and case, with any of `suffixes` or none.
pub(crate) fn resolve<T>(host: &str, suffixes: &[String], look_up: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let label = label(host, suffixes)?;
    if label.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let mut lower = [0; MAX_NAME];
        let lower = lower.get_mut(..label.len())?;
        lower.copy_from_slice(label.as_bytes());
        lower.make_ascii_lowercase();
        return look_up(std::str::from_utf8(lower).ok()?);
    }
    look_up(label)
}

/// Returns true if `suffix` is a domain: labels joined by dots.
pub(crate) fn is_suffix(suffix: &str) -> bool {
    suffix.split('.').all(|label| label.parse::<FunctionName>().is_ok())
}

fn label<'a>(host: &'a str, suffixes: &[String]) -> Option<&'a str> {
    // An authority may begin with user information (RFC 3986, section 3.2.1).
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    // A trailing dot marks a fully qualified name.
    let name = name.strip_suffix('.').unwrap_or(name);
    match name.find('.') {
        None => Some(name),
        Some(dot) => {
            let (label, domain) = (&name[..dot], &name[dot + 1..]);
            suffixes.iter().any(|suffix| suffix.eq_ignore_ascii_case(domain)).then_some(label)
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn name(host: &str) -> Option<String> {
        resolve(host, &["faas.example".to_owned()], |name| Some(name.to_owned()))
    }

    #[test]
    fn a_host_is_a_name_alone_or_under_a_suffix_in_any_case_with_any_port() {
        for host in ["hello", "hello:80", "HELLO", "hello.", "hello.faas.example", "Hello.FAAS.example:8080", "hello:"]
        {
            assert_eq!(name(host).as_deref(), Some("hello"), "{host}");
        }
        let long = "X".repeat(64);
        for host in ["hello.other", "a.hello.faas.example", "127.0.0.1", "127.0.0.1:80", "[::1]:80", &long] {
            assert_ne!(name(host).as_deref(), Some("hello"), "{host}");
        }
        assert_eq!(name("127.0.0.1:80"), None, "an address is no name");
    }

    #[test]
    fn exactly_one_host_is_needed_and_the_target_overrides_the_field() {
        let mut fields = HeaderMap::new();
        let origin: Uri = "/path".parse().unwrap();
        let absolute: Uri = "http://target/path".parse().unwrap();
        assert_eq!(of(&origin, &fields), None);
        fields.append(header::HOST, HeaderValue::from_static("field"));
        assert_eq!(of(&origin, &fields), Some("field"));
        assert_eq!(of(&absolute, &fields), Some("target"));
        fields.append(header::HOST, HeaderValue::from_static("second"));
        assert_eq!(of(&origin, &fields), None);
    }

    #[test]
    fn a_suffix_is_made_of_labels() {
        assert!(is_suffix("example") && is_suffix("faas.example"));
        assert!(!is_suffix("") && !is_suffix(".example") && !is_suffix("Example"));
    }
}
