//! Identity of a system's build over repetitions, if the system records it: between two sessions of a run it may have
//! been built again, from other sources or with another compiler, under the same version.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    path::Path,
};

use anyhow::Context;
use record::{Finding, Invariant, PointDir, Scope, SystemFacts, Weight, read_json};
use serde_json::Value;

use crate::verify::invariant::Findings;

/// JSON pointer of the programs' checksums in a `built.json`; other content, such as the duration of the build, may
/// differ.
const PROGRAMS: &str = "/programs";

/// Key of the harvested files in the tables of systems that earlier versions of this program recorded.
const FILES_BEFORE: &str = "keep";

/// Checks that all repetitions of each system that records a `built.json`, or should by its table in the manifest, have the
/// same build, because their results are compared. Other systems at the same points are not affected.
///
/// # Errors
/// If a `built.json` is malformed.
pub fn check(repetitions: &[&PointDir], known: &BTreeMap<String, SystemFacts>) -> anyhow::Result<Vec<Invariant>> {
    let mut systems: BTreeMap<&str, Vec<&PointDir>> = BTreeMap::new();
    for repetition in repetitions {
        systems.entry(&repetition.system).or_default().push(repetition);
    }
    let mut all = Vec::new();
    for (system, of_system) in systems {
        let (recorded, unrecorded): (Vec<&PointDir>, Vec<&PointDir>) =
            of_system.iter().partition(|dir| dir.built().is_file());
        let built = recorded.iter().map(|dir| programs(dir)).collect::<anyhow::Result<Vec<Value>>>()?;
        let is_expected = || known.get(system).is_some_and(leaves_built);
        if built.is_empty() && !is_expected() {
            continue;
        }
        let names: BTreeSet<&String> = built.iter().flat_map(|one| different(&built[0], one)).collect();
        let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
        let (finding, detail) = if built.iter().any(|one| *one != built[0]) {
            (Finding::NotHeld, format!("{system} was built again between two of them: {}", names.join(", ")))
        } else if unrecorded.is_empty() {
            (Finding::Held, format!("{system}, {} repetitions", built.len()))
        } else {
            (Finding::NotMeasured, format!("{system}: {} repetitions have no built.json", unrecorded.len()))
        };
        let [.., of_what] = Invariant::IDENTITY;
        for PointDir { system, point, repetition, .. } in of_system {
            let [system, point] = [system, point].map(String::clone);
            let mut findings = Findings::new(Scope::Repetition { system, point, repetition: *repetition });
            findings.add(of_what, Weight::Validity, finding, detail.clone());
            all.extend(findings.into_list());
        }
    }
    Ok(all)
}

/// Returns true if the table of a system says that its repetitions keep a `built.json`. A table of another version of
/// this program is read as far as it is understood.
fn leaves_built(facts: &SystemFacts) -> bool {
    let table: toml::Table = facts.definition.parse().unwrap_or_default();
    let kept = table
        .get("harvest")
        .and_then(|harvest| ["files", FILES_BEFORE].iter().find_map(|key| harvest.get(*key)?.as_array()));
    let mut kept = kept.into_iter().flatten().filter_map(toml::Value::as_str);
    kept.any(|path| Path::new(path).file_name() == Some(OsStr::new(PointDir::BUILT)))
}

/// The programs that a repetition's system is built of.
fn programs(dir: &PointDir) -> anyhow::Result<Value> {
    let path = dir.built();
    let built: Value = read_json(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(built.pointer(PROGRAMS).cloned().unwrap_or(built))
}

/// The names whose values are not the same in both.
fn different<'a>(one: &'a Value, other: &'a Value) -> Vec<&'a String> {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else { return Vec::new() };
    let added = other.keys().filter(|name| !one.contains_key(*name));
    one.keys().filter(|name| one.get(*name) != other.get(*name)).chain(added).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use record::RunDir;

    use super::*;

    #[test]
    fn each_system_answers_for_itself_where_they_share_a_point() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir(folder.path().to_owned());
        let places = ["as-built", "rebuilt", "silent", "lost", "lost-before", "none"]
            .map(|system| [1, 2].map(|number| (system, number)));
        let dirs: Vec<PointDir> =
            places.as_flattened().iter().map(|(system, number)| run.point(system, "p", *number)).collect();
        for dir in &dirs {
            fs::create_dir_all(&dir.path).unwrap();
            let sum = if dir.system == "rebuilt" { dir.repetition } else { 0 };
            if !["lost", "lost-before", "none"].contains(&&*dir.system)
                && (dir.system != "silent" || dir.repetition == 1)
            {
                fs::write(dir.built(), format!("{{\"programs\":{{\"activator\":\"{sum}\"}}}}")).unwrap();
            }
        }
        let facts = |key: &str, file: &str| {
            let definition = format!("about = \"one\"\n[harvest]\n{key} = [\"{{bin}}/a.json\", \"{file}\"]\n");
            SystemFacts { definition, ..SystemFacts::default() }
        };
        let known = [
            ("lost", "files", "{dirs.a}/built.json"),
            ("lost-before", FILES_BEFORE, "{dirs.a}/built.json"),
            ("none", "files", "{dirs.a}/not-built.json"),
        ];
        let known = known.map(|(system, key, file)| (system.to_owned(), facts(key, file))).into();
        let found = check(&dirs.iter().collect::<Vec<_>>(), &known).unwrap();
        let found: Vec<_> = found.iter().map(|one| (one.scope.to_string(), one.finding)).collect();
        let expected = [
            ("as-built", Finding::Held),
            ("lost", Finding::NotMeasured),
            ("lost-before", Finding::NotMeasured),
            ("rebuilt", Finding::NotHeld),
            ("silent", Finding::NotMeasured),
        ];
        let expected = expected.map(|(system, finding)| [1, 2].map(|number| (format!("{system} p {number}"), finding)));
        assert_eq!(found, expected.as_flattened());
    }
}
