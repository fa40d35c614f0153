//! `knative version`, by which a run that is gone on with knows that the baseline was built again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{fs, process::Command};

use knative::cache::Cache;

#[test]
fn the_version_names_the_build_where_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let version = || {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("knative"));
        let output = command.arg("version").env("XDG_CACHE_HOME", folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let unbuilt = version();
    assert!(!unbuilt.contains(", build "), "{unbuilt}");
    let built = Cache::new(Some(folder.path().join("dirigent-baseline"))).unwrap().built();
    fs::create_dir_all(built.folder()).unwrap();
    let with = |sum: &str| {
        fs::write(built.facts(), format!("{{\"seconds\":1,\"programs\":{{\"activator\":\"{sum}\"}}}}")).unwrap();
        version()
    };
    let first = with("1");
    assert!(first.starts_with(&format!("{unbuilt}, build ")), "{first}");
    assert_ne!(with("2"), first);
    assert_eq!(with("1"), first);
}
