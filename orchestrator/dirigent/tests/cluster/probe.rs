//! A function that knows how many invocations it runs at once, so that concurrency is judged by the sandbox itself and
//! not by what clients or data planes believe. It goes on working when its client has hung up, as programs do.
//!
//! It is this test's own executable, started by the process runtime to run nothing but the test below, which serves when
//! it finds itself in a sandbox.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    invocation::Invocation,
    wait::{check, wait_for},
};

/// Set in a sandbox: the directory of its observation.
const DIRECTORY: &str = "PROBE_DIRECTORY";
/// The workload that ends the sandbox that reads it.
pub(crate) const DEADLY: &str = "deadly";
/// The test below, by the name its runner knows it by.
const ITSELF: &str = "probe::the_probe_counts_what_runs_at_once";

/// Counts of one sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observation {
    /// Invocations that ran at once, at most.
    pub(crate) max_running: u32,
    /// Invocations that began.
    pub(crate) begun: u32,
}

/// The fields of a function whose sandboxes report to `directory`.
pub(crate) fn function(directory: &Path, concurrency: u32, max: u32) -> Value {
    json!({
        "image": format!("file:{}", env::current_exe().unwrap().display()),
        "args": arguments(),
        "env": { DIRECTORY: directory },
        "concurrency": concurrency,
        "scale": { "max": max },
    })
}

/// The observation of every sandbox that ran.
pub(crate) fn observations(directory: &Path) -> Vec<Observation> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| {
        let text = fs::read_to_string(path).ok()?;
        let (max_running, begun) = text.split_once(' ')?;
        Some(Observation { max_running: max_running.parse().ok()?, begun: begun.parse().ok()? })
    };
    files.filter(|path| path.extension().is_none()).filter_map(read).collect()
}

/// Fails if a sandbox ever ran more invocations at once than `concurrency`; says how many began in all.
pub(crate) fn assert_never_more_than(directory: &Path, concurrency: u32) -> u32 {
    let all = observations(directory);
    assert!(!all.is_empty(), "expected the observation of at least one sandbox in {}", directory.display());
    for observation in &all {
        assert!(
            observation.max_running <= concurrency,
            "expected at most {concurrency} at once in a sandbox, found {all:?}"
        );
    }
    all.iter().map(|observation| observation.begun).sum()
}

fn arguments() -> [&'static str; 3] {
    ["--exact", ITSELF, "--nocapture"]
}

#[test]
fn the_probe_counts_what_runs_at_once() {
    if let Some(directory) = env::var_os(DIRECTORY) {
        serve(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(arguments()).env(DIRECTORY, directory.path()).env("PORT", port.to_string()).stdout(Stdio::null());
    let sandbox = Ended(command.spawn().unwrap());
    let address = format!("127.0.0.1:{port}");
    wait_for("the probe to listen", || TcpStream::connect(&address).map_err(|error| error.to_string()));

    let twice = [(); 2].map(|()| Invocation::of("any").run_ms(500).begin(&address).unwrap());
    wait_for("two invocations at once in the observation", || {
        let seen = observations(directory.path());
        check(seen == [Observation { max_running: 2, begun: 2 }], format!("{seen:?}"))
    });
    for ongoing in twice {
        ongoing.response().unwrap().assert_ok();
    }
    // Hung up on, it goes on: the next one overlaps.
    drop(Invocation::of("any").run_ms(500).begin(&address).unwrap());
    wait_for("the third to begin", || {
        let seen = observations(directory.path());
        check(seen[0].begun == 3, format!("{seen:?}"))
    });
    let running = Invocation::of("any").at(&address).json()["running"].clone();
    assert_eq!(running, 2, "expected the probe to count what nobody waits for");
    drop(sandbox);
}

/// A child that is ended with the test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// State of a sandbox.
struct Probe {
    file: PathBuf,
    seen: Mutex<(u32, Observation)>,
}

/// Serves until the process is ended.
fn serve(directory: &Path) -> ! {
    let port: u16 = env::var("PORT").unwrap().parse().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let file = directory.join(std::process::id().to_string());
    let probe = Arc::new(Probe { file, seen: Mutex::default() });
    loop {
        let (stream, _) = listener.accept().unwrap();
        let probe = probe.clone();
        std::thread::spawn(move || {
            // A connection that breaks is its client's affair.
            let _ = probe.converse(stream);
        });
    }
}

impl Probe {
    /// Answers the requests of one connection, one after the other.
    fn converse(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        while let Some(request) = read_request(&mut reader)? {
            let running = self.begin();
            if request.is_deadly {
                std::process::exit(1);
            }
            wait(request.run);
            // Before the response, because the slot is free with the response's last byte.
            self.end();
            let body = json!({ "running": running }).to_string();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
            writer.write_all(format!("{head}\r\n\r\n{body}").as_bytes())?;
            if request.is_last {
                break;
            }
        }
        Ok(())
    }

    /// Takes note that one more runs; how many there are.
    fn begin(&self) -> u32 {
        let (running, observation) = &mut *self.seen.lock().unwrap();
        *running += 1;
        observation.max_running = observation.max_running.max(*running);
        observation.begun += 1;
        // Renamed into place, so that a reader and a killed probe leave it whole.
        let draft = self.file.with_extension("draft");
        fs::write(&draft, format!("{} {}", observation.max_running, observation.begun)).unwrap();
        fs::rename(&draft, &self.file).unwrap();
        *running
    }

    fn end(&self) {
        self.seen.lock().unwrap().0 -= 1;
    }
}

/// A request to a sandbox.
#[derive(Default)]
struct Request {
    run: Duration,
    /// The client wants no further one on this connection.
    is_last: bool,
    is_deadly: bool,
}

/// The next request; `None` at the end of the connection.
fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let (mut request, mut length) = (Request::default(), 0);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let text = line.trim_end().to_lowercase();
        if text.is_empty() {
            break;
        }
        match text.split_once(": ") {
            Some(("requested_cpu", value)) => request.run = Duration::from_millis(value.parse().unwrap()),
            Some(("workload", value)) => request.is_deadly = value == DEADLY,
            Some(("connection", value)) => request.is_last = value == "close",
            Some(("content-length", value)) => length = value.parse().unwrap(),
            _ => {}
        }
    }
    std::io::copy(&mut std::io::Read::take(&mut *reader, length), &mut std::io::sink())?;
    Ok(Some(request))
}

/// The work: it stands for work elsewhere, and nothing that the test waits for.
fn wait(run: Duration) {
    let until = Instant::now() + run;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}
