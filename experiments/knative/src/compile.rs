//! Building the baseline from its Go modules into the cache: every program, the autoscaler a second time for the tuned
//! variant, and the manifests that its modules carry.

mod go;
mod overlay;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    cache::{Built, Cache},
    recipe::{self, KNATIVE, LIMITS, MANIFESTS, WRAPPERS, Wrapper},
    versions,
};

/// The autoscaler without its limits.
pub const TUNED_AUTOSCALER: &str = "autoscaler-tuned";

/// `built.json`: what was built, with what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The versions, in one line.
    pub versions: String,
    /// The Go toolchain.
    pub go: String,
    /// Duration in seconds.
    pub seconds: u64,
    /// SHA-256 of each program.
    pub programs: BTreeMap<String, String>,
    /// Lines of the autoscaler's source that the tuned variant has otherwise: as released, and instead.
    pub lifted_limits: Vec<(String, String)>,
}

/// Builds what is not built yet; nothing when it is.
///
/// # Errors
/// If there is no Go toolchain, a module cannot be fetched, or a build fails. What was built before is kept.
pub fn build(cache: &Cache) -> anyhow::Result<Built> {
    let built = cache.built();
    if built.is_complete() {
        return Ok(built);
    }
    let lock = cache.lock(|| terminal::note!("another build is under way; waiting for it"))?;
    if !built.is_complete() {
        let go = go::version()?;
        terminal::note!("building {} with {go}; the first time takes about ten minutes", versions::line());
        let folder = built.partial();
        fs::create_dir_all(folder.join("bin")).with_context(|| format!("creating {}", folder.display()))?;
        let began = Instant::now();
        programs(&folder)?;
        manifests(&folder)?;
        let facts = Facts {
            versions: versions::line(),
            go,
            seconds: began.elapsed().as_secs(),
            programs: checksums(&folder.join("bin"))?,
            lifted_limits: LIMITS.map(|(a, b)| (a.trim().to_owned(), b.trim().to_owned())).to_vec(),
        };
        record::write_json(&folder.join("built.json"), &facts)?;
        fs::rename(&folder, built.folder()).with_context(|| format!("renaming {}", folder.display()))?;
        terminal::note!("built in {} s: {}", facts.seconds, built.folder().display());
        for other in cache.others() {
            terminal::note!(
                "a build by another version of this program is there, too: remove {} to free its disk",
                other.display()
            );
        }
    }
    drop(lock);
    Ok(built)
}

fn programs(folder: &Path) -> anyhow::Result<()> {
    let bin = folder.join("bin");
    for (index, wrapper) in WRAPPERS.iter().enumerate() {
        let module = unpack(folder, wrapper)?;
        let what = format!("{} ({} of {})", wrapper.name, index + 1, WRAPPERS.len() + 1);
        let mut arguments: Vec<String> = wrapper.flags.iter().map(ToString::to_string).collect();
        let to = if wrapper.packages == ["."] { bin.join(wrapper.name) } else { bin.join("") };
        arguments.extend(["-o".to_owned(), to.display().to_string()]);
        arguments.extend(wrapper.packages.iter().map(ToString::to_string));
        go::build(&module, &what, &arguments)?;
        let (release, version) = recipe::release(wrapper.name);
        for package in wrapper.packages.iter().filter(|package| !package.starts_with("./")) {
            let program = if *package == "." { wrapper.name } else { package.rsplit('/').next().unwrap_or(package) };
            go::require_module(&module, &bin.join(program), release, &version)?;
        }
    }
    let module = folder.join(KNATIVE);
    overlay::write(&module_folder(&module, "knative.dev/serving")?, &module.join(TUNED_AUTOSCALER))?;
    let what = format!("the tuned autoscaler ({0} of {0})", WRAPPERS.len() + 1);
    let to = bin.join(TUNED_AUTOSCALER).display().to_string();
    go::build(&module, &what, &["-o", &to, &format!("./{TUNED_AUTOSCALER}")])
}

/// Writes a wrapper's files into a folder of its own.
fn unpack(folder: &Path, wrapper: &Wrapper) -> anyhow::Result<PathBuf> {
    let module = folder.join(wrapper.name);
    for (name, content) in wrapper.files {
        let path = module.join(name);
        let parent = path.parent().unwrap_or(&module);
        fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(module)
}

/// Folder of a module's source, which is fetched if it is missing.
fn module_folder(wrapper: &Path, module: &str) -> anyhow::Result<PathBuf> {
    go::output(wrapper, &["mod", "download", module])?;
    let folder = go::output(wrapper, &["list", "-m", "-f", "{{.Dir}}", module])?;
    Ok(PathBuf::from(folder.trim()))
}

/// Keeps the manifests, so that nothing but the cache is needed at run time.
fn manifests(folder: &Path) -> anyhow::Result<()> {
    let to = folder.join("manifests");
    fs::create_dir_all(&to).with_context(|| format!("creating {}", to.display()))?;
    for (module, files) in MANIFESTS {
        let from = module_folder(&folder.join(KNATIVE), module)?;
        for file in files {
            let name = Path::new(file).file_name().context("a manifest has a name")?;
            let parent = Path::new(file).parent().and_then(Path::file_name).unwrap_or_default();
            let path = to.join(format!("{}-{}", parent.display(), name.display()));
            let text = fs::read_to_string(from.join(file)).with_context(|| format!("reading {file} of {module}"))?;
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
    }
    Ok(())
}

fn checksums(bin: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut sums = BTreeMap::new();
    for entry in fs::read_dir(bin).with_context(|| format!("listing {}", bin.display()))? {
        let path = entry?.path();
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().display().to_string();
        sums.insert(name, Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect());
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapper_is_unpacked_with_all_its_files_over_what_an_interrupted_build_left() {
        let folder = tempfile::tempdir().unwrap();
        let knative = WRAPPERS.iter().find(|wrapper| wrapper.name == KNATIVE).unwrap();
        fs::create_dir_all(folder.path().join("knative")).unwrap();
        fs::write(folder.path().join("knative/go.mod"), "half of it").unwrap();
        let module = unpack(folder.path(), knative).unwrap();
        assert_eq!(module, folder.path().join("knative"));
        for (name, content) in knative.files {
            assert_eq!(fs::read_to_string(module.join(name)).unwrap(), *content, "{name}");
        }
    }

    #[test]
    fn programs_are_listed_by_name_with_their_sha_256() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("etcd"), "abc").unwrap();
        let sums = checksums(folder.path()).unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sums, [("etcd".to_owned(), abc.to_owned())].into());
        let error = checksums(&folder.path().join("absent")).unwrap_err().to_string();
        assert_eq!(error, format!("listing {}", folder.path().join("absent").display()));
    }
}
