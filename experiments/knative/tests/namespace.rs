//! A testbed starts only in a network namespace of its own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    process::{Command, Output},
};

/// Bits of a link's flags, as in `linux/if.h`.
const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;

/// `knative WORDS` with an empty cache, so that nothing could be started.
fn knative(folder: &tempfile::TempDir, words: &[&str]) -> Output {
    let [testbed, cache] = ["a testbed", "cache"].map(|name| folder.path().join(name));
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("knative"));
    command.args(words).arg("--folder").arg(testbed).arg("--cache").arg(cache).output().unwrap()
}

/// Links of this namespace that are up and not loopback, by another way than the program's.
fn links() -> Vec<String> {
    let flags = |name: &str| {
        let text = fs::read_to_string(format!("/sys/class/net/{name}/flags")).ok()?;
        u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
    };
    let names = fs::read_dir("/sys/class/net").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| flags(name).is_some_and(|flags| flags & (IFF_UP | IFF_LOOPBACK) == IFF_UP)).collect()
}

#[test]
fn a_testbed_is_refused_outside_a_network_namespace_of_its_own() {
    let keep = ["prepare", "--from", "functions.ndjson", "--keep", "kept"];
    for words in [&["start", "--nodes", "2"][..], &keep] {
        let folder = tempfile::tempdir().unwrap();
        let output = knative(&folder, words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let links = links();
        if links.is_empty() {
            assert!(
                said.contains("`knative build`"),
                "in a namespace like this nothing but programs is missing: {said}"
            );
            continue;
        }
        let expected = "error: a testbed needs a network namespace of its own, and this one has ";
        assert!(said.starts_with(expected) && links.iter().all(|link| said.contains(link)), "{links:?}: {said}");
        let again = format!(
            ": unshare --user --map-root-user --mount --pid --net --fork --kill-child --mount-proc {} {} --folder '{}' \
             --cache ",
            assert_cmd::cargo::cargo_bin!("knative").display(),
            words.join(" "),
            folder.path().join("a testbed").display()
        );
        assert!(said.contains(&again), "expected {again:?}: {said}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is made");
    }
}
