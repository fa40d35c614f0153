//! Identity of a repetition's rows: programs, settings and machine as the manifest says. A run may be resumed, and rows
//! of one program must not count under the name of another.

use std::{collections::BTreeSet, fs};

use record::{Finding, Invariant, Manifest, PointDir, Scope, Weight, read_json};

use crate::{
    definition::settings::Settings,
    machine::host,
    run::{
        basis::{Basis, setting_changes, system_changes},
        repetition::RepetitionFacts,
    },
    verify::invariant::Findings,
};

/// Key in `config.toml` of what is no setting: the files that the system was given.
const FILES: &str = "files";

/// Compares a repetition's own record with the manifest, and with `settings`, the manifest's settings of the repetition.
pub fn check(
    point: &PointDir,
    facts: Option<&RepetitionFacts>,
    manifest: &Manifest,
    settings: &Settings,
    to: &mut Findings,
) {
    let basis = facts.and_then(|facts| facts.measured_with.as_ref());
    // A repetition without its own record is from a run of one session, so the manifest has its programs.
    let silent = manifest.is_resumed().then_some("repetition.json lacks it, and the run was resumed");
    let one_session = "the run was measured in one session";
    let mut changes = basis.map(|basis| with_others(basis, point, manifest)).unwrap_or_default();
    let mut unproved: Vec<&str> = silent.filter(|_| basis.is_none()).into_iter().collect();
    match own_settings(point) {
        Some(own) => changes.extend(setting_changes(&own, settings)),
        None => unproved.push("config.toml lacks its settings"),
    }
    let finding = match (changes.is_empty(), unproved.is_empty()) {
        (true, true) => Finding::Held,
        (true, false) => Finding::NotMeasured,
        (false, _) => Finding::NotHeld,
    };
    let same = basis.map_or(one_session, |basis| &basis.system.version);
    let detail = match finding {
        Finding::Held => same.to_owned(),
        Finding::NotMeasured => unproved.join("; "),
        Finding::NotHeld => format!("it was measured with other: {}", changes.join(", ")),
    };
    let [with_what, on_what, _] = Invariant::IDENTITY;
    to.add(with_what, Weight::Validity, finding, detail);
    let (finding, detail) = match basis {
        Some(basis) => {
            let found = host::differences(&basis.host, &manifest.host);
            (Finding::of(found.is_empty()), found.join(", "))
        }
        None => silent.map_or((Finding::Held, one_session.to_owned()), |why| (Finding::NotMeasured, why.to_owned())),
    };
    to.add(on_what, Weight::Validity, finding, detail);
}

/// Marks a run that several versions of the runner measured, if they are recorded: they may harvest and join a system's
/// records differently.
#[must_use]
pub fn check_runner(repetitions: &[&PointDir]) -> Vec<Invariant> {
    let facts = repetitions.iter().filter_map(|point| read_json::<RepetitionFacts>(&point.facts()).ok());
    let versions: BTreeSet<String> =
        facts.filter_map(|facts| facts.measured_with).map(|basis| basis.runner).filter(|one| !one.is_empty()).collect();
    let mut findings = Findings::new(Scope::Run);
    if !versions.is_empty() {
        let finding = Finding::of(versions.len() == 1);
        let detail = versions.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        findings.add("one version of the runner measured all repetitions", Weight::Mark, finding, detail);
    }
    findings.into_list()
}

/// Programs and settings of a repetition that differ from the manifest's.
fn with_others(basis: &Basis, point: &PointDir, manifest: &Manifest) -> Vec<String> {
    let mut changes = match manifest.systems.get(&point.system) {
        Some(facts) => system_changes(&basis.system, facts),
        None => vec!["its system, of which the manifest has no version".to_owned()],
    };
    if manifest.checksums.get("loadgen") != Some(&basis.loadgen) {
        changes.push("the load generator".to_owned());
    }
    changes
}

/// The settings of a repetition as its `config.toml` has them.
fn own_settings(point: &PointDir) -> Option<Settings> {
    let mut table: toml::Table = fs::read_to_string(point.config()).ok()?.parse().ok()?;
    table.remove(FILES);
    toml::Value::Table(table).try_into().ok()
}
