//! Rules about every text file: no paths of the machine it was written on, and no broken links.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Component, Path};

use tidy::{Workspace, expect_none};

/// Directories at the root of every Linux machine (Filesystem Hierarchy Standard, section 3): naming them is no leak.
const STANDARD: [&str; 20] = [
    "bin", "boot", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt", "proc", "root", "run", "sbin", "srv",
    "sys", "tmp", "usr", "var", "src",
];

/// Paths that no file may contain: this checkout's, and home directories.
fn places_of_one_machine(root: &Path) -> Vec<String> {
    let mut places = vec![root.display().to_string(), "/root/".to_owned()];
    let top = root.components().find_map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    places.extend(top.filter(|top| !STANDARD.contains(top)).map(|top| format!("/{top}/")));
    places
}

/// Returns true if `line` has `place` as the beginning of a path, not as the middle of a longer one.
fn names(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        !line[..at].ends_with(|before: char| before.is_alphanumeric() || matches!(before, '.' | '_' | '-' | '}' | '*'))
    })
}

#[test]
fn no_file_names_a_place_of_one_machine() {
    let workspace = Workspace::read();
    let places = places_of_one_machine(&workspace.root);
    let this = workspace.root.join(file!());
    let mut findings = Vec::new();
    for (path, text) in workspace.texts().filter(|(path, _)| **path != *this) {
        for (index, line) in text.lines().enumerate() {
            for place in places.iter().filter(|place| names(line, place)) {
                let at = format!("{}:{}", workspace.name(path), index + 1);
                findings.push(format!("{at}: names `{place}`, expected a path that exists on any machine"));
            }
        }
    }
    expect_none("places of one machine", &findings);
}

#[test]
fn a_place_is_found_at_the_beginning_of_a_path_only() {
    let places = places_of_one_machine(Path::new("/garage/clone"));
    assert_eq!(places, ["/garage/clone", "/root/", "/garage/"]);
    assert!(names("see /garage/x", "/garage/") && names("`/garage/x`", "/garage/"));
    assert!(!names("docs/garage/x", "/garage/") && !names("{dir}/garage/x", "/garage/"));
    assert_eq!(places_of_one_machine(Path::new("/tmp/clone")), ["/tmp/clone", "/root/"]);
}

#[test]
fn links_between_pages_lead_somewhere() {
    let workspace = Workspace::read();
    let mut findings = Vec::new();
    for path in workspace.with_extension("md") {
        let page = std::fs::read_to_string(path).unwrap();
        for (index, line) in page.lines().enumerate() {
            for target in link_targets(line).filter(|target| !target.contains("://") && !target.starts_with('#')) {
                let file = target.split('#').next().unwrap_or(target);
                if !path.parent().unwrap().join(file).exists() {
                    let at = format!("{}:{}", workspace.name(path), index + 1);
                    findings.push(format!("{at}: links to `{target}`, which does not exist"));
                }
            }
        }
    }
    expect_none("links", &findings);
}

/// The target of each `[text](target)`.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// Folders at the root of the checkout by which a page names a file.
const FOLDERS: [&str; 7] = ["orchestrator/", "loadgen/", "experiments/", "analysis/", "artifacts/", "docs/", ".ci/"];

#[test]
fn paths_in_pages_exist() {
    let workspace = Workspace::read();
    let mut findings = Vec::new();
    for path in workspace.with_extension("md") {
        let page = std::fs::read_to_string(path).unwrap();
        for (index, line) in page.lines().enumerate() {
            // Every second piece is between code marks.
            for code in line.split('`').skip(1).step_by(2) {
                let is_path =
                    FOLDERS.iter().any(|folder| code.starts_with(folder)) && !code.starts_with("artifacts/runs");
                // Capitals and brackets are placeholders, as in `policy/src/KIND/x.rs`.
                let is_exact = !code.contains(|c: char| c.is_uppercase() || c.is_whitespace() || "*<{".contains(c));
                let file = code.split(':').next().unwrap_or(code);
                if is_path && is_exact && !workspace.root.join(file).exists() {
                    let at = format!("{}:{}", workspace.name(path), index + 1);
                    findings.push(format!("{at}: names `{code}`, which does not exist"));
                }
            }
        }
    }
    expect_none("paths", &findings);
}

#[test]
fn every_toml_file_is_toml() {
    let workspace = Workspace::read();
    let mut findings = Vec::new();
    for path in workspace.with_extension("toml") {
        let text = std::fs::read_to_string(path).unwrap();
        if let Err(error) = text.parse::<toml::Table>() {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            findings.push(format!("{}:{line}: {}", workspace.name(path), error.message()));
        }
    }
    expect_none("TOML", &findings);
}
