//! Programs, settings and machine of a repetition, recorded in its `repetition.json`: a resumed run may have others, and
//! rows must not be attributed to programs that they were not measured with.

use std::path::Path;

use record::{HostFacts, SystemFacts};
use serde::{Deserialize, Serialize};
use toml::Value;

use crate::definition::settings::Settings;

/// Most changed settings that are named; the others are only counted.
const MAX_NAMED: usize = 4;

/// Version of this program.
pub const RUNNER: &str = env!("PROGRAM_VERSION");

/// Programs and machine of a repetition; its settings are in its `config.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// SHA-256 of everything its result depends on, as in `plan.json`.
    pub fingerprint: String,
    /// The system.
    pub system: SystemFacts,
    /// SHA-256 of the load generator.
    pub loadgen: String,
    /// Version of the runner: it harvests a system's records and joins them to the rows, so that a change may affect both.
    #[serde(default)]
    pub runner: String,
    /// Git revision of the checkout.
    pub git_revision: String,
    /// The machine.
    pub host: HostFacts,
}

/// The programs of a system as file name and SHA-256, in order. Paths are left out, because equal programs may be in another
/// folder.
#[must_use]
pub fn programs(facts: &SystemFacts) -> Vec<(&str, &str)> {
    let name = |path: &'_ str| Path::new(path).file_name().and_then(|name| name.to_str()).map_or(0, str::len);
    let mut programs: Vec<_> =
        facts.binaries.iter().map(|(path, sum)| (&path[path.len() - name(path)..], sum.as_str())).collect();
    programs.sort_unstable();
    programs
}

/// The facts about a system that a result depends on, as text; the paths of its programs are not among them.
#[must_use]
pub fn of_system(facts: Option<&SystemFacts>) -> String {
    let known = facts.map(|facts| (&facts.version, &facts.definition, programs(facts)));
    serde_json::to_string(&known).expect("texts are written as JSON")
}

/// Differences of a system from its earlier state, in words; empty without any.
#[must_use]
pub fn system_changes(before: &SystemFacts, now: &SystemFacts) -> Vec<String> {
    let mut changes = Vec::new();
    if before.version != now.version {
        changes.push(format!("its version ({}, now {})", before.version, now.version));
    }
    if before.definition != now.definition {
        changes.push("its table in systems.toml".to_owned());
    }
    let [before, now] = [programs(before), programs(now)];
    let mut names: Vec<&str> = before.iter().filter(|one| !now.contains(one)).map(|(name, _)| *name).collect();
    names.extend(now.iter().filter(|one| !before.contains(one)).map(|(name, _)| *name));
    names.sort_unstable();
    names.dedup();
    if !names.is_empty() {
        changes.push(format!("its programs ({})", names.join(", ")));
    }
    changes
}

/// The settings that have changed, each with both values.
#[must_use]
pub fn setting_changes(before: &Settings, now: &Settings) -> Vec<String> {
    let table = |settings: &Settings| Value::try_from(settings).expect("settings are tables of plain values");
    let mut changes = Vec::new();
    compare("", Some(&table(before)), Some(&table(now)), &mut changes);
    let more = changes.len().saturating_sub(MAX_NAMED);
    changes.truncate(MAX_NAMED);
    changes.extend((more > 0).then(|| format!("and {more} more")));
    changes
}

fn compare(key: &str, before: Option<&Value>, now: Option<&Value>, to: &mut Vec<String>) {
    if before == now {
        return;
    }
    if let (Some(Value::Table(before)), Some(Value::Table(now))) = (before, now) {
        let added = now.keys().filter(|key| !before.contains_key(*key));
        for name in before.keys().chain(added) {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            compare(&key, before.get(name), now.get(name), to);
        }
        return;
    }
    let text = |value: Option<&Value>| value.map_or_else(|| "absent".to_owned(), Value::to_string);
    to.push(format!("{key} ({}, now {})", text(before), text(now)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::points;

    fn facts(path: &str, sum: &str) -> SystemFacts {
        SystemFacts { binaries: [(path.to_owned(), sum.to_owned())].into(), ..SystemFacts::default() }
    }

    #[test]
    fn the_same_program_elsewhere_is_no_change_and_another_one_is() {
        let nothing: [String; 0] = [];
        assert_eq!(system_changes(&facts("/a/d", "1"), &facts("/b/d", "1")), nothing);
        assert_eq!(system_changes(&facts("/a/d", "1"), &facts("/a/d", "2")), ["its programs (d)"]);
        assert_eq!(system_changes(&facts("/a/d", "1"), &facts("/a/e", "1")), ["its programs (d, e)"]);
        assert_eq!(of_system(Some(&facts("/a/d", "1"))), of_system(Some(&facts("/b/d", "1"))));
        assert_ne!(of_system(Some(&facts("/a/d", "1"))), of_system(Some(&facts("/a/d", "2"))));
        let later = SystemFacts { version: "2".to_owned(), ..facts("/a/d", "1") };
        assert_eq!(system_changes(&facts("/a/d", "1"), &later), ["its version (, now 2)"]);
    }

    #[test]
    fn a_changed_setting_is_named_with_both_values() {
        let read = |nodes: u32, more: &str| {
            let text = format!(
                "systems = [\"a\"]\nload = {{ minutes = 1, timeout = \"60s\" }}\n{more}\n[sandbox]\nruntime = \"hollow\"\n\
                 mode = \"sleep\"\nworkers = 2\nnodes = {nodes}\ncpu = \"64\"\nmemory = \"256GiB\""
            );
            points::read(&text).unwrap().remove(0).settings
        };
        let (before, now) = (read(3, ""), read(5, "expect = { failed_share_max = 0.5 }"));
        assert_eq!(setting_changes(&before, &before), [""; 0]);
        let changes = setting_changes(&before, &now);
        assert!(changes.contains(&"sandbox.nodes (3, now 5)".to_owned()), "{changes:?}");
        assert!(changes.contains(&"expect.failed_share_max (absent, now 0.5)".to_owned()), "{changes:?}");
    }
}
