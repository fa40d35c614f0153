//! Configuration files and the command line: examples, mistakes, exit codes.

use std::{fs, path::Path};

use nix::sys::signal::Signal;

use crate::cluster::{Cluster, dirigent};

/// Each daemon and its commented example.
const EXAMPLES: [(&str, &str); 3] =
    [("control-plane", "control-plane.toml"), ("data-plane", "data-plane.toml"), ("worker", "worker.toml")];

fn stdout(arguments: &[&str]) -> String {
    let output = dirigent().args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: expected success, found {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn each_example_shows_every_key_with_its_default() {
    for (daemon, file) in EXAMPLES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(file);
        let defaults = stdout(&[daemon, "--print-config"]);
        let example = stdout(&[daemon, "--print-config", "--config", path.to_str().unwrap()]);
        assert_eq!(example, defaults, "{file}: expected the defaults");
        let text = fs::read_to_string(&path).unwrap();
        for key in defaults.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key) {
            let shown = text.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} = ")));
            assert!(shown, "{file}: expected the key {key}");
        }
    }
}

#[test]
fn what_is_commented_out_in_an_example_is_a_key_too() {
    for (daemon, file) in EXAMPLES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(file);
        let text = fs::read_to_string(path).unwrap();
        let is_key = |line: &str| line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
        let whole: Vec<&str> =
            text.lines().map(|line| line.strip_prefix("# ").filter(|rest| is_key(rest)).unwrap_or(line)).collect();
        let dir = tempfile::tempdir().unwrap();
        let written = dir.path().join(file);
        fs::write(&written, whole.join("\n")).unwrap();
        stdout(&[daemon, "--print-config", "--config", written.to_str().unwrap()]);
    }
}

#[test]
fn the_printed_configuration_is_a_configuration_and_flags_override_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    fs::write(&path, stdout(&["worker", "--print-config", "--name", "first", "--runtime", "hollow", "--nodes", "7"]))
        .unwrap();
    let again = stdout(&["worker", "--print-config", "--config", path.to_str().unwrap(), "--name", "second"]);
    assert!(again.contains("name = \"second\"") && again.contains("nodes = 7"), "{again}");
    let opened = stdout(&["control-plane", "--print-config", "--no-auth", "--form"]);
    assert!(opened.contains("auth = false\n") && opened.contains("form = true\n"), "{opened}");
    let allowed = stdout(&["worker", "--print-config", "--allow-image", "file:/srv/"]);
    assert!(allowed.contains("\"builtin:\",\n    \"file:/srv/\",\n"), "{allowed}");
}

#[test]
fn a_mistake_in_a_file_is_said_with_file_line_and_key_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.toml");
    for (daemon, text, expected) in [
        ("control-plane", "seed = 1\ncolour = 2\n", "bad.toml:2:1: colour: unknown field"),
        ("control-plane", "[health]\ndead_after = 10\n", "bad.toml:2:14: health.dead_after: "),
        (
            "control-plane",
            "[placement]\npolicy = 'best'\n",
            "bad.toml:2:1: placement.policy is \"best\", expected one of",
        ),
        (
            "control-plane",
            "[health]\ndead_after = '1s'\n",
            "bad.toml:2:1: health.dead_after is 1s, must be above health.suspect_after (1.5s)",
        ),
        (
            "control-plane",
            "[health]\ndrain_deadline = '1000000years'\n",
            "bad.toml:2:18: health.drain_deadline: a duration of 31557600000000 s is too long: expected at most 366d",
        ),
        ("data-plane", "drain_deadline = '1000000years'\n", "bad.toml:1:18: drain_deadline: a duration of"),
        ("worker", "[process]\ngrace = '400d'\n", "bad.toml:2:9: process.grace: a duration of"),
        ("data-plane", "\n[limits]\nbody = 'much'\n", "bad.toml:3:8: limits.body: "),
        ("data-plane", "balance = 'best'\n", "bad.toml:1:1: balance is \"best\", expected one of least-loaded"),
        ("worker", "[hollow]\nnodes = 0\n", "bad.toml:2:1: hollow.nodes "),
        ("worker", "runtime = 'docker'\n", "bad.toml:1:11: runtime: unknown variant `docker`"),
        ("worker", "name = \n", "bad.toml:1:"),
    ] {
        fs::write(&path, text).unwrap();
        let output = dirigent().args([daemon, "--config"]).arg(&path).current_dir(dir.path()).output().unwrap();
        let made = dir.path().join("dirigent-data");
        assert!(!made.exists(), "{daemon} with {text:?}: a mistake is found before anything is made");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{daemon} with {text:?}: expected exit code 2, it said {said}");
        assert!(said.contains(expected), "{daemon} with {text:?}: expected {expected:?}, found {said:?}");
        assert!(programs::is_one_error(&said), "{said:?}");
    }
}

/// The names that are said to be known when `text` names another one.
fn known_policies(daemon: &str, text: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.toml");
    fs::write(&path, text).unwrap();
    let output = dirigent().args([daemon, "--config"]).arg(&path).current_dir(dir.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let (_, known) = said.split_once("expected one of ").unwrap_or_else(|| panic!("no names in {said:?}"));
    known.trim().split(", ").map(str::to_owned).collect()
}

#[test]
fn every_policy_is_named_in_the_examples_the_help_and_the_page() {
    let help = stdout(&["function", "register", "--help"]);
    let page = include_str!("../../../../docs/policies.md");
    for (daemon, text, example) in [
        ("control-plane", "[autoscale]\npolicy = 'best'\n", include_str!("../../examples/control-plane.toml")),
        ("control-plane", "[placement]\npolicy = 'best'\n", include_str!("../../examples/control-plane.toml")),
        ("data-plane", "balance = 'best'\n", include_str!("../../examples/data-plane.toml")),
    ] {
        let known = known_policies(daemon, text);
        assert!(known.len() > 2, "expected names: {known:?}");
        for name in known {
            assert!(example.contains(&name), "{name} is not in the example of the {daemon}");
            let quoted = format!("`{name}`");
            assert!(help.contains(&quoted), "{name} is not in the help: {help}");
            assert!(page.contains(&format!("| {quoted} |")), "{name} is not in docs/policies.md");
        }
    }
}

#[test]
fn a_mistake_on_the_command_line_is_exit_code_2() {
    for arguments in [
        &["worker", "--colour"][..],
        &["worker", "--runtime", "docker"],
        &["up", "--workers", "0"],
        &["top", "--interval", "1ms"],
        &["top", "--limit", "0"],
        &["function", "register", "Upper", "--image", "i"],
        &["function", "register", "f", "--image", "i", "--max", "0"],
        &["worker", "--admin", "localhost:80"],
        &["control-plane", "--config", "no-such-file.toml"],
        &["invoke", "f", "--data-plane", "http://127.0.0.1:1/x"],
        &["function", "register", "--from", "no-such-file.ndjson"],
    ] {
        let output = dirigent().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    }
}

#[test]
fn a_file_that_cannot_be_used_is_said_with_its_option() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("bytes"), b"name = \xff").unwrap();
    for (arguments, name, expected) in [
        (&["worker", "--config"][..], "nothing", "there is no such file"),
        (&["worker", "--config"], "", "expected a file, got a directory"),
        (&["worker", "--config"], "bytes", "expected text in UTF-8, got other bytes"),
        (&["function", "register", "--from"], "nothing", "there is no such file"),
        (&["function", "register", "--from"], "", "expected a file, got a directory"),
        (&["invoke", "f", "--data-file"], "nothing", "there is no such file"),
    ] {
        let (option, path) = (arguments[arguments.len() - 1], path(name));
        let output = dirigent().args(arguments).arg(&path).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said), (Some(2), format!("error: {option} {path}: {expected}\n")));
    }
    for arguments in [&["worker", "--config"][..], &["function", "register", "--from"], &["invoke", "f", "--data-file"]]
    {
        let output = dirigent().args(arguments).arg("/dev/zero").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains("expected at most 268435456 bytes"), "{said}");
    }
    let output = dirigent().args(["up", "--workers", "x"]).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("expected a whole number, 1 to 64"));
    let output = dirigent().args(["control-plane", "--data-dir", &path("bytes")]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("expected a directory, got a file; --data-dir"), "{said}");
}

#[test]
fn an_option_that_does_not_apply_is_refused() {
    for (arguments, expected) in [
        (&["worker", "--nodes", "3"][..], "--nodes applies with --runtime hollow only; the runtime is process"),
        (
            &["worker", "--runtime", "hollow", "--allow-image", "file:/srv/"],
            "--allow-image applies with --runtime process",
        ),
        (&["worker", "--runtime", "hollow", "--sandbox-address", "127.0.0.2"], "--sandbox-address applies with"),
        (&["up", "--runtime", "hollow", "--allow-image", "file:/srv/"], "--allow-image applies with --runtime process"),
        (&["function", "register", "--from", "f.ndjson", "--memory", "1GiB"], "--memory"),
        (&["function", "register", "--from", "f.ndjson", "--env", "A=b"], "--env"),
    ] {
        let output = dirigent().args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: expected {expected:?} in {said:?}");
    }
}

#[test]
fn a_value_out_of_bounds_is_said_with_its_option() {
    for (arguments, expected) in [
        (&["worker", "--name", "a b"][..], "name (--name): expected at most 200 letters"),
        (&["data-plane", "--name", "a b"], "name (--name): expected at most 200 letters"),
        (&["worker", "--runtime", "hollow", "--nodes", "0"], "hollow.nodes (--nodes): expected 1 to 10000, got 0"),
    ] {
        let output = dirigent().args(arguments).arg("--print-config").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: expected {expected:?} in {said:?}");
    }
}

#[test]
fn a_log_in_json_is_json_to_its_last_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start_with(&["--runtime", "hollow", "--log-format", "json"], dir.path());
    let up = ["up", "--log-format", "json", "--data-dir", dir.path().to_str().unwrap()];
    let second = dirigent().args(up).output().unwrap();
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    cluster.end(Signal::SIGTERM);
    let first = std::fs::read_to_string(dir.path().join("stderr.log")).unwrap();
    let second = String::from_utf8(second.stderr).unwrap();
    for line in first.lines().chain(second.lines()) {
        let object: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(object.is_ok_and(|object| object.is_object()), "expected a JSON object, found {line:?}");
    }
    assert!(!first.contains("is gone"), "an orderly end is nothing to warn of: {first}");
    assert!(first.contains("\"message\":\"listening\",\"part\":\"cluster\",\"stream\":\"127.0.0.1:"), "{first}");
    assert!(second.contains("--data-dir names another"), "{second}");
}

#[test]
fn help_has_an_example_and_version_a_revision() {
    for arguments in [
        &["--help"][..],
        &["up", "--help"],
        &["control-plane", "--help"],
        &["data-plane", "--help"],
        &["worker", "--help"],
        &["function", "--help"],
        &["function", "register", "--help"],
        &["function", "list", "--help"],
        &["function", "show", "--help"],
        &["function", "logs", "--help"],
        &["function", "delete", "--help"],
        &["invoke", "--help"],
        &["node", "--help"],
        &["node", "list", "--help"],
        &["node", "drain", "--help"],
        &["node", "remove", "--help"],
        &["status", "--help"],
        &["top", "--help"],
        &["completions", "--help"],
    ] {
        let help = stdout(arguments);
        assert!(help.contains("Example"), "{arguments:?}: expected an example in\n{help}");
    }
    let version = stdout(&["--version"]);
    let revision = version.trim_end().strip_suffix(')').and_then(|text| text.rsplit_once(" (")).map(|(_, r)| r);
    assert!(revision.is_some_and(|r| r == "unknown" || r.len() >= 12), "expected a git revision in {version:?}");
    assert!(stdout(&["completions", "bash"]).contains("dirigent"));
}
