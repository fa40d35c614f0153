//! A worker whose sandboxes are real child processes: their environment, their failures, and that none is left.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking and documents itself")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the test harness captures what tests print")]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use api::wire::{self, sandbox_ended::Reason};
use bytesize::ByteSize;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sim::{ControlPlane, WAIT_TIMEOUT};
use support::{Worker, exists, get, pid_of, processes, revision, script, start_processes as start, until};

/// Environment variable with the address of the control plane, for the process that [`a_worker_to_be_killed`] becomes.
const CONTROL_PLANE: &str = "WORKER_TEST_CONTROL_PLANE";
const DATA_DIR: &str = "WORKER_TEST_DATA_DIR";
/// Set for the process that [`a_program_that_reuses_no_address`] becomes.
const STUBBORN: &str = "WORKER_TEST_STUBBORN";

/// A script that prints its pid, then executes the function.
fn function_with_pid(folder: &Path) -> String {
    let function = programs::path("trace-function").unwrap();
    script(folder, &format!("echo pid $$\nexec {} --mode sleep", function.display()))
}

fn working_directories(worker: &Worker) -> Vec<PathBuf> {
    fs::read_dir(worker.data_dir.path().join("sandboxes")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn the_built_in_function_runs_as_a_process_and_leaves_nothing() {
    let (_control_plane, worker, mut stream) = start(|_| {}).await;
    let sandbox = stream.create(1, revision("builtin:function"));
    let (address, ready) = stream.ready(sandbox).await;
    assert!(ready.create_us > 0 && ready.own_us >= ready.create_us + ready.ready_us, "{ready:?}");
    let steps: Vec<&str> = ready.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(steps, ["wait", "port", "prepare", "spawn"]);
    assert!(ready.steps.iter().map(|step| step.us).sum::<u64>() <= ready.create_us, "{ready:?}");
    let trace = "workload: trace\r\nrequested_cpu: 2\r\nrequested_memory: 8\r\n";
    let (code, body) = get(address, "/", trace).await.unwrap();
    assert!(code == 200 && body.contains(r#""MachineName":"w""#), "{code} {body}");
    assert_eq!(working_directories(&worker).len(), 1);
    let (_, log) = worker.page(&format!("/v1/sandboxes/{sandbox}/logs")).await;
    assert_eq!(log, format!("listening on {address}\n"));

    stream.delete(sandbox);
    assert_eq!(stream.ended(sandbox).await.0, Reason::Deleted);
    assert!(get(address, "/", "").await.is_err(), "{address} still responds");
    assert_eq!(working_directories(&worker), Vec::<PathBuf>::new());
    let (code, log) = worker.page(&format!("/v1/sandboxes/{sandbox}/logs")).await;
    assert_eq!((code, log), (200, format!("listening on {address}\n")), "its output is kept for a while");
}

#[tokio::test]
async fn a_program_gets_its_port_environment_arguments_and_directory_and_nothing_else() {
    let (_control_plane, worker, mut stream) = start(|_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let image = script(folder.path(), "env; echo \"in $PWD\"; for a in \"$@\"; do echo \"argument $a\"; done; exit 3");
    let mut spec = revision(&image);
    spec.env = BTreeMap::from([("COLOUR".to_owned(), "blue".to_owned())]);
    spec.args = vec!["one two".to_owned(), "--three".to_owned()];
    let sandbox = stream.create(1, spec);
    stream.failed(sandbox).await;
    let (_, log) = worker.page(&format!("/v1/sandboxes/{sandbox}/logs")).await;
    let has = |line: &str| log.lines().any(|l| l == line);
    assert!(has("COLOUR=blue") && has("argument one two") && has("argument --three"), "{log}");
    assert!(has("HOST=127.0.0.1"), "{log}");
    assert!(log.lines().any(|l| l.starts_with("PORT=")) && !log.contains("CARGO"), "{log}");
    let data_dir = fs::canonicalize(worker.data_dir.path()).unwrap();
    assert!(has(&format!("in {}", data_dir.join("sandboxes").join(sandbox.to_string()).display())), "{log}");
}

#[tokio::test]
async fn an_image_that_can_never_run_is_a_permanent_failure() {
    let (_control_plane, worker, mut stream) = start(|_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    fs::write(&plain, "no program").unwrap();
    let images = [
        ("docker.io/library/nginx".to_owned(), "builtin:function or file:"),
        ("file:relative/path".to_owned(), "builtin:function or file:"),
        ("file:/nonexistent/program".to_owned(), "/nonexistent/program"),
        (format!("file:{}", plain.display()), "plain"),
    ];
    for (sequence, (image, part)) in (1..).zip(images) {
        let mut spec = revision(&image);
        spec.revision = sequence;
        let sandbox = stream.create(sequence, spec);
        let failed = stream.failed(sandbox).await;
        assert!(failed.permanent && failed.message.contains(part), "{image}: {failed:?}");
    }
    assert_eq!(working_directories(&worker), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_program_that_is_not_allowed_is_not_run() {
    let (_control_plane, _worker, mut stream) =
        start(|config| config.process.images = worker::ProcessConfig::default().images).await;
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("ran");
    let sandbox = stream.create(1, revision(&script(folder.path(), &format!("touch {}", mark.display()))));
    let failed = stream.failed(sandbox).await;
    assert!(failed.permanent && failed.message.contains("process.images"), "{failed:?}");
    assert!(!mark.exists(), "it was run");
    let sandbox = stream.create(2, revision_numbered("builtin:function", 6));
    stream.ready(sandbox).await;
}

fn revision_numbered(image: &str, number: u64) -> wire::RevisionSpec {
    wire::RevisionSpec { revision: number, ..revision(image) }
}

#[tokio::test]
async fn a_program_that_ends_at_once_fails_with_its_status_and_last_line() {
    let (_control_plane, _worker, mut stream) = start(|_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let image = script(folder.path(), "echo first; echo 'no database' >&2; exit 3");
    let sandbox = stream.create(1, revision(&image));
    let failed = stream.failed(sandbox).await;
    assert!(!failed.permanent, "{failed:?}");
    assert_eq!(failed.message, "ended before it was ready, exit status: 3: no database");
}

#[tokio::test]
async fn a_program_that_never_listens_fails_at_the_deadline_and_is_killed() {
    let (_control_plane, worker, mut stream) = start(|config| {
        config.process.ready_deadline = Duration::from_millis(300);
        config.process.grace = Duration::from_millis(100);
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let image = script(folder.path(), "trap '' TERM; echo pid $$; while true; do sleep 0.05; done");
    let sandbox = stream.create(1, revision(&image));
    let pid = pid_of(&worker, sandbox).await;
    let failed = stream.failed(sandbox).await;
    assert!(failed.message.contains("took no connection") && !failed.permanent, "{failed:?}");
    assert!(!exists(pid), "{pid} ignores SIGTERM and must be killed and reaped");
}

#[tokio::test]
async fn a_deletion_cancels_the_start_of_a_process() {
    let (_control_plane, worker, mut stream) = start(|_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let image = script(folder.path(), "echo pid $$; sleep 3600");
    let sandbox = stream.create(1, revision(&image));
    let pid = pid_of(&worker, sandbox).await;
    stream.delete(sandbox);
    assert_eq!(stream.ended(sandbox).await.0, Reason::Cancelled);
    assert!(!exists(pid) && working_directories(&worker).is_empty(), "{pid} or its folder is left");
}

#[tokio::test]
async fn a_program_that_ends_soon_after_it_was_ready_is_reported_with_its_first_error() {
    let (_control_plane, _worker, mut stream) = start(|_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let (function, ready) = (programs::path("trace-function").unwrap(), folder.path().join("ready"));
    let body = format!(
        "{} --mode sleep &\nwhile [ ! -e {} ]; do sleep 0.05; done\necho 'error: no database'; echo done; exit 1",
        function.display(),
        ready.display()
    );
    let sandbox = stream.create(1, revision(&script(folder.path(), &body)));
    stream.ready(sandbox).await;
    fs::write(&ready, "").unwrap();
    let (reason, message) = stream.ended(sandbox).await;
    assert_eq!((reason, message.as_str()), (Reason::Exited, "exit status: 1: error: no database"));
}

#[tokio::test]
async fn an_unexpected_end_is_reported_and_nothing_is_left() {
    let (_control_plane, worker, mut stream) = start(|_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let sandbox = stream.create(1, revision(&function_with_pid(folder.path())));
    let (address, _) = stream.ready(sandbox).await;
    let pid = pid_of(&worker, sandbox).await;
    kill(pid, Signal::SIGKILL).unwrap();
    let (reason, message) = stream.ended(sandbox).await;
    assert!(reason == Reason::Exited && message.contains("SIGKILL"), "{reason:?}: {message}");
    assert!(!exists(pid) && working_directories(&worker).is_empty());
    assert!(get(address, "/", "").await.is_err());
}

#[tokio::test]
async fn the_descendants_of_a_sandbox_end_with_it() {
    let (_control_plane, worker, mut stream) = start(|_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let function = programs::path("trace-function").unwrap();
    let body = format!("sleep 3600 &\necho pid $!\nexec {}", function.display());
    let sandbox = stream.create(1, revision(&script(folder.path(), &body)));
    stream.ready(sandbox).await;
    let descendant = pid_of(&worker, sandbox).await;
    assert!(exists(descendant));
    stream.delete(sandbox);
    stream.ended(sandbox).await;
    // It is a zombie until its adopter reaps it.
    until("the descendant is dead", async || {
        let status = fs::read_to_string(format!("/proc/{descendant}/status")).unwrap_or_default();
        status.is_empty() || status.contains("State:\tZ")
    })
    .await;
}

#[tokio::test]
async fn output_is_kept_up_to_its_bound() {
    let (_control_plane, worker, mut stream) = start(|config| config.process.log = ByteSize::b(1000)).await;
    let folder = tempfile::tempdir().unwrap();
    let body = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; exit 1";
    let sandbox = stream.create(1, revision(&script(folder.path(), body)));
    assert!(stream.failed(sandbox).await.message.ends_with("line 1999"));
    let (_, log) = worker.page(&format!("/v1/sandboxes/{sandbox}/logs")).await;
    assert!(log.len() == 1000 && log.ends_with("line 1998\nline 1999\n"), "{} bytes: {log}", log.len());
}

#[tokio::test]
async fn memory_beyond_the_limit_is_refused_to_the_sandbox() {
    let (_control_plane, _worker, mut stream) =
        start(|config| config.process.memory_headroom = ByteSize::mib(64)).await;
    let mut spec = revision("builtin:function");
    spec.args = ["--max-memory-mib", "100000"].map(str::to_owned).into();
    let sandbox = stream.create(1, spec);
    let (address, _) = stream.ready(sandbox).await;
    let invoke = async |mib: u32| {
        let headers = format!("workload: trace\r\nrequested_cpu: 0\r\nrequested_memory: {mib}\r\n");
        get(address, "/", &headers).await.unwrap()
    };
    assert_eq!(invoke(32).await.0, 200);
    let (code, body) = invoke(1000).await;
    assert!(code == 500 && body.contains("1000 MiB"), "the sandbox has 64 MiB and 64 more: {code} {body}");
}

#[tokio::test]
async fn many_processes_at_once_have_a_port_each_and_all_end_with_the_worker() {
    let (_control_plane, worker, mut stream) = start(|config| config.process.mode = hollow::Mode::Sleep).await;
    let create = (1..=20).map(|n| wire::CreateSandbox { sandbox: stream.id(n).to_wire(), node: 0, revision: 5 });
    let create = create.collect();
    let functions = vec![revision("builtin:function")];
    stream.send(wire::ToWorker { functions, create, ..wire::ToWorker::default() });
    let mut addresses = Vec::<SocketAddr>::new();
    for _ in 1..=20 {
        let (id, event) = stream.outcome().await;
        let wire::sandbox_event::Event::Ready(ready) = event else { panic!("{id}: {event:?}") };
        addresses.push(ready.address.parse().unwrap());
    }
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 20);
    worker.end().await;
    for address in addresses {
        assert!(get(address, "/", "").await.is_err(), "{address} still responds");
    }
    assert_eq!(working_directories(&worker), Vec::<PathBuf>::new());
}

/// Not a test by itself: the program of the next one's sandbox.
#[test]
fn a_program_that_reuses_no_address() {
    if std::env::var(STUBBORN).is_err() {
        return;
    }
    let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap_or_else(|error| {
        eprintln!("cannot listen: {error}");
        std::process::exit(1)
    });
    socket.listen(16).unwrap();
    let listener = std::net::TcpListener::from(socket);
    println!("listening after all");
    while listener.accept().is_ok() {}
}

#[tokio::test]
async fn a_program_that_cannot_share_its_port_is_started_again_with_the_port_unbound() {
    let (_control_plane, worker, mut stream) = start(|_| {}).await;
    let program = std::env::current_exe().unwrap();
    let mut spec = revision(&format!("file:{}", program.display()));
    spec.args = ["--exact", "a_program_that_reuses_no_address", "--nocapture"].map(str::to_owned).into();
    spec.env = BTreeMap::from([(STUBBORN.to_owned(), "1".to_owned())]);
    let sandbox = stream.create(1, spec);
    stream.ready(sandbox).await;
    let (_, log) = worker.page(&format!("/v1/sandboxes/{sandbox}/logs")).await;
    assert!(log.contains("listening after all"), "{log}");
    stream.delete(sandbox);
    assert_eq!(stream.ended(sandbox).await.0, Reason::Deleted);
}

/// Not a test by itself: the process that the next one starts and kills.
#[tokio::test]
async fn a_worker_to_be_killed() {
    let (Ok(control_plane), Ok(data_dir)) = (std::env::var(CONTROL_PLANE), std::env::var(DATA_DIR)) else { return };
    let _worker = Worker::start(&[control_plane.parse().unwrap()], |config| {
        processes(config);
        config.data_dir = data_dir.into();
    })
    .await;
    let _ = tokio::time::timeout(WAIT_TIMEOUT, std::future::pending::<()>()).await;
}

/// Killed when the test ends, however it ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn when_the_worker_is_killed_its_sandboxes_die_and_the_next_worker_cleans_up() {
    let mut control_plane = ControlPlane::start().await;
    let (folder, data_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let program = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_worker_to_be_killed"])
        .env(CONTROL_PLANE, control_plane.address.to_string())
        .env(DATA_DIR, data_dir.path())
        .stdout(Stdio::null())
        .spawn();
    let mut victim = Killed(program.unwrap());
    let mut stream = control_plane.worker().await;
    let pid_file = folder.path().join("pid");
    let function = programs::path("trace-function").unwrap();
    let body = format!("echo $$ > {}\nexec {}", pid_file.display(), function.display());
    let sandbox = stream.create(1, revision(&script(folder.path(), &body)));
    let (address, _) = stream.ready(sandbox).await;
    let pid = Pid::from_raw(fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap());
    assert!(exists(pid) && get(address, "/", "").await.is_ok());

    victim.0.kill().unwrap();
    victim.0.wait().unwrap();
    until("the sandbox dies with its worker", async || get(address, "/", "").await.is_err()).await;
    let folder_left = data_dir.path().join("sandboxes").join(sandbox.to_string());
    assert!(folder_left.exists(), "the killed worker did not remove it");
    let _next = Worker::start(&[control_plane.address], |config| {
        processes(config);
        config.data_dir = data_dir.path().to_owned();
    })
    .await;
    assert!(!folder_left.exists(), "the next worker removes it");
}
