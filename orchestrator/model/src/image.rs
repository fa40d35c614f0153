//! Images of the process runtime: one definition for registration and workers.

use std::net::Ipv6Addr;

/// An image as the process runtime understands it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessImage<'a> {
    /// The function that comes with the workers.
    Builtin,
    /// The program at this absolute path, which has no `..`.
    File(&'a str),
}

/// The function that comes with the workers, as registrations name it.
pub const BUILTIN_IMAGE: &str = "builtin:function";

/// The accepted forms, for error messages.
pub const PROCESS_IMAGES: &str = "builtin:function or file:/path/to/program";

impl<'a> ProcessImage<'a> {
    /// Parses an image; `None` if the process runtime cannot run it.
    #[must_use]
    pub fn read(image: &'a str) -> Option<Self> {
        match image.split_once(':')? {
            ("builtin", "function") => Some(Self::Builtin),
            // A path with `..` could leave the directory that an allow-list names.
            ("file", path) if path.starts_with('/') && !path.split('/').any(|part| part == "..") => {
                Some(Self::File(path))
            }
            _ => None,
        }
    }
}

/// Returns true if `image` has the form of a container image reference, `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`, as clients
/// of the published system send them, and not the form of an image of this system, valid or not. It follows the grammar
/// of the distribution project (`reference`), which has no absolute path, no space and no capital letter outside of
/// HOST and TAG.
#[must_use]
pub fn is_container_image(image: &str) -> bool {
    // A mistyped image of this system must not pass as a container image.
    let is_ours = image.split(':').next().is_some_and(|begin| ["builtin", "file"].contains(&begin));
    let (rest, digest) = split(image.split_once('@'), image);
    // A colon before a slash belongs to the port of the host.
    let (name, tag) = split(rest.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')), rest);
    let (host, path) = match name.split_once('/') {
        // Any other first part belongs to the path (`library/ubuntu`).
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), path),
        _ => (None, name),
    };
    let is_path = path.split('/').all(|part| is_word(part, |byte| byte.is_ascii_lowercase()));
    !is_ours && is_path && host.is_none_or(is_host) && tag.is_none_or(is_tag) && digest.is_none_or(is_digest)
}

/// Both parts of what was split, or the whole.
fn split<'a>(parts: Option<(&'a str, &'a str)>, whole: &'a str) -> (&'a str, Option<&'a str>) {
    parts.map_or((whole, None), |(first, second)| (first, Some(second)))
}

/// Returns true for letters and digits, with separators between them only.
fn is_word(text: &str, is_letter: impl Fn(u8) -> bool) -> bool {
    let is_inner = |byte: u8| is_letter(byte) || byte.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().next_back()];
    ends.iter().all(|byte| byte.is_some_and(is_inner))
        && text.bytes().all(|byte| is_inner(byte) || b"._-".contains(&byte))
}

fn is_host(text: &str) -> bool {
    let (host, port) = split(text.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')), text);
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_known = match address {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => is_word(host, |byte| byte.is_ascii_alphabetic()),
    };
    is_known && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn is_tag(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=128).contains(&text.len()) && !text.starts_with(['.', '-']) && text.bytes().all(is_inner)
}

fn is_digest(text: &str) -> bool {
    let is_hex = |hex: &str| hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split_once(':')
        .is_some_and(|(algorithm, hex)| is_word(algorithm, |byte| byte.is_ascii_alphabetic()) && is_hex(hex))
}

/// Returns true if `entry` of an allow-list can allow any image: it is an image, or a prefix up to `:` or `/`.
#[must_use]
pub fn may_allow_images(entry: &str) -> bool {
    ["builtin:", "file:"].contains(&entry) || ProcessImage::read(entry).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_processes_is_built_in_or_a_file() {
        assert_eq!(ProcessImage::read("builtin:function"), Some(ProcessImage::Builtin));
        assert_eq!(ProcessImage::read("file:/bin/a:b"), Some(ProcessImage::File("/bin/a:b")));
        for other in
            ["foo", "", "builtin:nope", "builtin:", "file:relative", "file:/a/../b", "docker.io/any:1", "File:/a"]
        {
            assert_eq!(ProcessImage::read(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_container_image_has_the_form_of_a_reference_and_is_none_of_ours() {
        let digest = format!("ubuntu@sha256:{}", "0f".repeat(32));
        for container in [
            "docker.io/cvetkovic/dirigent_trace_function:latest",
            "any",
            "hello-world",
            "a/b_c/d.e:V1.2_x-y",
            "localhost/a",
            "Registry.example:5000/a:1",
            "10.0.1.1:5000/a",
            "[fd00::1]:5000/a",
            &digest,
            "a:1@sha256:00112233445566778899aabbccddeeff",
        ] {
            assert!(is_container_image(container), "{container:?}");
        }
        for mistake in [
            "",
            "/srv/f/hello",
            "./f",
            "../f",
            "~/f",
            "file /bin/x",
            "fille:/bin/x",
            "FILE:/a",
            "File:/a",
            "Any",
            "a/",
            "a//b",
            "a:",
            "a: b",
            "a:.b",
            "-a",
            "a@sha256:0f",
            "host.example:port/a",
            "http://host.example/a",
        ] {
            assert!(!is_container_image(mistake), "{mistake:?}");
        }
        for ours in [BUILTIN_IMAGE, "builtin", "file", "file:/bin/a", "builtin:nope", "file:relative"] {
            assert!(!is_container_image(ours), "{ours:?}");
        }
    }

    #[test]
    fn entries_that_can_allow_no_image_are_known() {
        for entry in ["builtin:", "builtin:function", "file:", "file:/", "file:/srv/f/", "file:/srv/f"] {
            assert!(may_allow_images(entry), "{entry:?}");
        }
        for entry in ["nonsense", "", "file", "/srv/f/", "file:srv/", "builtin:nope", "builtin:f"] {
            assert!(!may_allow_images(entry), "{entry:?}");
        }
    }
}
