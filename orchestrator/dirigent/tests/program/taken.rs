//! Resources that a start needs and another process holds: ports and data directories. The message names the option that helps.

use std::{net::TcpListener, path::Path};

use crate::cluster::dirigent;

const UP: [&str; 5] = ["--stream-port", "--http-port", "--invoke-port", "--admin-port", "--worker-port"];

/// Exit code and standard error of a start that must fail.
fn fails(arguments: &[&str], data_dir: &Path) -> (Option<i32>, String) {
    let output = dirigent().args(arguments).arg("--data-dir").arg(data_dir).output().unwrap();
    assert!(!output.status.success(), "{arguments:?}: {output:?}");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_port_in_use_is_said_with_the_option_that_names_another() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let port = taken.local_addr().unwrap().port().to_string();
    let dir = tempfile::tempdir().unwrap();
    for (option, key) in UP.into_iter().zip(["stream", "http", "invoke", "admin", "admin"]) {
        let mut arguments = vec!["up", "--workers", "1", "--runtime", "hollow"];
        for other in UP {
            arguments.extend([other, if other == option { &port } else { "0" }]);
        }
        let (code, said) = fails(&arguments, dir.path());
        let expected =
            format!("cannot listen on {address} ({key}): Address already in use (os error 98); {option} names");
        assert!(code == Some(1) && said.contains(&expected), "expected {expected:?} in {said:?}");
    }
    let any = "127.0.0.1:0";
    for (arguments, option) in [
        (["control-plane", "--http", any, "--stream", &address], "--stream"),
        (["data-plane", "--admin", any, "--invoke", &address], "--invoke"),
        (["worker", "--runtime", "hollow", "--admin", &address], "--admin"),
    ] {
        let (_, said) = fails(&arguments, dir.path());
        let expected = format!("(os error 98); {option} names another address");
        assert!(said.contains(&address) && said.contains(&expected), "expected {expected:?} in {said:?}");
    }
}

#[test]
fn ports_that_do_not_exist_are_refused_before_anything_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = fails(&["up", "--workers", "2", "--worker-port", "65535"], &dir.path().join("new"));
    assert!(code == Some(2) && said.contains("--worker-port: 65535 leaves no ports"), "{said}");
    assert!(!dir.path().join("new").exists(), "nothing was made");
}

#[test]
fn a_data_directory_that_cannot_be_made_is_said_with_its_option() {
    let (code, said) = fails(&["control-plane"], Path::new("/proc/none"));
    assert!(
        code == Some(1) && said.contains("data directory /proc/none; --data-dir names another\n  caused by: "),
        "{said}"
    );
}
