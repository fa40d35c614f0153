//! The one limit of the baseline that no setting reaches: the autoscaler's client rate stands in its source. The tuned
//! variant is built from a copy of the module's own files with those two lines substituted, made in the cache at build
//! time. (Go's `-overlay` refuses to replace files of its module cache.)

use std::{fs, path::Path};

use anyhow::{Context, bail};

use crate::recipe::LIMITS;

/// The package, within the module `knative.dev/serving`.
const PACKAGE: &str = "cmd/autoscaler";
/// The file of it that holds the limits.
const FILE: &str = "main.go";

/// Copies the package's files into `folder`, the lines substituted.
///
/// # Errors
/// If a file cannot be read or written, or the lines do not stand in it exactly once each.
pub(super) fn write(module: &Path, folder: &Path) -> anyhow::Result<()> {
    let package = module.join(PACKAGE);
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    for entry in fs::read_dir(&package).with_context(|| format!("listing {}", package.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if path.extension().is_none_or(|extension| extension != "go") || name.to_string_lossy().ends_with("_test.go") {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let text =
            if name == FILE { substitute(&text).with_context(|| format!("in {}", path.display()))? } else { text };
        let copy = folder.join(name);
        fs::write(&copy, text).with_context(|| format!("writing {}", copy.display()))?;
    }
    Ok(())
}

fn substitute(text: &str) -> anyhow::Result<String> {
    let mut text = text.to_owned();
    for (released, lifted) in LIMITS {
        let found = text.matches(released).count();
        if found != 1 {
            bail!("expected the line {:?} once, found it {found} times: nothing was changed", released.trim());
        }
        text = text.replace(released, lifted);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "func main() {\n\tcfg.QPS = controllerNum * rest.DefaultQPS\n\
                          \tcfg.Burst = controllerNum * rest.DefaultBurst\n\tgo()\n}\n";

    #[test]
    fn exactly_the_two_lines_are_changed() {
        let changed = substitute(SOURCE).unwrap();
        let differ: Vec<_> = SOURCE.lines().zip(changed.lines()).filter(|(before, after)| before != after).collect();
        assert_eq!(differ.len(), 2);
        assert!(differ.iter().all(|(_, after)| after.contains("= 1000 * controllerNum * rest.Default")), "{differ:?}");
    }

    #[test]
    fn a_source_without_the_lines_or_with_them_twice_is_refused() {
        let missing = substitute(&SOURCE.replace("rest.DefaultBurst", "40")).unwrap_err().to_string();
        assert!(missing.contains("DefaultBurst") && missing.contains("found it 0 times"), "{missing}");
        let twice = substitute(&format!("{SOURCE}{SOURCE}")).unwrap_err().to_string();
        assert!(twice.contains("DefaultQPS") && twice.contains("found it 2 times"), "{twice}");
    }
}
