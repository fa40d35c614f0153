//! Whether a system that says what its own build made was the same in every repetition: it may have been built again between
//! two sessions of a run, from other sources or with another compiler, under the same version.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use record::{Finding, Invariant, PointDir, Scope, Weight, read_json};
use serde_json::Value;

use crate::verify::invariant::Findings;

/// Where a `built.json` has the checksums of programs by name; what else is in it, such as the time that it took, may differ.
const PROGRAMS: &str = "/programs";

/// Judges every repetition of each system that leaves a `built.json`, by all of them in the run: rates are compared with each other.
/// It says nothing about other systems at the same points.
///
/// # Errors
/// When a `built.json` is malformed.
pub fn judge(repetitions: &[&PointDir]) -> anyhow::Result<Vec<Invariant>> {
    let mut systems: BTreeMap<&str, Vec<&PointDir>> = BTreeMap::new();
    for repetition in repetitions {
        systems.entry(&repetition.system).or_default().push(repetition);
    }
    let mut all = Vec::new();
    for (system, of_system) in systems {
        let (told, silent): (Vec<&PointDir>, Vec<&PointDir>) = of_system.iter().partition(|dir| dir.built().is_file());
        let built = told.iter().map(|dir| programs(dir)).collect::<anyhow::Result<Vec<Value>>>()?;
        let Some(first) = built.first() else { continue };
        let names: BTreeSet<&String> = built.iter().flat_map(|one| different(first, one)).collect();
        let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
        let (finding, detail) = if built.iter().any(|one| one != first) {
            (Finding::NotHeld, format!("{system} was built again between two of them: {}", names.join(", ")))
        } else if silent.is_empty() {
            (Finding::Held, format!("{system}, {} repetitions", built.len()))
        } else {
            (Finding::NotMeasured, format!("{system}: {} repetitions have no built.json", silent.len()))
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

/// What a repetition says that its system is built of.
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
        let places = ["as-built", "rebuilt", "silent", "none"].map(|system| [1, 2].map(|number| (system, number)));
        let dirs: Vec<PointDir> =
            places.as_flattened().iter().map(|(system, number)| run.point(system, "p", *number)).collect();
        for dir in &dirs {
            fs::create_dir_all(&dir.path).unwrap();
            let sum = if dir.system == "rebuilt" { dir.repetition } else { 0 };
            if dir.system != "none" && (dir.system != "silent" || dir.repetition == 1) {
                fs::write(dir.built(), format!("{{\"programs\":{{\"activator\":\"{sum}\"}}}}")).unwrap();
            }
        }
        let found = judge(&dirs.iter().collect::<Vec<_>>()).unwrap();
        let found: Vec<_> = found.iter().map(|one| (one.scope.to_string(), one.finding)).collect();
        let expected = [("as-built", Finding::Held), ("rebuilt", Finding::NotHeld), ("silent", Finding::NotMeasured)];
        let expected = expected.map(|(system, finding)| [1, 2].map(|number| (format!("{system} p {number}"), finding)));
        assert_eq!(found, expected.as_flattened());
    }
}
