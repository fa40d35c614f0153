//! Requirements of a system that this machine does not meet.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use glob::Pattern;
use nix::sys::resource::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use crate::{
    isolation,
    machine::{disk, host},
    system::System,
};

/// A requirement of a system: exactly one of `program`, `file`, `cores`, `memory_mib`, `disk_mib`, `open_files`. That it is
/// isolated is a need by itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Need {
    /// A program on the search path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Arguments with which the program prints its version.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub version: Vec<String>,
    /// Lowest version of the program that suffices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<String>,
    /// A file or folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Processor cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<u64>,
    /// Memory, in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// Free disk space in the user's cache folder, in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_mib: Option<u64>,
    /// Pattern of files in the user's cache folder (`*` is any name). Once one exists, the requirement is dropped: it is one
    /// of the first build only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_cached: Option<String>,
    /// File descriptors per process (the hard limit).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// Command or action that fulfils it, for the user.
    pub fix: String,
}

impl Need {
    /// Returns true if it is exactly one requirement, and the version that it requires can be determined.
    pub(super) fn is_one(&self) -> bool {
        let given = [
            self.program.is_some(),
            self.file.is_some(),
            self.cores.is_some(),
            self.memory_mib.is_some(),
            self.open_files.is_some(),
            self.disk_mib.is_some(),
        ];
        let has_version = match &self.min_version {
            None => self.version.is_empty(),
            Some(least) => self.program.is_some() && !self.version.is_empty() && version(least).is_some(),
        };
        given.into_iter().filter(|given| *given).count() == 1 && has_version
    }
}

/// Requirements of a system that this machine does not meet, each with its fix.
#[must_use]
pub fn missing(system: &System) -> Vec<String> {
    let host = host::facts();
    let open_files = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard);
    let disk_mib = disk::free_mib(&caches());
    let lacks = |need: &Need| -> Option<String> {
        if let Some(program) = &need.program {
            return if on_search_path(program) {
                too_old(program, need)
            } else {
                Some(format!("no program {program}"))
            };
        }
        if let Some(file) = &need.file {
            return (!Path::new(file).exists()).then(|| format!("no {file}"));
        }
        let numbers = [
            (need.cores, u64::from(host.cores), "cores"),
            (need.memory_mib, host.memory_mib, "MiB of memory"),
            (need.disk_mib, disk_mib, "MiB of disk free for your caches"),
            (need.open_files, open_files, "open files"),
        ];
        let short = numbers.into_iter().find(|(least, has, _)| least.is_some_and(|least| *has < least));
        short.map(|(least, has, what)| format!("{has} {what} instead of {}", least.unwrap_or(0)))
    };
    let needed =
        system.needs.iter().filter(|need| !need.until_cached.as_deref().is_some_and(|what| holds(&caches(), what)));
    let missing = needed.filter_map(|need| lacks(need).map(|what| (what, need)));
    let mut missing: Vec<String> = missing.map(|(what, need)| format!("{what}: {}", need.fix)).collect();
    if system.isolated
        && let Some(why) = isolation::missing()
    {
        missing.push(format!("no private namespace ({why}): {}", isolation::fix()));
    }
    missing
}

/// Folder of the user's caches.
fn caches() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let own = || set("HOME").map(|home| home.join(".cache"));
    set("XDG_CACHE_HOME").or_else(own).unwrap_or_else(|| PathBuf::from("/"))
}

/// Returns true if a folder holds a file of this pattern.
fn holds(folder: &Path, pattern: &str) -> bool {
    let pattern = format!("{}/{pattern}", Pattern::escape(&folder.to_string_lossy()));
    glob::glob(&pattern).is_ok_and(|mut found| found.any(|path| path.is_ok()))
}

fn on_search_path(program: &str) -> bool {
    let paths = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&paths).any(|folder| fs::metadata(folder.join(program)).is_ok_and(|file| file.is_file()))
}

/// The version that a program reports, if it is below the required one. A program without a version is accepted: it may
/// be a development build.
fn too_old(program: &str, need: &Need) -> Option<String> {
    let least = need.min_version.as_deref()?;
    let output = Command::new(program).args(&need.version).stdin(Stdio::null()).output().ok()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let (text, found) = printed.split_whitespace().find_map(version)?;
    (found < version(least)?.1).then(|| format!("{program} {text} instead of {least}"))
}

/// A word's numbers between dots, as in `go1.21.3`; `None` when it has fewer than two.
fn version(word: &str) -> Option<(&str, Vec<u32>)> {
    let text = word.trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
    let digits = |number: &str| number.bytes().take_while(u8::is_ascii_digit).count();
    let numbers: Vec<u32> = text.split('.').map_while(|number| number[..digits(number)].parse().ok()).collect();
    (numbers.len() > 1).then_some((text, numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_fix() {
        let system: System = toml::from_str(
            r#"
            about = "a toy"
            version = ["true"]
            register = { command = ["true"] }
            invoke = { target = "toy", address = "nowhere" }
            needs = [
                { program = "sh", fix = "unneeded" },
                { program = "no-such-program", fix = "install it" },
                { program = "echo", version = ["toy", "version", "toy1.20.3", "linux/2"], min_version = "1.21", fix = "update" },
                { program = "echo", version = ["toy", "version", "toy1.21rc1"], min_version = "1.21", fix = "unneeded" },
                { program = "echo", version = ["toy", "version", "devel", "+3.1"], min_version = "9.9", fix = "unneeded" },
                { file = "/no/such/file", fix = "make it" },
                { cores = 100000, fix = "buy a larger machine" },
                { memory_mib = 1, fix = "unneeded" },
                { disk_mib = 1, fix = "unneeded" },
                { disk_mib = 1000000000000, fix = "free some" },
                { file = "/no/such/file", until_cached = "no-such-cache/*/built.json", fix = "build it" },
            ]"#,
        )
        .unwrap();
        let missing = missing(&system);
        assert_eq!(missing[..2], ["no program no-such-program: install it", "echo 1.20.3 instead of 1.21: update"]);
        assert_eq!(missing[2], "no /no/such/file: make it");
        assert!(missing[3].ends_with("cores instead of 100000: buy a larger machine"), "{missing:?}");
        assert!(
            missing[4].ends_with("MiB of disk free for your caches instead of 1000000000000: free some"),
            "{missing:?}"
        );
        assert_eq!(missing[5..], ["no /no/such/file: build it"]);
    }

    #[test]
    fn a_need_of_the_first_build_ends_with_a_file_of_any_build() {
        let caches = tempfile::tempdir().unwrap();
        let folder = caches.path().join("a [first] one");
        fs::create_dir_all(folder.join("unfinished")).unwrap();
        assert!(!holds(&folder, "*/built.json"));
        fs::create_dir(folder.join("2")).unwrap();
        fs::write(folder.join("2/built.json"), "{}").unwrap();
        assert!(holds(&folder, "*/built.json"));
    }
}
