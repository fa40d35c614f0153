//! Starting, ending and starting again: what is kept, what is freed, what must not stay behind.

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use nix::sys::signal::Signal;

use crate::cluster::{Cluster, dirigent, wait_for};

/// Children of a process, by process id, from the kernel.
fn children(pid: nix::unistd::Pid) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Returns true if a process exists and is no zombie.
fn is_alive(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

/// The program of `builtin:function` is next to `dirigent` once it is built.
fn build_function() {
    programs::path("trace-function").unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_restart_keeps_what_was_registered() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start("hollow", dir.path());
    cluster.operator_ok(&["function", "register", "kept", "--image", "any"]);
    let status = cluster.end(Signal::SIGKILL);
    assert!(!status.success());

    let cluster = Cluster::start("hollow", dir.path());
    let listed = cluster.operator_ok(&["function", "list", "--format", "csv"]);
    assert!(listed.contains("kept"), "{listed}");
    let invoked = cluster.invoke("kept", &[]);
    assert!(invoked.status.success(), "{invoked:?}");
}

#[test]
fn other_users_cannot_read_what_a_cluster_keeps() {
    let dir = tempfile::tempdir().unwrap();
    let _cluster = Cluster::start("hollow", dir.path());
    let modes = [
        ("control-plane", 0o700),
        ("control-plane/commands.redb", 0o600),
        ("control-plane/token", 0o600),
        ("control-plane/cluster-token", 0o600),
        ("data-plane", 0o700),
        // Sandboxes of another user are below.
        ("worker-1", 0o711),
    ];
    for (path, expected) in modes {
        let mode = fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, expected, "{path}: {mode:o}");
    }
}

#[test]
fn either_signal_ends_a_cluster_cleanly() {
    build_function();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = Cluster::start("process", dir.path());
        cluster.operator_ok(&["function", "register", "hello", "--image", "builtin:function"]);
        let invoked = cluster.invoke("hello", &[]);
        assert!(invoked.status.success(), "{invoked:?}");
        let sandboxes = children(cluster.pid());
        assert!(!sandboxes.is_empty(), "expected a sandbox as a child process");
        let addresses = ["stream", "http", "invoke", "admin"].map(|purpose| cluster.address(purpose));

        let status = cluster.end(signal);
        assert_eq!(status.code(), Some(0), "{signal}: expected exit code 0");
        assert!(!dir.path().join("ports.json").exists(), "{signal}: an ended cluster still announces its ports");
        for address in addresses {
            assert!(TcpStream::connect(&address).is_err(), "{signal}: {address} still takes connections");
        }
        wait_for("no sandbox left", || {
            let left: Vec<_> = sandboxes.iter().filter(|pid| is_alive(pid)).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }
}

#[test]
fn a_running_invocation_gets_its_response_before_the_cluster_ends() {
    build_function();
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start("process", dir.path());
    cluster.operator_ok(&["function", "register", "slow", "--image", "builtin:function"]);
    let mut invocation = cluster.begin_invocation("slow", 2000);
    let status = cluster.end(Signal::SIGTERM);
    assert_eq!(status.code(), Some(0));
    assert!(invocation.wait().unwrap().success(), "expected the invocation to be answered well");
}

#[test]
fn a_second_signal_ends_a_cluster_at_once_and_leaves_no_sandbox() {
    build_function();
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start("process", dir.path());
    cluster.operator_ok(&["function", "register", "slow", "--image", "builtin:function"]);
    let mut invocation = cluster.begin_invocation("slow", 120_000);
    let sandboxes = children(cluster.pid());
    assert_eq!(sandboxes.len(), 1, "expected one sandbox as a child process");
    cluster.send(Signal::SIGINT);
    wait_for("the first signal to be taken", || {
        let log = fs::read_to_string(dir.path().join("stderr.log")).unwrap();
        if log.contains("a second signal ends at once") { Ok(()) } else { Err(log) }
    });
    let status = cluster.end(Signal::SIGINT);
    assert_eq!(status.code(), Some(130), "expected the code of a program that was interrupted");
    assert!(!invocation.wait().unwrap().success(), "an invocation that was cut off has failed");
    wait_for("no sandbox left", || if is_alive(&sandboxes[0]) { Err(sandboxes[0].clone()) } else { Ok(()) });
}

#[test]
fn a_port_in_use_is_a_failure_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = dirigent()
        .args(["control-plane", "--stream", "127.0.0.1:0", "--http", &address, "--data-dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&address), "expected {address} in {said:?}");
    assert!(!dir.path().join("ports.json").exists(), "a daemon that listens nowhere announces nothing");
}

#[test]
fn a_data_directory_in_use_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start("hollow", dir.path());
    let parts = [".", "control-plane", "data-plane", "worker-1"].map(|part| dir.path().join(part));
    let announced = || parts.clone().map(|part| fs::read_to_string(part.join("ports.json")).unwrap());
    let before = announced();
    let any = "127.0.0.1:0";
    let to = ["--control-plane", &cluster.address("stream"), "--admin", any];
    let ports = ["--stream-port", "0", "--http-port", "0", "--invoke-port", "0", "--admin-port", "0"];
    let seconds = [
        ("up", [&ports[..], &["--runtime", "hollow", "--worker-port", "0"]].concat(), "dirigent up"),
        ("control-plane", vec!["--stream", any, "--http", any], "dirigent control-plane"),
        ("data-plane", [&["--invoke", any], &to[..]].concat(), "dirigent data-plane"),
        ("worker", [&["--name", "second", "--runtime", "hollow"], &to[..]].concat(), "dirigent worker worker-1"),
    ];
    for ((subcommand, arguments, holder), directory) in seconds.iter().zip(&parts) {
        let output = dirigent().arg(subcommand).args(arguments).arg("--data-dir").arg(directory).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{subcommand}: {said}");
        let expected = format!("{} is in use by process {} ({holder}) since ", directory.display(), cluster.pid());
        assert!(said.contains(&expected), "{subcommand}: expected {expected:?} in {said:?}");
        assert_eq!(announced(), before, "{subcommand}: the running cluster's addresses have changed");
    }
    cluster.operator_ok(&["function", "register", "hello", "--image", "any"]);
    let invoked = cluster.invoke("hello", &[]);
    assert!(invoked.status.success(), "{invoked:?}");
}

#[test]
fn a_part_s_directory_in_use_is_found_before_another_part_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let any = "127.0.0.1:0";
    let worker = ["worker", "--name", "lone", "--runtime", "hollow", "--control-plane", "127.0.0.1:1", "--admin", any];
    let (worker, _) = start(dir.path(), "worker-1", &worker);
    let ports = ["--stream-port", "--http-port", "--invoke-port", "--admin-port", "--worker-port"];
    let ports: Vec<&str> = ports.iter().flat_map(|port| [port, "0"]).collect();
    let output =
        dirigent().args(["up", "--runtime", "hollow", "--data-dir"]).arg(dir.path()).args(ports).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let folder = dir.path().join("worker-1");
    let expected = format!("{} is in use by process {} (dirigent worker lone) since ", folder.display(), worker.0.id());
    assert!(output.status.code() == Some(1) && said.contains(&expected), "expected {expected:?} in {said:?}");
    let log = dir.path().join("control-plane/commands.redb");
    assert!(!log.exists(), "nothing is written for a cluster that cannot be");
}

#[test]
fn too_few_file_descriptors_are_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 512 && exec \"$0\" control-plane --data-dir \"$1\"", env!("CARGO_BIN_EXE_dirigent")])
        .arg(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("limit of open files is 512, at least 1024 are needed"), "{said}");
}

#[test]
fn log_lines_are_json_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("stderr.log");
    let any = "127.0.0.1:0";
    let child = dirigent()
        .args(["control-plane", "--stream", any, "--http", any, "--log-format", "json", "--data-dir"])
        .arg(dir.path())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut daemon = Ended(child);
    wait_for("ports.json", || fs::read_to_string(dir.path().join("ports.json")).map_err(|error| error.to_string()));
    let pid = nix::unistd::Pid::from_raw(daemon.0.id().try_into().unwrap());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    assert!(daemon.0.wait().unwrap().success());
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["fields"]["part"], "control plane", "expected its addresses first: {text}");
    assert!(lines.iter().all(|line| line["level"].is_string()), "expected log lines with a level: {text}");
}

#[test]
fn a_worker_that_waits_for_its_address_says_so_and_ends_on_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("stderr.log");
    let arguments = ["worker", "--control-plane", "127.0.0.1:1", "--admin", "127.0.0.1:0", "--data-dir", "d"];
    let child = dirigent()
        .args(arguments)
        .args(["--sandbox-address", "nosuch0"])
        .current_dir(dir.path())
        .stderr(fs::File::create(&log).unwrap())
        .spawn();
    let mut worker = Ended(child.unwrap());
    wait_for("a warning", || {
        let said = fs::read_to_string(&log).unwrap();
        if said.contains("WARN") && said.contains("nosuch0") { Ok(()) } else { Err(said) }
    });
    let pid = nix::unistd::Pid::from_raw(worker.0.id().try_into().unwrap());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    assert!(worker.0.wait().unwrap().success(), "{}", fs::read_to_string(&log).unwrap());
}

#[test]
fn a_cluster_whose_messages_nobody_reads_runs_on() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, unread) = std::io::pipe().unwrap();
    drop(reader);
    let ports = ["--stream-port", "--http-port", "--invoke-port", "--admin-port", "--worker-port"];
    let ports: Vec<&str> = ports.iter().flat_map(|port| [port, "0"]).collect();
    let child = dirigent()
        .args(["up", "--workers", "1", "--runtime", "hollow", "--data-dir"])
        .arg(dir.path())
        .args(ports)
        .env("RUST_LOG", "debug")
        .stderr(unread)
        .spawn()
        .unwrap();
    let mut cluster = Ended(child);
    let ports = wait_for("ports.json", || {
        let ended = cluster.0.try_wait().unwrap();
        assert_eq!(ended, None, "the cluster ended");
        let text = fs::read_to_string(dir.path().join("ports.json")).map_err(|error| error.to_string())?;
        serde_json::from_str::<serde_json::Value>(&text).map_err(|error| error.to_string())
    });
    wait_for("a node", || {
        let http = ports["http"].as_str().unwrap();
        let listed = dirigent().args(["node", "list", "--format", "csv", "--control-plane", http]).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        if listed.contains("ready") { Ok(()) } else { Err(listed) }
    });
    let pid = nix::unistd::Pid::from_raw(cluster.0.id().try_into().unwrap());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    assert!(cluster.0.wait().unwrap().success(), "it ends as cleanly as any other");
}

#[test]
fn separate_daemons_make_a_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let start = |name: &str, arguments: &[&str]| start(dir.path(), name, arguments);
    let any = "127.0.0.1:0";
    let (_control_plane, ports) = start("control-plane", &["control-plane", "--stream", any, "--http", any]);
    let (stream, http) = (ports["stream"].as_str().unwrap(), ports["http"].as_str().unwrap());
    let to = ["--control-plane", stream, "--admin", any];
    let (_data_plane, ports) = start("data-plane", &[&["data-plane", "--invoke", any], &to[..]].concat());
    let worker = ["worker", "--name", "w", "--runtime", "hollow", "--nodes", "3"];
    let (_worker, _) = start("worker", &[&worker, &to[..]].concat());

    let operator = |arguments: &[&str]| dirigent().args(arguments).args(["--control-plane", http]).output().unwrap();
    wait_for("three nodes", || {
        let listed = operator(&["node", "list", "--format", "csv"]);
        let nodes = String::from_utf8_lossy(&listed.stdout).lines().count().saturating_sub(1);
        if nodes == 3 { Ok(()) } else { Err(format!("{nodes} nodes")) }
    });
    let register = ["function", "register", "hello", "--image", "any"];
    let refused = operator(&register);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("--token-file"), "{said}");
    let token = dir.path().join("control-plane").join("token");
    let registered = operator(&[&register[..], &["--token-file", token.to_str().unwrap()]].concat());
    assert!(registered.status.success(), "{registered:?}");
    let invoke = ["invoke", "hello", "--data-plane", ports["invoke"].as_str().unwrap()];
    let invoked = dirigent().args(invoke).output().unwrap();
    assert!(invoked.status.success(), "{invoked:?}");
}

#[test]
fn parts_of_one_host_that_were_given_no_name_have_names_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let start = |name: &str, arguments: &[&str]| start(dir.path(), name, arguments);
    let any = "127.0.0.1:0";
    let (_control_plane, ports) = start("control-plane", &["control-plane", "--stream", any, "--http", any]);
    let (stream, http) = (ports["stream"].as_str().unwrap(), ports["http"].as_str().unwrap());
    let to = ["--control-plane", stream, "--admin", any];
    let worker = [&["worker", "--runtime", "hollow", "--nodes", "1"], &to[..]].concat();
    let data_plane = [&["data-plane", "--invoke", any], &to[..]].concat();
    let _workers = ["worker-1", "worker-2"].map(|name| start(name, &worker));
    let _data_planes = ["data-plane-1", "data-plane-2"].map(|name| start(name, &data_plane));
    wait_for("two workers and two data planes", || {
        let status = dirigent().args(["status", "--format", "json", "--control-plane", http]).output().unwrap();
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        let status: serde_json::Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        let data_planes = status["data_planes"].as_array().map_or(0, Vec::len);
        if status["nodes_ready"] == 2 && data_planes == 2 { Ok(()) } else { Err(text) }
    });
}

/// Starts a daemon that keeps its data in the folder `name` of `directory` and writes to `name.log` there; its ports.
pub(crate) fn start(directory: &Path, name: &str, arguments: &[&str]) -> (Ended, serde_json::Value) {
    let (folder, log) = (directory.join(name), directory.join(format!("{name}.log")));
    let stderr = fs::File::create(&log).unwrap();
    let child = dirigent().args(arguments).arg("--data-dir").arg(&folder).stderr(stderr).spawn().unwrap();
    let ports = wait_for(&format!("ports.json of {name}"), || {
        let text =
            fs::read_to_string(folder.join("ports.json")).map_err(|_| fs::read_to_string(&log).unwrap_or_default())?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    });
    (Ended(child), ports)
}

#[test]
fn a_part_from_elsewhere_needs_the_file_with_the_cluster_s_token() {
    let dir = tempfile::tempdir().unwrap();
    let any = "127.0.0.1:0";
    let control_plane = ["control-plane", "--stream", any, "--http", any];
    let (_control_plane, ports) = start(dir.path(), "state", &control_plane);
    let (stream, http) = (ports["stream"].as_str().unwrap(), ports["http"].as_str().unwrap());
    let nodes = || {
        let listed = dirigent().args(["node", "list", "--format", "csv", "--control-plane", http]).output().unwrap();
        String::from_utf8_lossy(&listed.stdout).lines().count().saturating_sub(1)
    };
    let elsewhere = dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let worker = |name| ["worker", "--name", name, "--runtime", "hollow", "--control-plane", stream, "--admin", any];
    let (refused, _) = start(&elsewhere, "worker", &worker("refused"));
    wait_for("the reason", || {
        let log = fs::read_to_string(elsewhere.join("worker.log")).unwrap();
        let is_said = log.contains("shows no token") && log.contains("set token_file (--token-file) to a copy");
        if is_said { Ok(()) } else { Err(log) }
    });
    assert_eq!(nodes(), 0);
    drop(refused);
    let token = dir.path().join("state").join("cluster-token");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&token).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // Started where the control plane's data directory is below, it finds the token, whatever the directory's name.
    let mut from_here = dirigent();
    from_here.args(worker("found")).args(["--data-dir", "w"]).current_dir(dir.path());
    let _found = Ended(from_here.stderr(Stdio::null()).spawn().unwrap());
    wait_for("its node", || if nodes() == 1 { Ok(()) } else { Err("no node".to_owned()) });
    let worker = [&worker("named")[..], &["--token-file", token.to_str().unwrap()]].concat();
    let (_named, _) = start(&elsewhere, "worker", &worker);
    wait_for("its node", || if nodes() == 2 { Ok(()) } else { Err("no node".to_owned()) });
}

/// A child that is ended with the test.
pub(crate) struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
