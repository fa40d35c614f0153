//! The program of a sandbox: the executable that its image names, with arguments and environment.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

use model::{PROCESS_IMAGES, ProcessImage};

use super::Shared;
use crate::{
    messages::SandboxSpec,
    runtime::{CreationFailure, CreationRequest},
};

/// An executable with everything it gets from the worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
}

impl Program {
    /// The program of `request`, to listen on `address`. Of the worker's environment it gets `PATH` only.
    ///
    /// # Errors
    /// Permanent, if the image is unknown or not allowed.
    pub(super) fn new(
        shared: &Shared,
        request: &CreationRequest,
        address: SocketAddr,
    ) -> Result<Self, CreationFailure> {
        let spec = &request.spec;
        let image = ProcessImage::read(&spec.image).ok_or_else(|| {
            CreationFailure::permanent(format!("image {:?}: the process runtime takes {PROCESS_IMAGES}", spec.image))
        })?;
        check_allowed(&shared.config.images, &spec.image)?;
        let (path, mut arguments) = match image {
            ProcessImage::Builtin => {
                let machine = shared.nodes.get(request.node).map_or("", String::as_str);
                (shared.function.clone(), builtin_arguments(shared, spec, machine))
            }
            ProcessImage::File(path) => (PathBuf::from(path), Vec::new()),
        };
        arguments.extend(spec.arguments.iter().map(OsString::from));
        let path_variable = std::env::var_os("PATH").map(|path| ("PATH".into(), path));
        let mut environment: Vec<(OsString, OsString)> = path_variable.into_iter().collect();
        // Before the function's own variables, which may name another address, for example all of them. `PORT` comes
        // after them: the worker probes that port.
        environment.push(("HOST".into(), address.ip().to_string().into()));
        environment.extend(spec.environment.iter().map(|(key, value)| (key.into(), value.into())));
        environment.push(("PORT".into(), address.port().to_string().into()));
        Ok(Self { path, arguments, environment })
    }
}

/// Refuses an image that is not among `allowed`. A path with `..` is always refused, because it can lead out of an
/// allowed prefix.
fn check_allowed(allowed: &[String], image: &str) -> Result<(), CreationFailure> {
    let has_parent = image.split('/').any(|part| part == "..");
    let is_prefix = |entry: &String| entry.ends_with([':', '/']) && image.starts_with(entry.as_str());
    if !has_parent && allowed.iter().any(|entry| entry == image || is_prefix(entry)) {
        return Ok(());
    }
    let allowed = allowed.join(", ");
    Err(CreationFailure::permanent(format!(
        "image {image:?} may not be run here: process.images (--allow-image) allows {allowed}"
    )))
}

/// A function's own arguments follow these and override them.
fn builtin_arguments(shared: &Shared, spec: &SandboxSpec, machine: &str) -> Vec<OsString> {
    let mode = match shared.config.mode {
        hollow::Mode::Spin => "spin",
        hollow::Mode::Sleep => "sleep",
    };
    let (memory_mib, address) = (spec.memory_mib.to_string(), shared.address.to_string());
    ["--mode", mode, "--address", &address, "--name", machine, "--max-memory-mib", &memory_mib]
        .map(OsString::from)
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_allowed_images_are_run() {
        let may = |allowed: &[&str], image: &str| {
            let allowed: Vec<String> = allowed.iter().map(|entry| (*entry).to_owned()).collect();
            check_allowed(&allowed, image).is_ok()
        };
        assert!(may(&["builtin:"], "builtin:function") && !may(&["builtin:"], "file:/bin/sh"));
        assert!(may(&["file:/srv/f/"], "file:/srv/f/a") && !may(&["file:/srv/f/"], "file:/srv/fa"));
        assert!(!may(&["file:/srv/f/"], "file:/srv/f/../../../bin/sh"), "it leads out of the prefix");
        assert!(may(&["file:/srv/f"], "file:/srv/f") && !may(&["file:/srv/f"], "file:/srv/f2"), "an image by itself");
        assert!(may(&["file:/"], "file:/bin/sh") && !may(&[], "builtin:function"));
        let refused = check_allowed(&["builtin:".to_owned()], "file:/bin/sh").unwrap_err();
        assert!(
            refused.permanent && refused.message.contains("process.images (--allow-image) allows builtin:"),
            "{refused}"
        );
    }
}
