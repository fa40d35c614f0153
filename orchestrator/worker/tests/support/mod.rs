//! A worker under test, its settings, and the programs of its sandboxes.
#![allow(dead_code, reason = "each test crate uses a part of it")]

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use api::wire;
use model::SandboxId;
use nix::unistd::Pid;
use service::OsNetwork;
use sim::{ControlPlane, WAIT_TIMEOUT, WorkerStream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use worker::{Addressing, Config};

/// A running worker; dropping it aborts it.
pub(crate) struct Worker {
    pub(crate) admin: SocketAddr,
    pub(crate) data_dir: Arc<tempfile::TempDir>,
    handle: Mutex<Option<worker::Handle>>,
}

impl Worker {
    /// A worker named `w` for `control_planes`, changed by `change`.
    pub(crate) async fn start(control_planes: &[SocketAddr], change: impl FnOnce(&mut Config)) -> Self {
        let data_dir = Arc::new(tempfile::tempdir().unwrap());
        let mut config = Config {
            name: "w".to_owned(),
            control_planes: control_planes.iter().map(ToString::to_string).collect(),
            admin: service::ANY_LOOPBACK,
            data_dir: data_dir.path().to_owned(),
            heartbeat: Duration::from_millis(20),
            ..Config::default()
        };
        change(&mut config);
        let handle = worker::Service::start(config, Arc::new(OsNetwork)).await.unwrap();
        Self { admin: handle.addresses().admin, data_dir, handle: Mutex::new(Some(handle)) }
    }

    /// Shuts it down and waits for its end.
    pub(crate) async fn end(&self) {
        let handle = self.handle.lock().unwrap().take().unwrap();
        handle.shutdown();
        timeout(WAIT_TIMEOUT, handle.stopped()).await.expect("the worker ends").unwrap();
    }

    /// A page of its admin API: status and body.
    pub(crate) async fn page(&self, path: &str) -> (u16, String) {
        get(self.admin, path, "").await.unwrap()
    }

    /// Polls a page until its status is `code`.
    pub(crate) async fn page_becomes(&self, path: &str, code: u16) {
        until(&format!("{path} has the status {code}"), async || self.page(path).await.0 == code).await;
    }
}

/// The settings of a hollow worker with the given constant delay.
pub(crate) fn hollow(config: &mut Config, delay: Duration) {
    config.runtime = "hollow".parse().unwrap();
    config.hollow.delay = constant(delay);
    config.hollow.nodes = 3;
}

/// As [`hollow`], with a listener for each sandbox.
pub(crate) fn hollow_with_listeners(config: &mut Config) {
    hollow(config, Duration::ZERO);
    config.hollow.addressing = Addressing::ListenerPerSandbox;
}

fn constant(delay: Duration) -> hollow::Delay {
    hollow::Delay::constant(delay).unwrap()
}

/// The settings of a worker whose sandboxes are processes.
pub(crate) fn processes(config: &mut Config) {
    config.runtime = "process".parse().unwrap();
    config.process.function = Some(programs::path("trace-function").unwrap());
    config.process.images = vec!["builtin:".to_owned(), "file:".to_owned()];
}

pub(crate) fn revision(image: &str) -> wire::RevisionSpec {
    wire::RevisionSpec {
        function: 1,
        revision: 5,
        name: "f".to_owned(),
        image: image.to_owned(),
        memory_mib: 64,
        concurrency: 1,
        ..wire::RevisionSpec::default()
    }
}

/// One GET over HTTP/1.1: status and body. `headers` are whole lines.
pub(crate) async fn get(address: SocketAddr, path: &str, headers: &str) -> std::io::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: f\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        let broken = || std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "no response");
        let (head, body) = response.split_once("\r\n\r\n").ok_or_else(broken)?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(broken)?;
        Ok((status, body.to_owned()))
    };
    timeout(WAIT_TIMEOUT, exchange).await.expect("a response or an error comes")
}

/// Waits until `condition` holds.
pub(crate) async fn until(expected: &str, mut condition: impl AsyncFnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let poll = async {
        while !condition().await {
            ticks.tick().await;
        }
    };
    timeout(WAIT_TIMEOUT, poll).await.unwrap_or_else(|_| panic!("expected: {expected}"));
}

/// A worker whose sandboxes are processes, changed by `change`, and its stream.
pub(crate) async fn start_processes(change: impl FnOnce(&mut worker::Config)) -> (ControlPlane, Worker, WorkerStream) {
    let mut control_plane = ControlPlane::start().await;
    let worker = Worker::start(&[control_plane.address], |config| {
        processes(config);
        change(config);
    })
    .await;
    let stream = control_plane.worker().await;
    (control_plane, worker, stream)
}

/// A shell script as a sandbox's program: its image.
pub(crate) fn script(folder: &Path, body: &str) -> String {
    let path = folder.join("program");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    format!("file:{}", path.display())
}

/// The pid that a script printed with `echo pid $$`.
pub(crate) async fn pid_of(worker: &Worker, sandbox: SandboxId) -> Pid {
    let path = format!("/v1/sandboxes/{sandbox}/logs");
    let mut pid = None;
    until("the sandbox prints its pid", async || {
        let (_, log) = worker.page(&path).await;
        pid = log.lines().find_map(|line| line.strip_prefix("pid ")).and_then(|pid| pid.parse().ok());
        pid.is_some()
    })
    .await;
    Pid::from_raw(pid.unwrap())
}

/// Returns true if a process exists, also as a zombie.
pub(crate) fn exists(pid: Pid) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// A function that starts a daemon on SIGTERM, and ends once the daemon has left its process group. The daemon has an
/// empty environment and writes its pid to `pid`.
fn function_that_leaves(folder: &Path, pid: &Path) -> String {
    let (function, pid) = (programs::path("trace-function").unwrap(), pid.display());
    let daemon = format!("echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 3600");
    let body = format!(
        "leave() {{\n  setsid env -i PATH=\"$PATH\" sh -c '{daemon}' > /dev/null 2>&1 &\n  while [ ! -e {pid} ]; do :; done\n  \
         exit 0\n}}\ntrap leave TERM\n{} &\nwait",
        function.display()
    );
    script(folder, &body)
}

fn pid_in(file: &Path) -> Pid {
    Pid::from_raw(fs::read_to_string(file).unwrap().trim().parse().unwrap())
}

/// The daemon of a sandbox that has ended.
pub(crate) async fn daemon_that_left(stream: &mut WorkerStream) -> Pid {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let sandbox = stream.create(1, revision(&function_that_leaves(folder.path(), &file)));
    stream.ready(sandbox).await;
    stream.delete(sandbox);
    stream.ended(sandbox).await;
    pid_in(&file)
}
