//! The creation of one sandbox: a port, a process, and probes until the port takes connections.

use std::{
    fs::Permissions,
    io,
    net::SocketAddr,
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::{errno::Errno, unistd::Pid};
use tokio::{
    net::{TcpStream, unix::pipe::Receiver},
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    RunningSandbox, Shared, children::PendingStart, limits::Limits, log::Log, monitor::MonitoredSandbox,
    program::Program, supervisor::Supervisor,
};
use crate::{
    SandboxUser,
    runtime::{CreatedSandbox, CreationFailure, CreationRequest},
};

/// Starts of the program in one creation. Only a program that finds its port in use is started again.
const MAX_ATTEMPTS: u32 = 3;
/// First pause between two probes: a small program listens within a few milliseconds.
const INITIAL_PROBE_PAUSE: Duration = Duration::from_millis(1);

/// The errors at the beginning of a program's output explain its end only within this time after it took a connection:
/// its own start may go on for so long, for example while it connects to a database.
const STARTUP_WINDOW: Duration = Duration::from_secs(30);

/// The cause of an end if the task of the supervisor panicked.
const NO_SUPERVISOR: &str = "its supervisor failed";

/// A process that was started and is not ready yet.
struct Started {
    address: SocketAddr,
    stop: CancellationToken,
    /// Gets the cause of its end when nothing is left of it.
    exit: oneshot::Receiver<String>,
    log: Arc<Log>,
    steps: Vec<(&'static str, Duration)>,
}

/// The process of a creation did not become ready.
enum NotReady {
    Failed(CreationFailure),
    /// The program found its port in use. Started again without the socket that holds the port, it may succeed.
    PortTaken(CreationFailure),
}

/// Creates the sandbox of `request`.
pub(super) async fn create(shared: Arc<Shared>, request: CreationRequest) -> Result<CreatedSandbox, CreationFailure> {
    let began = Instant::now();
    let _permit = request.acquire_permit(&shared.limiter).await?;
    let waited = began.elapsed();
    let mut attempt = 1;
    loop {
        // A program that does not set SO_REUSEADDR cannot bind a port that this process holds.
        let hold_port = attempt == 1;
        let started = launch(&shared, &request, hold_port).await?;
        let launched = Instant::now();
        match await_ready(&shared, &request, started).await {
            Ok(Started { address, mut steps, exit, log, .. }) => {
                let exit = describe_exit(exit, log, Instant::now() + STARTUP_WINDOW);
                steps.insert(0, ("wait", waited));
                let (create, ready) = (launched - began, launched.elapsed());
                return Ok(CreatedSandbox { address, create, ready, steps, exit: Some(Box::pin(exit)) });
            }
            Err(NotReady::PortTaken(_)) if attempt < MAX_ATTEMPTS => attempt += 1,
            Err(NotReady::PortTaken(failure) | NotReady::Failed(failure)) => return Err(failure),
        }
    }
}

/// The failure to prepare a process because the operating system refused `what`.
fn cannot(what: &'static str) -> impl Fn(io::Error) -> CreationFailure {
    move |error| CreationFailure::transient(format!("cannot {what}: {error}"))
}

/// Starts the process and its supervisor. `hold_port` keeps the port bound here while the program starts.
async fn launch(shared: &Arc<Shared>, request: &CreationRequest, hold_port: bool) -> Result<Started, CreationFailure> {
    let began = Instant::now();
    let mut port = shared.ports.take(request).await?;
    let has_port = Instant::now();
    // After the port, whose number is in the program's environment.
    let program = Program::new(shared, request, port.address())?;
    let directory = shared.directory.join(request.sandbox.to_string());
    make_private(&directory).map_err(cannot("make its working directory"))?;
    let directory = Directory(directory);
    let (output, writer) = output_pipe().map_err(cannot("make a pipe for its output"))?;
    let mut command = command(&program, &directory.0, writer).map_err(cannot("make a pipe for its output"))?;
    if let Some(user) = shared.config.user {
        user.apply(&mut command, &directory.0).map_err(cannot("give it its working directory"))?;
    }
    let limits = Arc::new(Limits::new(shared, request).map_err(cannot("make its control group"))?);
    limits.apply(&mut command, shared.config.user.is_some()).map_err(cannot("enter its control group"))?;
    let prepared = Instant::now();
    if !hold_port {
        port.unbind();
    }
    let start = PendingStart::begin();
    let spawned = shared.spawner.spawn(command).await;
    let child = spawned.map_err(|error| spawn_failure(&program.path, shared.config.user, &error))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let group = group.ok_or_else(|| CreationFailure::transient("the process ended before its number was read"))?;
    let main = start.finish(group.as_raw());
    let spawned = Instant::now();

    let (stop, gone) = (CancellationToken::new(), CancellationToken::new());
    let log = Arc::new(Log::new(usize::try_from(shared.config.log.as_u64()).unwrap_or(usize::MAX)));
    let (address, grace) = (port.address(), shared.config.grace);
    let monitored = MonitoredSandbox {
        pid: group.as_raw(),
        start: main.start(),
        limits: Arc::clone(&limits),
        cause: Arc::default(),
    };
    let cause = Arc::clone(&monitored.cause);
    let function = request.spec.name.as_str().into();
    let running = RunningSandbox { function, stop: stop.clone(), gone: gone.clone(), log: Arc::clone(&log), monitored };
    shared.add_running(request.sandbox, running);
    let supervisor = Supervisor { child, group, output, log: Arc::clone(&log), stop: stop.clone(), grace, cause };
    let (sender, exit) = oneshot::channel();
    // Weak, so that the spawner's thread ends with the runtime; the kernel then kills every process.
    let (shared, sandbox) = (Arc::downgrade(shared), request.sandbox);
    tokio::spawn(async move {
        let cause = supervisor.run().await;
        // It is reaped by now, and its number may soon be that of another process.
        drop(main);
        drop(port);
        // Blocking, since the directory may have a great many files. If the thread fails, the next worker removes them.
        let clean_up = move || {
            drop(directory);
            let cause = limits.oom_cause().unwrap_or(cause);
            limits.remove_group();
            cause
        };
        let cause = tokio::task::spawn_blocking(clean_up).await.unwrap_or_default();
        if let Some(shared) = shared.upgrade() {
            shared.remove_ended(sandbox, &cause);
        }
        // After the removal: once a deletion has completed, the sandbox is not listed as running.
        gone.cancel();
        // Without a receiver if the creation was dropped.
        let _ = sender.send(cause);
    });
    let steps = vec![("port", has_port - began), ("prepare", prepared - has_port), ("spawn", spawned - prepared)];
    Ok(Started { address, stop, exit, log, steps })
}

/// Probes the port until it takes a connection. On failure, returns after the process has ended.
async fn await_ready(shared: &Shared, request: &CreationRequest, mut started: Started) -> Result<Started, NotReady> {
    let deadline = Instant::now() + shared.config.ready_deadline;
    let failure = tokio::select! {
        biased;
        () = request.cancel.cancelled() => CreationFailure::cancelled(),
        cause = &mut started.exit => return Err(exited_early(&started.log, cause)),
        ready = timeout_at(deadline, probe(started.address, shared.config.probe_interval)) => match ready {
            // It may have ended meanwhile, and another program have taken its port.
            Ok(()) => match started.exit.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => return Ok(started),
                cause => return Err(exited_early(&started.log, cause.map_err(|_| ()))),
            },
            Err(_) => {
                let deadline = shared.config.ready_deadline;
                let log_suffix = log_suffix(&started.log);
                CreationFailure::transient(format!("took no connection on PORT within {deadline:?}{log_suffix}"))
            }
        },
    };
    started.stop.cancel();
    let _ = started.exit.await;
    Err(NotReady::Failed(failure))
}

/// Completes when `address` takes a connection.
async fn probe(address: SocketAddr, max_pause: Duration) {
    let mut pause = INITIAL_PROBE_PAUSE.min(max_pause);
    while !takes_connections(address).await {
        sleep(pause).await;
        pause = (pause * 3 / 2).min(max_pause);
    }
}

async fn takes_connections(address: SocketAddr) -> bool {
    // The kernel may choose an unbound port as the probe's own, which then connects to itself.
    TcpStream::connect(address).await.is_ok_and(|stream| stream.local_addr().is_ok_and(|own| own != address))
}

/// The cause of the end of a ready sandbox, with a line of its output if it ended before `startup_end`.
async fn describe_exit(exit: oneshot::Receiver<String>, log: Arc<Log>, startup_end: Instant) -> String {
    let cause = exit.await.unwrap_or_else(|_| NO_SUPERVISOR.to_owned());
    if Instant::now() < startup_end { cause + &log_suffix(&log) } else { cause }
}

fn exited_early<E>(log: &Log, cause: Result<String, E>) -> NotReady {
    let cause = cause.unwrap_or_else(|_| NO_SUPERVISOR.to_owned());
    let failure = CreationFailure::transient(format!("ended before it was ready, {cause}{}", log_suffix(log)));
    let (text, _) = log.text();
    // Known by its words only, which differ between runtimes: `EADDRINUSE` is what Node.js prints.
    let taken = ["ddress already in use", "ddress in use", "EADDRINUSE"].iter().any(|words| text.contains(words));
    if taken { NotReady::PortTaken(failure) } else { NotReady::Failed(failure) }
}

/// The line of the output that explains a failure best, as the end of a message; empty without output.
fn log_suffix(log: &Log) -> String {
    log.cause().map(|line| format!(": {line}")).unwrap_or_default()
}

/// The failure to execute `path`: permanent if the file does not exist, is not executable, or cannot be reached by
/// `user`.
fn spawn_failure(path: &Path, user: Option<SandboxUser>, error: &io::Error) -> CreationFailure {
    let user = user.map(|user| format!(" in its working directory as user {user}")).unwrap_or_default();
    let message = format!("cannot execute {}{user}: {error}", path.display());
    let permanent = [Errno::ENOENT, Errno::ENOTDIR, Errno::EACCES, Errno::ENOEXEC, Errno::EISDIR];
    CreationFailure {
        message,
        permanent: error.raw_os_error().is_some_and(|code| permanent.contains(&Errno::from_raw(code))),
    }
}

/// One pipe for output and errors, so that their order is kept.
fn output_pipe() -> io::Result<(Receiver, io::PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    Ok((Receiver::from_owned_fd(OwnedFd::from(reader))?, writer))
}

fn command(program: &Program, directory: &Path, output: io::PipeWriter) -> io::Result<Command> {
    let mut command = Command::new(&program.path);
    command
        .args(&program.arguments)
        .env_clear()
        .envs(program.environment.iter().map(|(key, value)| (key, value)))
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        // A group of its own: one signal reaches the program with its descendants, but not the worker.
        .process_group(0);
    Ok(command)
}

/// Makes a directory that only its owner may enter. Explicitly, because the umask may allow others.
fn make_private(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::set_permissions(directory, Permissions::from_mode(0o700))
}

/// A sandbox's working directory, removed with what is in it.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // The next start of the worker removes the rest.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr},
        sync::Mutex,
    };

    use model::{Epoch, SandboxId};
    use tokio::{
        sync::mpsc,
        time::{advance, pause, resume},
    };

    use super::*;
    use crate::{
        creation_limiter::CreationLimiter,
        messages::SandboxSpec,
        runtime::{
            Progress, Runtime,
            process::{
                Process, ProcessConfig,
                port::{NO_PORT, Ports},
                port_queue::PortQueue,
                spawner::Spawner,
            },
        },
    };

    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// A runtime whose sandboxes have only this port.
    fn with_port(port: u16, directory: &Path) -> Arc<Shared> {
        let free = Arc::new(Mutex::new(PortQueue::new([port].into())));
        Arc::new(Shared {
            config: ProcessConfig::default(),
            function: programs::path("trace-function").unwrap(),
            address: LOCALHOST,
            ports: Ports::with_queue(free, LOCALHOST, &directory.join("ports")).unwrap(),
            directory: directory.to_owned(),
            nodes: vec!["n".to_owned()],
            spawner: Spawner::start().unwrap(),
            limiter: CreationLimiter::shared(1),
            cgroups: None,
            table: Mutex::default(),
            monitor: Mutex::default(),
        })
    }

    #[tokio::test]
    async fn the_wait_for_a_port_is_a_step_apart_from_the_preparation() {
        let (progress, mut progressed) = mpsc::channel(4);
        let spec = Arc::new(SandboxSpec::example(1, "builtin:function"));
        let sandbox = SandboxId::new(Epoch(1), 1).unwrap();
        let request = CreationRequest { sandbox, node: 0, spec, cancel: CancellationToken::new(), progress };
        let dir = tempfile::tempdir().unwrap();
        let others = Ports::open(LOCALHOST, &dir.path().join("ports-of-others")).unwrap();
        let kept = others.take(&request).await.unwrap();
        let shared = with_port(kept.address().port(), dir.path());
        let mut created = Box::pin(create(Arc::clone(&shared), request));
        tokio::select! {
            biased;
            _ = &mut created => panic!("its port is kept"),
            queued = progressed.recv() => assert_eq!(queued, Some((sandbox, Progress::Queued(Some(NO_PORT))))),
        }
        let minute = Duration::from_secs(60);
        pause();
        advance(minute).await;
        resume();
        drop(kept);
        let CreatedSandbox { steps, create, .. } = created.await.unwrap();
        assert_eq!(steps.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["wait", "port", "prepare", "spawn"]);
        let took: Vec<_> = steps.iter().map(|(_, took)| *took).collect();
        assert!(took[1] >= minute && took[2] < minute && create >= minute, "{steps:?}");
        Process(shared).delete(sandbox).await;
    }
}
