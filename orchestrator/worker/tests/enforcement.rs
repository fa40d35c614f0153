//! The enforcement on real processes: the memory limit of a whole sandbox, the end of leftover processes, user and
//! address.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking and documents itself")]

mod support;

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use futures::future::poll_immediate;
use nix::sched::{CloneFlags, unshare};
use support::{daemon_that_left, exists, get, pid_of, revision, script, start_processes as start, until};
use tokio::time::timeout;
use worker::{MemoryControl, SandboxAddress};

/// Short, so that tests do not wait; each pass reads all of `/proc`.
const INTERVAL: Duration = Duration::from_millis(50);

/// A function that has started a daemon, which prints its pid: a process with a session of its own whose parent has
/// ended.
fn function_with_daemon(folder: &Path) -> String {
    let function = programs::path("trace-function").unwrap();
    script(folder, &format!("(setsid sh -c 'echo pid $$; exec sleep 3600' &)\nexec {}", function.display()))
}

#[tokio::test]
async fn sandboxes_take_connections_on_the_configured_address() {
    let elsewhere = IpAddr::from([127, 0, 0, 2]);
    let (_control_plane, _worker, mut stream) =
        start(|config| config.process.address = SandboxAddress::Ip(elsewhere)).await;
    let sandbox = stream.create(1, revision("builtin:function"));
    let (address, _) = stream.ready(sandbox).await;
    assert_eq!(address.ip(), elsewhere);
    assert_eq!(get(address, "/", "").await.unwrap().0, 200);
}

/// A configuration with sandboxes on `address`, and an admin API that does not need that address.
fn config_with_address(folder: &Path, address: &str) -> worker::Config {
    let mut config = worker::Config { data_dir: folder.to_owned(), ..worker::Config::default() };
    config.admin = SocketAddr::from(([0, 0, 0, 0], 0));
    config.process.address = address.parse().unwrap();
    config
}

#[tokio::test(start_paused = true)]
async fn a_missing_interface_is_refused_after_some_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let refused = worker::Service::start(config_with_address(folder.path(), "nosuch0"), Arc::new(service::OsNetwork));
    let refused = timeout(Duration::from_secs(11), refused).await.expect("the wait for it is bounded");
    let refused = refused.err().unwrap();
    let source = std::error::Error::source(&refused).unwrap().to_string();
    assert!(refused.to_string().contains("process.address") && source.contains("nosuch0"), "{refused}: {source}");
}

#[test]
fn a_worker_whose_address_appears_a_moment_later_starts_root() {
    if !nix::unistd::getuid().is_root() {
        return programs::say_skipped(
            "a_worker_whose_address_appears_a_moment_later_starts_root",
            "only root makes namespaces",
        );
    }
    // Of this thread: another network, whose loopback interface is down and has no address.
    let started = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for (address, comes) in [("lo", "link set lo up"), ("10.0.0.5", "address add 10.0.0.5/32 dev lo")] {
                let folder = tempfile::tempdir().unwrap();
                let mut started = Box::pin(worker::Service::start(
                    config_with_address(folder.path(), address),
                    Arc::new(service::OsNetwork),
                ));
                assert!(poll_immediate(&mut started).await.is_none(), "{address}: it waits");
                assert!(Command::new("ip").args(comes.split(' ')).status().unwrap().success());
                timeout(sim::WAIT_TIMEOUT, started).await.unwrap().unwrap();
            }
        });
    });
    started.join().unwrap();
}

#[tokio::test]
async fn programs_run_as_the_configured_user_and_read_no_token_root() {
    if !nix::unistd::getuid().is_root() {
        return programs::say_skipped(
            "programs_run_as_the_configured_user_and_read_no_token_root",
            "only root starts them as another",
        );
    }
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    let (_control_plane, worker, mut stream) = start(|config| {
        open(&config.data_dir);
        config.process.user = Some("65534".parse().unwrap());
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    open(folder.path());
    let (token, function) = (folder.path().join("token"), folder.path().join("function"));
    fs::write(&token, "secret").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    fs::copy(programs::path("trace-function").unwrap(), &function).unwrap();
    let tries = format!(
        "echo user $(id -u) groups $(id -G)\ncat {}\necho kept > file && cat file\ngrep NoNewPrivs /proc/self/status\n\
         echo mode $(stat -c %a . ..)\nls ..",
        token.display()
    );
    let body = format!("{tries}\necho pid $$\nexec {}", function.display());
    let sandbox = stream.create(1, revision(&script(folder.path(), &body)));
    stream.ready(sandbox).await;
    pid_of(&worker, sandbox).await;
    let (_, log) = worker.page(&format!("/v1/sandboxes/{sandbox}/logs")).await;
    assert!(log.contains("user 65534 groups 65534\n"), "{log}");
    assert!(!log.contains("secret") && log.contains("ermission denied"), "{log}");
    assert!(log.contains("kept\n"), "its working directory is its own: {log}");
    assert!(log.contains("NoNewPrivs:\t1\n"), "{log}");
    assert!(log.contains("mode 700 711\n") && !log.contains(&format!("\n{sandbox}\n")), "it lists no others: {log}");
    stream.delete(sandbox);
    stream.ended(sandbox).await;
}

#[tokio::test]
async fn a_user_that_cannot_reach_its_working_directories_is_refused_at_the_start_root() {
    if !nix::unistd::getuid().is_root() {
        return programs::say_skipped(
            "a_user_that_cannot_reach_its_working_directories_is_refused_at_the_start_root",
            "only root starts programs as another",
        );
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let mut config = worker::Config { data_dir: folder.path().join("below"), ..worker::Config::default() };
    config.admin = service::ANY_LOOPBACK;
    config.process.user = Some("65534".parse().unwrap());
    let refused = worker::Service::start(config.clone(), Arc::new(service::OsNetwork)).await.err().unwrap();
    let source = std::error::Error::source(&refused).unwrap().to_string();
    let names = ["process.user", "--sandbox-user", "65534:65534", &format!("enter {},", folder.path().display())];
    assert!(names.iter().all(|name| source.contains(name)), "{source}");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    worker::Service::start(config.clone(), Arc::new(service::OsNetwork)).await.unwrap();
    let left: Vec<_> = fs::read_dir(config.data_dir.join("sandboxes")).unwrap().collect();
    assert!(left.is_empty(), "the tried directory is removed: {left:?}");
}

#[tokio::test]
async fn a_process_that_left_the_process_group_ends_with_its_sandbox() {
    let (_control_plane, worker, mut stream) = start(|config| config.process.monitor_interval = INTERVAL).await;
    let folder = tempfile::tempdir().unwrap();
    let sandbox = stream.create(1, revision(&function_with_daemon(folder.path())));
    stream.ready(sandbox).await;
    let daemon = pid_of(&worker, sandbox).await;
    assert!(exists(daemon));
    stream.delete(sandbox);
    stream.ended(sandbox).await;
    until("the daemon is ended and reaped", async || !exists(daemon)).await;
}

#[tokio::test]
async fn a_sandbox_and_its_daemons_are_left_alone_while_another_one_ends() {
    let (_control_plane, worker, mut stream) = start(|config| config.process.monitor_interval = INTERVAL).await;
    let folder = tempfile::tempdir().unwrap();
    let spec = revision(&function_with_daemon(folder.path()));
    let first = stream.create(1, spec.clone());
    stream.ready(first).await;
    let second = stream.create(2, spec);
    stream.ready(second).await;
    let (ending, staying) = (pid_of(&worker, first).await, pid_of(&worker, second).await);
    stream.delete(first);
    stream.ended(first).await;
    until("the daemon is ended and reaped", async || !exists(ending)).await;
    assert!(exists(staying), "its sandbox lives");
    stream.delete(second);
    stream.ended(second).await;
    until("the other daemon is ended and reaped", async || !exists(staying)).await;
}

#[tokio::test]
async fn a_leftover_process_ends_with_the_worker_at_the_latest() {
    let (_control_plane, worker, mut stream) =
        start(|config| config.process.monitor_interval = Duration::from_secs(3600)).await;
    let folder = tempfile::tempdir().unwrap();
    let sandbox = stream.create(1, revision(&function_with_daemon(folder.path())));
    stream.ready(sandbox).await;
    let daemon = pid_of(&worker, sandbox).await;
    worker.end().await;
    until("the daemon is dead", async || {
        let status = fs::read_to_string(format!("/proc/{daemon}/status")).unwrap_or_default();
        status.is_empty() || status.contains("State:\tZ")
    })
    .await;
}

#[tokio::test]
async fn a_leftover_that_started_at_the_end_of_its_sandbox_ends_too() {
    let (_control_plane, _worker, mut stream) =
        start(|config| config.process.monitor_interval = Duration::from_millis(500)).await;
    let daemon = daemon_that_left(&mut stream).await;
    until("the daemon is ended and reaped", async || !exists(daemon)).await;
}

#[tokio::test]
async fn processes_that_together_exceed_the_memory_of_their_function_are_ended() {
    let message = ended_for_memory(|config| config.process.monitor_interval = INTERVAL).await;
    assert!(message.contains("of memory in") && message.contains("process.resident_headroom"), "{message}");
}

#[tokio::test]
async fn a_control_group_enforces_the_memory_limit_if_one_can_be_made() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = worker::Config { data_dir: folder.path().to_owned(), ..worker::Config::default() };
    config.admin = service::ANY_LOOPBACK;
    config.process.memory_control = MemoryControl::Cgroup;
    if let Err(error) = worker::Service::start(config, Arc::new(service::OsNetwork)).await {
        let why = std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
        return programs::say_skipped("a_control_group_enforces_the_memory_limit_if_one_can_be_made", &why);
    }
    let message = ended_for_memory(|config| {
        config.process.memory_control = MemoryControl::Auto;
        config.process.monitor_interval = INTERVAL;
    })
    .await;
    assert!(message.contains("the kernel ended a process of it for memory"), "{message}");
}

/// The message at the end of a sandbox whose processes together exceed the memory of its function.
async fn ended_for_memory(change: impl FnOnce(&mut worker::Config)) -> String {
    let (_control_plane, worker, mut stream) = start(change).await;
    let folder = tempfile::tempdir().unwrap();
    let (function, go) = (programs::path("trace-function").unwrap(), folder.path().join("go"));
    // Each `tail` holds 80 MiB, less than a process may reserve, because its reader never reads.
    let wait = format!("while [ ! -e {} ]; do sleep 0.02; done", go.display());
    let hold = format!("({wait}; head -c 80M /dev/zero | tail | sleep 3600) &\n").repeat(3);
    let body = format!("echo pid $$\n{hold}exec {}", function.display());
    let sandbox = stream.create(1, revision(&script(folder.path(), &body)));
    stream.ready(sandbox).await;
    let pid = pid_of(&worker, sandbox).await;
    fs::write(go, "").unwrap();
    let (_, message) = stream.ended(sandbox).await;
    assert!(!exists(pid));
    message
}
