//! The manifests: the workspace's lints hold in every crate, and every dependency has a use.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use tidy::{Workspace, expect_none};

/// Dependencies that no source names: what generated code calls, and what is there for a feature alone (syn's spans
/// have lines only with proc-macro2's `span-locations`).
const UNNAMED: [(&str, &str); 3] = [("api", "prost"), ("api", "tonic-prost"), ("tidy", "proc-macro2")];
/// The tables of a manifest that name dependencies.
const DEPENDENCY_TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// Each member's name, directory and manifest.
fn members(workspace: &Workspace) -> Vec<(String, String, toml::Table)> {
    let packages = workspace.metadata().packages;
    let read = |package: &cargo_metadata::Package| {
        let manifest = package.manifest_path.as_std_path();
        let table = fs::read_to_string(manifest).unwrap().parse().unwrap();
        (package.name.to_string(), workspace.name(manifest.parent().unwrap()), table)
    };
    packages.iter().map(read).collect()
}

fn dependencies(manifest: &toml::Table) -> BTreeSet<&str> {
    let tables = DEPENDENCY_TABLES.iter().filter_map(|table| manifest.get(*table)?.as_table());
    tables.flat_map(|table| table.keys().map(String::as_str)).collect()
}

/// The text of all Rust files of a member, without those of members inside its directory.
fn texts(workspace: &Workspace) -> BTreeMap<String, String> {
    let directories: Vec<String> = members(workspace).into_iter().map(|(_, directory, _)| directory).collect();
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for path in workspace.with_extension("rs") {
        let name = workspace.name(path);
        let owner = directories.iter().filter(|directory| Path::new(&name).starts_with(directory));
        if let Some(owner) = owner.max_by_key(|directory| directory.len()) {
            texts.entry(owner.clone()).or_default().push_str(&fs::read_to_string(path).unwrap());
        }
    }
    texts
}

/// Returns true if `text` uses the crate called `name`: as the beginning of a path, or in an attribute's text.
fn uses(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        let begins = !before.ends_with(|last: char| last.is_alphanumeric() || last == '_');
        begins
            && (after.starts_with("::") || after.starts_with(" as ") || before.ends_with('"') && after.starts_with('"'))
    })
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let workspace = Workspace::read();
    let mut findings = Vec::new();
    for (_, directory, manifest) in members(&workspace) {
        let lints = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
        if lints != Some(true) {
            findings.push(format!("{directory}/Cargo.toml: expected `[lints] workspace = true`"));
        }
    }
    expect_none("lints", &findings);
}

#[test]
fn every_dependency_is_used() {
    let workspace = Workspace::read();
    let texts = texts(&workspace);
    let mut findings = Vec::new();
    let mut named = BTreeSet::new();
    for (member, directory, manifest) in members(&workspace) {
        for dependency in dependencies(&manifest) {
            named.insert(dependency.to_owned());
            let used = uses(&texts[&directory], &dependency.replace('-', "_"));
            if !used && !UNNAMED.contains(&(member.as_str(), dependency)) {
                findings.push(format!("{directory}/Cargo.toml: `{dependency}` stands in no source of `{member}`"));
            }
        }
    }
    let root: toml::Table = fs::read_to_string(workspace.root.join("Cargo.toml")).unwrap().parse().unwrap();
    let shared = root["workspace"]["dependencies"].as_table().unwrap();
    for unused in shared.keys().filter(|name| !named.contains(*name)) {
        findings.push(format!("Cargo.toml: no member depends on `{unused}` of [workspace.dependencies]"));
    }
    expect_none("unused dependencies", &findings);
}

#[test]
fn a_use_is_a_path_or_an_attribute_and_not_a_word_in_a_sentence() {
    assert!(uses("use rand::x;", "rand") && uses("::rand::x()", "rand") && uses("with = \"rand\"", "rand"));
    assert!(!uses("a rand number", "rand") && !uses("strand::x", "rand") && !uses("rand_pcg::x", "rand"));
}
