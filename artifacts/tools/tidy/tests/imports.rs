//! Compares the workspace's dependencies, as cargo reports them, with the import table of docs/architecture.md.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::DependencyKind;
use tidy::{Workspace, expect_none, table};

/// The page that holds the table.
const PAGE: &str = "docs/architecture.md";
/// Crates for tests, which every crate may have as dev-dependencies.
const FOR_TESTS: [&str; 2] = ["programs", "sim"];

/// Crates and what each may import, in the order of the table.
fn allowed(workspace: &Workspace) -> Vec<(String, BTreeSet<String>)> {
    let page = std::fs::read_to_string(workspace.root.join(PAGE)).unwrap();
    let rows = table(&page, "crate");
    assert!(rows.len() > 10, "{PAGE}: expected the table of crates (first heading `crate`), found {} rows", rows.len());
    let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let imports = |cell: &str| cell.split_whitespace().filter(|word| *word != "–").map(name).collect();
    rows.iter().map(|row| (name(&row[0]), imports(row.last().unwrap()))).collect()
}

#[test]
fn only_edges_of_the_table_exist() {
    let workspace = Workspace::read();
    let allowed: BTreeMap<_, _> = allowed(&workspace).into_iter().collect();
    let metadata = workspace.metadata();
    let members: BTreeSet<String> = metadata.packages.iter().map(|package| package.name.to_string()).collect();
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let manifest = workspace.name(package.manifest_path.as_std_path());
        let Some(may) = allowed.get(package.name.as_str()) else {
            findings.push(format!("{manifest}: `{}` has no row in the table of {PAGE}", package.name));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|dependency| members.contains(&dependency.name)) {
            let is_dev = dependency.kind == DependencyKind::Development;
            let for_tests = is_dev && FOR_TESTS.contains(&dependency.name.as_str());
            if !may.contains(&dependency.name) && !for_tests {
                let expected: Vec<&str> = may.iter().map(String::as_str).collect();
                findings.push(format!(
                    "{manifest}: `{}` imports `{}` ({:?}); the table of {PAGE} allows: {}",
                    package.name,
                    dependency.name,
                    dependency.kind,
                    if expected.is_empty() { "nothing of ours".to_owned() } else { expected.join(", ") },
                ));
            }
        }
        let imported = |name: &String| package.dependencies.iter().any(|dependency| dependency.name == *name);
        findings.extend(may.iter().filter(|name| !imported(name)).map(|name| {
            format!("{PAGE}: the table allows `{}` to import `{name}`, which {manifest} does not", package.name)
        }));
    }
    for named in allowed.keys().filter(|named| !members.contains(*named)) {
        findings.push(format!("{PAGE}: the table has `{named}`, which is no member of the workspace"));
    }
    expect_none("imports", &findings);
}

#[test]
fn the_table_only_points_upwards() {
    let workspace = Workspace::read();
    let mut above = BTreeSet::new();
    let mut findings = Vec::new();
    for (name, may) in allowed(&workspace) {
        for import in may.difference(&above) {
            findings.push(format!("{PAGE}: `{name}` may import `{import}`, which does not stand above it"));
        }
        above.insert(name);
    }
    expect_none("order of the table of crates", &findings);
}
