//! Records of the components' actions: every request to the API server, from its audit log, every object shown to the
//! webhook, from the webhook's log, and every change of an object in the store, from a watch of etcd. Recording costs
//! some CPU, so that it is off by default.

mod audit;
mod store;
mod webhook;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use record::TableWriter;

pub use audit::{LOG, POLICY, policy};
pub use store::Changes;

/// Names of the functions that are registered: objects are told apart by them.
pub struct Functions(HashSet<String>);

impl Functions {
    /// These functions.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().collect())
    }

    /// The function that an object belongs to: names of what Knative and Kubernetes make for it begin with its own.
    fn of(&self, object: &str) -> Option<&str> {
        let ends = object.rmatch_indices(['-', '.']).map(|(end, _)| end);
        let found = std::iter::once(object.len()).chain(ends).find_map(|end| self.0.get(&object[..end]));
        found.map(String::as_str)
    }
}

/// Path of the record in the testbed's folder.
#[must_use]
pub fn path(folder: &Path) -> PathBuf {
    folder.join("actions.csv")
}

/// Writes what was recorded in a testbed's folder, once its parts have ended.
///
/// # Errors
/// If a log cannot be read or the file cannot be written.
pub fn write(folder: &Path, functions: &Functions, changes: Changes) -> anyhow::Result<()> {
    let requests = audit::actions(&folder.join(LOG), functions)?;
    let shown = webhook::actions(&folder.join(webhook::LOG), functions)?;
    let changed = changes.finish(functions)?;
    // Not before all is read: an empty file would say that nothing was done.
    let mut writer = TableWriter::create(&path(folder))?;
    for action in requests.into_iter().chain(shown).chain(changed) {
        writer.write(&action)?;
    }
    Ok(writer.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_belongs_to_the_function_whose_name_it_begins_with() {
        let functions = Functions::new(["f-0001", "f-0002"].map(str::to_owned));
        for (object, expected) in [
            ("f-0001", Some("f-0001")),
            ("f-0001-00001-deployment-5d9c-x2x", Some("f-0001")),
            ("f-0002-00001-private", Some("f-0002")),
            ("f-0001-00001.17b", Some("f-0001")),
            ("f-00011", None),
            ("f", None),
            ("kube-scheduler", None),
        ] {
            assert_eq!(functions.of(object), expected, "{object}");
        }
    }
}
