//! A system that somebody else started, on the toy checkout: the runner starts nothing of it, and is told by parameters
//! where and which version it is.

use std::fs;

use crate::toy::{Toy, said};

/// It is ready when it is asked for the second time.
const ELSEWHERE: &str = r#"
[elsewhere]
about = "a toy that somebody else started"
version = ["echo", "{parameters.version}"]
images = { "builtin:function" = "docker.io/toy" }
parameters = { address = "127.0.0.1:1234", path = "/run/{function}?at={address}" }
ready = [{ command = ["sh", "-c", "test -e {point}/asked || { touch {point}/asked; false; }"] }]
register = { command = ["cp", "{functions}", "{point}/registered"] }
invoke = { target = "external", address = "{parameters.address}", path = "{parameters.path}" }
"#;

/// The toy checkout with the system, and a load generator that writes down its arguments.
fn toy() -> Toy {
    let toy = Toy::new("well");
    toy.edit("experiments/systems.toml", "[toy]\n", &format!("{ELSEWHERE}\n[toy]\n"));
    toy.edit("bin/loadgen", "verb=$1\n", "verb=$1\necho \"$@\" >> \"$bin/arguments\"\n");
    toy.edit("bin/loadgen", "finish() {\n", "finish() {\n    mkdir -p \"$out/data/toy-1\"\n");
    toy
}

#[test]
fn it_is_measured_as_the_version_that_was_typed_with_the_images_that_it_can_run() {
    let toy = toy();
    let output = toy.run(&["--systems", "elsewhere", "--parameter", "version=7.2"]);
    let point = toy.out().point("elsewhere", "replay", 1);
    assert!(point.invocations().is_file(), "{}", said(&output));
    assert_eq!(toy.manifest().systems["elsewhere"].version, "7.2");
    let registered = fs::read_to_string(point.path.join("registered")).unwrap();
    assert!(registered.contains("\"image\":\"docker.io/toy\""), "{registered}");
    let arguments = fs::read_to_string(toy.path("bin/arguments")).unwrap();
    let (address, path) = ("--address 127.0.0.1:1234", "--path /run/{function}?at={address}");
    assert!(arguments.contains(address) && arguments.contains(path), "{arguments}");
    fs::remove_dir_all(&point.path).unwrap();
    let resumed = toy.resume();
    assert!(point.invocations().is_file(), "what was typed is still known: {}", said(&resumed));
    assert_eq!(toy.manifest().systems["elsewhere"].version, "7.2");
}

#[test]
fn the_definition_may_say_its_version() {
    let toy = toy();
    toy.edit("experiments/definitions/toy.toml", "expect =", "parameters = { version = \"7.1\" }\nexpect =");
    let output = toy.run(&["--systems", "elsewhere"]);
    assert_eq!(toy.manifest().systems["elsewhere"].version, "7.1", "{}", said(&output));
}

#[test]
fn it_is_refused_where_it_cannot_be_measured_before_anything_is_made() {
    let toy = toy();
    let refuse = |options: &[&str], expected: &str| {
        let output = toy.run(options);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(expected), "expected {expected:?} in {}", said(&output));
        assert!(!toy.path("out").exists() && !said(&output).contains("continuing in private"), "{}", said(&output));
    };
    let elsewhere = ["--systems", "elsewhere"];
    let typed = ["--systems", "elsewhere", "--parameter", "version=1"];
    refuse(&elsewhere, "elsewhere: its parameter version has no value: type --parameter version=VALUE");
    refuse(
        &[&typed[..], &["--parameter", "adress=10.0.0.1:80"]].concat(),
        "--parameter adress: no measured system has such a parameter; elsewhere has address, path, version",
    );
    refuse(&[&typed[..], &["--parameter", "version=2"]].concat(), "--parameter version: is given twice");
    refuse(&["--parameter", "version"], "expected NAME=VALUE");
    toy.edit("experiments/definitions/toy.toml", "cpu = 500", "cpu = 500, image = \"file:/w\"");
    refuse(
        &typed,
        "elsewhere has no image for the workload \"file:/w\": add one to its table `images` in systems.toml",
    );
    toy.edit("experiments/definitions/toy.toml", ", image = \"file:/w\"", "");
    toy.edit("experiments/systems.toml", "[toy]\nabout =", "[toy]\nisolated = true\nabout =");
    refuse(
        &["--systems", "toy,elsewhere", "--parameter", "version=1"],
        "elsewhere was started by somebody else, and a run with toy takes place in a private network, from which it cannot be \
         reached: each needs a run of its own, with --systems elsewhere and with --systems toy",
    );
}
