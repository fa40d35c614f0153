//! The programs accept every command in README and docs, and those marked `fast` succeed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
};

use programs::PROGRAMS;
use tidy::{CommandLine, Workspace, commands, expect_none};

/// Commands of cargo itself that pages may use.
const CARGO: [&str; 8] = ["build", "clippy", "deny", "doc", "fmt", "install", "run", "test"];
/// Programs of the reader's machine that pages may use.
const ELSEWHERE: [&str; 10] = ["cd", "git", "curl", "export", "mkdir", "rm", "sed", "rustup", "xdg-open", "kill"];

/// Every command of every page, with the page's name.
fn typed(workspace: &Workspace) -> Vec<(String, CommandLine)> {
    let pages = workspace.with_extension("md").map(|path| (workspace.name(path), fs::read_to_string(path).unwrap()));
    pages.flat_map(|(name, page)| commands(&page).into_iter().map(move |command| (name.clone(), command))).collect()
}

/// The checked-out commit, abbreviated as `--version` does it.
fn checked_out(workspace: &Workspace) -> String {
    let output =
        Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).current_dir(&workspace.root).output().unwrap();
    assert!(output.status.success(), "expected to be run in a git checkout: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The program of this workspace that a command starts, and its arguments.
fn ours(words: &[String]) -> Option<(&str, &[String])> {
    match words {
        [cargo, repro, rest @ ..] if cargo == "cargo" && repro == "repro" => Some(("repro", rest)),
        [program, rest @ ..] => {
            let (name, _) = PROGRAMS.iter().find(|(name, _)| name == program)?;
            Some((name, rest))
        }
        [] => None,
    }
}

fn run(program: &str, arguments: &[String], directory: &Path) -> Output {
    let path = programs::path(program).unwrap_or_else(|error| panic!("{error}"));
    // The only variable that a page may use, as a shell would replace it.
    let current = directory.to_str().unwrap();
    let arguments = arguments.iter().map(|argument| argument.replace("$PWD", current));
    Command::new(path).args(arguments).current_dir(directory).output().unwrap()
}

fn complaint(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    stderr.lines().find(|line| !line.trim().is_empty()).unwrap_or("no message").to_owned()
}

#[test]
fn what_pages_tell_to_type_is_accepted_by_the_programs() {
    let workspace = Workspace::read();
    let recipes = recipes(&fs::read_to_string(workspace.root.join("Justfile")).unwrap());
    let packages: BTreeSet<String> = workspace.metadata().packages.iter().map(|p| p.name.to_string()).collect();
    let scratch = tempfile::tempdir().unwrap();
    let mut findings = Vec::new();
    for (page, command) in typed(&workspace) {
        let typed = command.words.join(" ");
        let problem = if let Some((program, arguments)) = ours(&command.words) {
            // clap reads from left to right: everything before `--help` must be right for the help to be shown.
            let asked = [arguments, &["--help".to_owned()]].concat();
            let output = run(program, &asked, scratch.path());
            (!output.status.success()).then(|| complaint(&output))
        } else {
            refused(&command.words, &recipes, &packages)
        };
        findings.extend(problem.map(|problem| format!("{page}:{}: `{typed}`: {problem}", command.line)));
    }
    expect_none("commands of the pages", &findings);
}

/// The reason why a command that starts none of this workspace's programs is wrong; `None` if it may be right.
fn refused(words: &[String], recipes: &BTreeSet<String>, packages: &BTreeSet<String>) -> Option<String> {
    let first = words.first()?.as_str();
    match first {
        "just" => {
            let unknown = words.get(1).filter(|recipe| !recipes.contains(*recipe))?;
            Some(format!("the Justfile has no recipe `{unknown}`"))
        }
        "cargo" => {
            let subcommand = words.get(1).map_or("", String::as_str);
            if !CARGO.contains(&subcommand) {
                return Some(format!("expected `cargo repro` or one of cargo {}", CARGO.join(", ")));
            }
            let package =
                words.windows(2).find(|pair| pair[0] == "-p" || pair[0] == "--package").map(|pair| &pair[1])?;
            (!packages.contains(package)).then(|| format!("there is no package `{package}`"))
        }
        _ if first.starts_with('.') || first.contains('=') || ELSEWHERE.contains(&first) => None,
        _ => Some(format!("expected a program of this workspace, cargo, just or one of {}", ELSEWHERE.join(", "))),
    }
}

/// The names of a Justfile's recipes.
fn recipes(justfile: &str) -> BTreeSet<String> {
    let heads = justfile.lines().filter(|line| !line.starts_with([' ', '\t', '#']) && !line.contains(":="));
    heads.filter_map(|line| line.split_once(':')?.0.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn what_pages_mark_as_fast_works() {
    let workspace = Workspace::read();
    let scratch = tempfile::tempdir().unwrap();
    let mut findings = Vec::new();
    let mut ran = 0;
    for (page, command) in typed(&workspace).into_iter().filter(|(_, command)| command.fast) {
        let typed = command.words.join(" ");
        let Some((program, arguments)) = ours(&command.words) else {
            findings.push(format!("{page}:{}: `{typed}` is marked fast, expected a program of ours", command.line));
            continue;
        };
        // The definitions are in the checkout; all other commands write into the working directory.
        let directory = if program == "repro" { workspace.root.as_path() } else { scratch.path() };
        let output = run(program, arguments, directory);
        ran += 1;
        if !output.status.success() {
            findings.push(format!("{page}:{}: `{typed}`: {}: {}", command.line, output.status, complaint(&output)));
        }
    }
    assert!(ran > 0 || !findings.is_empty(), "expected a block marked fast in README or docs");
    expect_none("commands marked fast", &findings);
}

/// Typed in a shell, because a name may be a word of the shell's own, as `function` is in bash.
#[test]
fn every_program_can_be_called_by_its_name_and_says_its_revision() {
    let commit = checked_out(&Workspace::read());
    let mut findings = Vec::new();
    for (program, _) in PROGRAMS {
        let path = programs::path(program).unwrap_or_else(|error| panic!("{error}"));
        let mut shell = Command::new("bash");
        let folders = format!("{}:{}", path.parent().unwrap().display(), env!("PATH"));
        shell.env("PATH", folders).args(["-c", &format!("{program} --version")]);
        let output = shell.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let expected = format!("{program} {} ({commit}", env!("CARGO_PKG_VERSION"));
        let rest = said.strip_prefix(&expected).map(str::trim_end);
        if !output.status.success() || !matches!(rest, Some(")" | "-dirty)")) {
            let found = format!("{said}{}", String::from_utf8_lossy(&output.stderr));
            findings.push(format!("{program} --version: expected \"{expected})\", found {:?}", found.trim()));
        }
    }
    expect_none("versions", &findings);
}

#[test]
fn recipes_are_found_by_name() {
    let found = recipes("# c\nset shell := [\"bash\"]\ndefault: test\n\ntest *ARGS:\n    cargo test\n");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["default", "test"]);
}
