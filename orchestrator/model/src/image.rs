//! Images that a runtime of processes takes: one place for what registration refuses and what a worker runs.

/// What an image stands for where sandboxes are processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessImage<'a> {
    /// The function that comes with the workers.
    Builtin,
    /// The program at this absolute path, which does not climb.
    File(&'a str),
}

/// The function that comes with the workers, as registrations name it.
pub const BUILTIN_IMAGE: &str = "builtin:function";

/// What there is to choose from, for who gave something else.
pub const PROCESS_IMAGES: &str = "builtin:function or file:/path/to/program";

impl<'a> ProcessImage<'a> {
    /// Reads an image; `None` when no runtime of processes can run it.
    #[must_use]
    pub fn read(image: &'a str) -> Option<Self> {
        match image.split_once(':')? {
            ("builtin", "function") => Some(Self::Builtin),
            // A path that climbs leads elsewhere than it begins, whatever is allowed.
            ("file", path) if path.starts_with('/') && !path.split('/').any(|part| part == "..") => {
                Some(Self::File(path))
            }
            _ => None,
        }
    }
}

/// The image that a client of the published system means by `image`: one of ours where it is written as one, right or
/// wrong, else the built-in function, which stands for the container images that such clients name.
#[must_use]
pub fn image_of_form(image: &str) -> &str {
    let is_ours = ["builtin:", "file:"].iter().any(|begin| image.starts_with(begin));
    if is_ours { image } else { BUILTIN_IMAGE }
}

/// Returns true if `entry` of a list of allowed images can allow any: an image, or what images begin with up to `:` or `/`.
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
    fn a_form_means_the_built_in_function_by_what_is_no_image_of_ours() {
        for container in ["docker.io/any/dirigent_trace_function:latest", "any", "File:/a"] {
            assert_eq!(image_of_form(container), BUILTIN_IMAGE, "{container:?}");
        }
        for ours in [BUILTIN_IMAGE, "file:/bin/a", "builtin:nope", "file:relative"] {
            assert_eq!(image_of_form(ours), ours);
        }
    }

    #[test]
    fn what_can_allow_no_image_is_known() {
        for entry in ["builtin:", "builtin:function", "file:", "file:/", "file:/srv/f/", "file:/srv/f"] {
            assert!(may_allow_images(entry), "{entry:?}");
        }
        for entry in ["nonsense", "", "file", "/srv/f/", "file:srv/", "builtin:nope", "builtin:f"] {
            assert!(!may_allow_images(entry), "{entry:?}");
        }
    }
}
