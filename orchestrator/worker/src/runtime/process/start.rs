//! The start of one sandbox: a port, a process, and probes until the port takes connections.

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
    Held, Shared, children::Start, keeper::Keeper, limits::Limits, log::Log, monitor::Watched, program::Program,
};
use crate::{
    SandboxUser,
    runtime::{Failure, Made, Order},
};

/// Starts of one creation: more than one only when the program finds its port taken.
const ATTEMPTS: u32 = 3;
/// The first pause between two probes; a small program listens within a few milliseconds.
const FIRST_PROBE: Duration = Duration::from_millis(1);

/// A program that ends within this time after it took a connection was not done with its start: one that connects to a
/// database may wait for so long. Later ends have causes that the first errors of its output say nothing of.
const START_UP: Duration = Duration::from_secs(30);

/// A process that has started.
struct Started {
    address: SocketAddr,
    stop: CancellationToken,
    /// Done, with how it ended, when nothing is left of it.
    exit: oneshot::Receiver<String>,
    log: Arc<Log>,
    steps: Vec<(&'static str, Duration)>,
}

/// Why a process that started is not ready.
enum NotReady {
    Failed(Failure),
    /// Another start may find a free port.
    PortTaken(Failure),
}

/// Makes the sandbox of `order`.
pub(super) async fn start(shared: Arc<Shared>, order: Order) -> Result<Made, Failure> {
    let began = Instant::now();
    let _place = order.place(&shared.starts).await?;
    let waited = began.elapsed();
    let mut attempt = 1;
    loop {
        // A program that does not allow the reuse of its port finds it taken by us at first.
        let keep_port = attempt == 1;
        let started = launch(&shared, &order, keep_port).await?;
        let launched = Instant::now();
        match await_ready(&shared, &order, started).await {
            Ok(Started { address, mut steps, exit, log, .. }) => {
                let exit = ended(exit, log, Instant::now() + START_UP);
                steps.insert(0, ("wait", waited));
                let (create, ready) = (launched - began, launched.elapsed());
                return Ok(Made { address, create, ready, steps, exit: Some(Box::pin(exit)) });
            }
            Err(NotReady::PortTaken(_)) if attempt < ATTEMPTS => attempt += 1,
            Err(NotReady::PortTaken(failure) | NotReady::Failed(failure)) => return Err(failure),
        }
    }
}

/// Starts the process and its keeper.
async fn launch(shared: &Arc<Shared>, order: &Order, keep_port: bool) -> Result<Started, Failure> {
    let began = Instant::now();
    let system = |what: &'static str| move |error: io::Error| Failure::passing(format!("cannot {what}: {error}"));
    let mut port = shared.ports.take(order).await?;
    let has_port = Instant::now();
    let program = Program::of(shared, order, port.address())?;
    let directory = shared.directory.join(order.sandbox.to_string());
    make_private(&directory).map_err(system("make its working directory"))?;
    let directory = Directory(directory);
    let (output, writer) = output_pipe().map_err(system("make a pipe for its output"))?;
    let mut command = command(&program, &directory.0, writer).map_err(system("make a pipe for its output"))?;
    if let Some(user) = shared.config.user {
        user.apply(&mut command, &directory.0).map_err(system("give it its working directory"))?;
    }
    let limits = Arc::new(Limits::of(shared, order).map_err(system("make its control group"))?);
    limits.apply(&mut command, shared.config.user.is_some()).map_err(system("enter its control group"))?;
    let prepared = Instant::now();
    if !keep_port {
        port.give_up();
    }
    let start = Start::begin();
    let spawned = shared.spawner.spawn(command).await;
    let child = spawned.map_err(|error| not_started(&program.path, shared.config.user, &error))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let group = group.ok_or_else(|| Failure::passing("the process has no number"))?;
    let main = start.made(group.as_raw());
    let spawned = Instant::now();

    let (stop, gone) = (CancellationToken::new(), CancellationToken::new());
    let log = Arc::new(Log::new(usize::try_from(shared.config.log.as_u64()).unwrap_or(usize::MAX)));
    let (address, grace) = (port.address(), shared.config.grace);
    let watched =
        Watched { pid: group.as_raw(), start: main.start(), limits: Arc::clone(&limits), cause: Arc::default() };
    let cause = Arc::clone(&watched.cause);
    let function = order.spec.name.as_str().into();
    let held = Held { function, stop: stop.clone(), gone: gone.clone(), log: Arc::clone(&log), watched };
    shared.hold(order.sandbox, held);
    let keeper = Keeper { child, group, output, log: Arc::clone(&log), stop: stop.clone(), grace, cause };
    let (sender, exit) = oneshot::channel();
    // Weak, so that the spawner's thread ends with the runtime, and with it every process.
    let (shared, sandbox) = (Arc::downgrade(shared), order.sandbox);
    tokio::spawn(async move {
        let how = keeper.keep().await;
        drop(main);
        drop(port);
        // It may hold a great many files. Should the thread fail, the next worker removes them.
        let clear_up = move || {
            drop(directory);
            let how = limits.broken().unwrap_or(how);
            limits.lift();
            how
        };
        let how = tokio::task::spawn_blocking(clear_up).await.unwrap_or_default();
        if let Some(shared) = shared.upgrade() {
            shared.forget(sandbox, &how);
        }
        gone.cancel();
        // Nobody waits when the creation was given up.
        let _ = sender.send(how);
    });
    let steps = vec![("port", has_port - began), ("prepare", prepared - has_port), ("spawn", spawned - prepared)];
    Ok(Started { address, stop, exit, log, steps })
}

/// Probes the port until it takes a connection. When that does not come about, the process is ended first.
async fn await_ready(shared: &Shared, order: &Order, mut started: Started) -> Result<Started, NotReady> {
    let deadline = Instant::now() + shared.config.ready_deadline;
    let failure = tokio::select! {
        biased;
        () = order.cancel.cancelled() => Failure::cancelled(),
        how = &mut started.exit => return Err(exited_early(&started.log, how)),
        ready = timeout_at(deadline, probe(started.address, shared.config.probe_interval)) => match ready {
            // It may have ended since, and another have taken its port.
            Ok(()) => match started.exit.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => return Ok(started),
                how => return Err(exited_early(&started.log, how.map_err(|_| ()))),
            },
            Err(_) => {
                let deadline = shared.config.ready_deadline;
                let said = said(&started.log);
                Failure::passing(format!("took no connection on PORT within {deadline:?}{said}"))
            }
        },
    };
    started.stop.cancel();
    let _ = started.exit.await;
    Err(NotReady::Failed(failure))
}

/// Done when `address` takes a connection.
async fn probe(address: SocketAddr, longest_pause: Duration) {
    let mut pause = FIRST_PROBE.min(longest_pause);
    while !takes_connections(address).await {
        sleep(pause).await;
        pause = (pause * 3 / 2).min(longest_pause);
    }
}

async fn takes_connections(address: SocketAddr) -> bool {
    // A port that nobody keeps may be chosen as the probe's own, which then connects to itself.
    TcpStream::connect(address).await.is_ok_and(|stream| stream.local_addr().is_ok_and(|own| own != address))
}

/// How a sandbox ended that was ready, and what it said of that if it did so before `start_up` was over.
async fn ended(exit: oneshot::Receiver<String>, log: Arc<Log>, start_up: Instant) -> String {
    let how = exit.await.unwrap_or_else(|_| "its keeper is gone".to_owned());
    if Instant::now() < start_up { how + &said(&log) } else { how }
}

fn exited_early<E>(log: &Log, how: Result<String, E>) -> NotReady {
    let how = how.unwrap_or_else(|_| "its keeper is gone".to_owned());
    let failure = Failure::passing(format!("ended before it was ready, {how}{}", said(log)));
    let (text, _) = log.text();
    let taken = ["ddress already in use", "ddress in use", "EADDRINUSE"].iter().any(|words| text.contains(words));
    if taken { NotReady::PortTaken(failure) } else { NotReady::Failed(failure) }
}

/// What it said of that, if it said anything.
fn said(log: &Log) -> String {
    log.cause().map(|line| format!(": {line}")).unwrap_or_default()
}

/// A program that is not there, or is none, will not be one the next time. Another user than this process may not reach it
/// or its working directory.
fn not_started(path: &Path, user: Option<SandboxUser>, error: &io::Error) -> Failure {
    let user = user.map(|user| format!(" in its working directory as user {user}")).unwrap_or_default();
    let message = format!("cannot execute {}{user}: {error}", path.display());
    let never = [Errno::ENOENT, Errno::ENOTDIR, Errno::EACCES, Errno::ENOEXEC, Errno::EISDIR];
    Failure { message, permanent: error.raw_os_error().is_some_and(|code| never.contains(&Errno::from_raw(code))) }
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
        .process_group(0);
    Ok(command)
}

/// Makes a directory that only its owner enters, whatever the umask is.
fn make_private(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::set_permissions(directory, Permissions::from_mode(0o700))
}

/// A sandbox's working directory, removed with what is in it.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed now is removed when the worker starts again.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr},
        sync::Mutex,
    };

    use api::wire;
    use model::{Epoch, SandboxId};
    use tokio::{
        sync::mpsc,
        time::{advance, pause, resume},
    };

    use super::*;
    use crate::{
        config::ProcessConfig,
        runtime::{
            Progress, Runtime,
            process::{
                Process,
                port::{NO_PORT, Ports},
                port_queue::PortQueue,
                spawner::Spawner,
            },
        },
        starts::Starts,
    };

    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// A runtime whose sandboxes have only this port.
    fn with_port(port: u16, directory: &Path) -> Arc<Shared> {
        let free = Arc::new(Mutex::new(PortQueue::new([port].into())));
        Arc::new(Shared {
            config: ProcessConfig::default(),
            function: programs::path("trace-function").unwrap(),
            address: LOCALHOST,
            ports: Ports::of(free, LOCALHOST, &directory.join("ports")).unwrap(),
            directory: directory.to_owned(),
            nodes: vec!["n".to_owned()],
            spawner: Spawner::start().unwrap(),
            starts: Starts::shared(1),
            cgroups: None,
            table: Mutex::default(),
            monitor: Mutex::default(),
        })
    }

    #[tokio::test]
    async fn the_wait_for_a_port_is_a_step_of_its_own_and_no_preparation() {
        let (progress, mut progressed) = mpsc::channel(4);
        let spec = wire::RevisionSpec { image: "builtin:function".to_owned(), memory_mib: 64, ..Default::default() };
        let (sandbox, spec) = (SandboxId::new(Epoch(1), 1).unwrap(), Arc::new(spec));
        let order = Order { sandbox, node: 0, spec, cancel: CancellationToken::new(), progress };
        let dir = tempfile::tempdir().unwrap();
        let others = Ports::open(LOCALHOST, &dir.path().join("ports-of-others")).unwrap();
        let kept = others.take(&order).await.unwrap();
        let shared = with_port(kept.address().port(), dir.path());
        let mut made = Box::pin(start(Arc::clone(&shared), order));
        tokio::select! {
            biased;
            _ = &mut made => panic!("its port is kept"),
            queued = progressed.recv() => assert_eq!(queued, Some((sandbox, Progress::Queued(NO_PORT)))),
        }
        let minute = Duration::from_secs(60);
        pause();
        advance(minute).await;
        resume();
        drop(kept);
        let Made { steps, create, .. } = made.await.unwrap();
        assert_eq!(steps.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["wait", "port", "prepare", "spawn"]);
        let took: Vec<_> = steps.iter().map(|(_, took)| *took).collect();
        assert!(took[1] >= minute && took[2] < minute && create >= minute, "{steps:?}");
        Process(shared).delete(sandbox).await;
    }
}
