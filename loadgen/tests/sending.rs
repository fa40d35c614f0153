//! Requests as they reach the system: connections are used as configured, and nothing is sent twice.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod mock;
mod program;

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{IpAddr, TcpListener},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use mock::Mock;
use program::{Running, Scratch, ended, loadgen, replay, wait_until};
use record::Outcome;

/// A server that answers the first `responses` requests of a connection, reads one more and closes; without `reading`
/// it closes at once after its last response. Its address, and how many invocations reached it.
fn closing(responses: usize, reading: bool) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, counted) = (stream.unwrap(), Arc::clone(&counted));
            thread::spawn(move || {
                let mut request = [0; 2048];
                let body = r#"{"Status":"OK","Function":"ok","MachineName":"m","ExecutionTime":1}"#;
                let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                for turn in 0..responses + usize::from(reading) {
                    if !matches!(stream.read(&mut request), Ok(1..)) {
                        return;
                    }
                    // Where nothing succeeds, it is probed; that is no invocation.
                    counted.fetch_add(usize::from(request.starts_with(b"POST ")), Ordering::Relaxed);
                    if turn < responses && stream.write_all(response.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, requests)
}

#[test]
fn nothing_that_was_written_is_sent_again() {
    let rows: Vec<(u64, &str)> = (0..30).map(|n| (n * 10, "ok")).collect();
    // Of each connection: no request gets a response, the first is, or the first two are.
    for responses in 0..3 {
        let (scratch, (address, requests)) = (Scratch::new(), closing(responses, true));
        let schedule = scratch.schedule(&rows);
        let (code, _, errors) = replay(&scratch, &schedule, &address, &[]);
        assert!(code == 0 || code == 3, "{code}: {errors}");
        let found = scratch.rows();
        assert_eq!((found.len(), requests.load(Ordering::Relaxed)), (30, 30), "each is executed at most once");
        let lost: Vec<_> = found.iter().filter(|row| row.outcome != Outcome::Ok).collect();
        assert!(lost.len() >= 30 / (responses + 1) - 5, "{} of 30 lost with {responses} responses each", lost.len());
        for row in lost {
            let error = row.error.as_deref().unwrap_or_default();
            assert!(row.outcome == Outcome::Error && error.contains("without a response"), "{row:?}");
        }
    }
}

/// A server that speaks just enough HTTP/2 to receive requests, counts the requests of each connection and closes it then.
fn closing_h2c() -> (String, Arc<AtomicUsize>) {
    const PREFACE: usize = 24;
    const HEADERS: u8 = 1;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, counted) = (stream.unwrap(), Arc::clone(&counted));
            thread::spawn(move || {
                stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
                stream.read_exact(&mut [0; PREFACE]).unwrap();
                let mut head = [0; 9];
                while stream.read_exact(&mut head).is_ok() {
                    let length = usize::from(head[1]) << 8 | usize::from(head[2]);
                    stream.read_exact(&mut vec![0; length]).unwrap();
                    if head[3] == HEADERS {
                        counted.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                }
            });
        }
    });
    (address, requests)
}

#[test]
fn nothing_that_was_written_is_sent_again_over_h2c() {
    let rows: Vec<(u64, &str)> = (0..30).map(|n| (n * 10, "ok")).collect();
    let (scratch, (address, requests)) = (Scratch::new(), closing_h2c());
    let schedule = scratch.schedule(&rows);
    let (code, _, errors) = replay(&scratch, &schedule, &address, &["--protocol", "h2c"]);
    assert!(code == 0 || code == 3, "{code}: {errors}");
    let found = scratch.rows();
    assert!(found.iter().all(|row| row.outcome == Outcome::Error), "{found:?}");
    assert!((25..=30).contains(&requests.load(Ordering::Relaxed)), "{requests:?} of 30");
}

#[test]
fn a_pooled_connection_closed_while_idle_is_not_the_systems_failure() {
    let (scratch, (address, requests)) = (Scratch::new(), closing(1, false));
    let schedule = scratch.schedule(&[(0, "ok"), (200, "ok"), (400, "ok")]);
    let (code, _, errors) = replay(&scratch, &schedule, &address, &[]);
    assert!(code == 0 || code == 3, "{code}: {errors}");
    let rows = scratch.rows();
    assert!(rows.iter().all(|row| (row.outcome, row.error.as_deref()) == (Outcome::Ok, None)), "{rows:?}");
    assert_eq!(requests.load(Ordering::Relaxed), 3);
}

#[test]
fn connections_opened_beforehand_are_used_round_robin() {
    let schedule = [(0, "ok"), (200, "ok"), (400, "ok")];
    let (scratch, counted) = (Scratch::new(), Mock::data_plane());
    let path = scratch.schedule(&schedule);
    // This server closes a connection that gets a second request, which would be an error.
    replay(&scratch, &path, &closing(1, true).0, &["--open-connections", "3"]);
    for row in scratch.rows() {
        assert_eq!((row.outcome, row.error.as_deref()), (Outcome::Ok, None), "{row:?}");
    }
    replay(&scratch, &path, &counted.address.to_string(), &["--open-connections", "7", "--overwrite"]);
    assert_eq!(*counted.accepted.lock().unwrap(), 7, "all are opened, whether they are needed or not");
    let (code, _, errors) = replay(&scratch, &path, "127.0.0.1:1", &["--open-connections", "1", "--overwrite"]);
    assert!(code == 1 && errors.contains("opening connections before the start"), "{code}: {errors}");
    let (code, _, errors) = replay(&scratch, &path, "127.0.0.1:1", &["--open-connections", "1", "--protocol", "h2c"]);
    assert!(code == 2 && errors.contains("pooled connections over http1"), "{code}: {errors}");
}

/// The number of sockets that each thread of a process waits for: an event queue each, whose entry in /proc lists them. A
/// queue that has several descriptors is listed several times.
fn watched(pid: u32) -> Vec<usize> {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return Vec::new() };
    let texts = descriptors.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    texts.map(|text| text.matches("tfd:").count()).filter(|watched| *watched > 3).collect()
}

#[test]
fn connections_opened_beforehand_are_shared_among_the_threads() {
    let (mock, scratch) = (Mock::data_plane(), Scratch::new());
    let rows: Vec<(u64, &str)> = (0..600).map(|n| (n * 100, "ok")).collect();
    let (schedule, address, out) = (scratch.schedule(&rows), mock.address.to_string(), scratch.path("out"));
    let more = ["--threads", "3", "--open-connections", "20", "--realtime", "off"];
    let fixed = ["run", "--schedule", &schedule, "--address", &address, "--out", &out];
    let running = Running(loadgen(&[&fixed[..], &more].concat()).spawn().unwrap());
    wait_until("invocations were answered", || mock.count("POST ok") >= 5);
    // Each has its own two descriptors beside its share of 6 or 7.
    wait_until("three threads carry a third each", || {
        let watched = watched(running.0.id());
        watched.len() >= 3 && watched.iter().all(|watched| (6..=10).contains(watched))
    });
    running.signal(nix::sys::signal::Signal::SIGINT);
    running.end();
}

#[test]
fn headers_are_added_as_typed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let requested = thread::spawn(move || {
        let (mut stream, mut request) = (listener.accept().unwrap().0, [0; 2048]);
        let length = stream.read(&mut request).unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let scratch = Scratch::new();
    let schedule = scratch.schedule(&[(0, "ok")]);
    replay(&scratch, &schedule, &address, &["--header", "X-Tenant: a b", "--header", "x-more: 1"]);
    let requested = requested.join().unwrap();
    assert!(requested.contains("\r\nx-tenant: a b\r\nx-more: 1\r\n"), "{requested}");
    let (code, _, errors) = replay(&scratch, &schedule, &address, &["--overwrite", "--header", "Host: other"]);
    assert!(code == 2 && errors.contains("--header: host is written"), "{code}: {errors}");
}

/// A server that notes where its connections come from, and closes them.
fn noting_sources() -> (String, Arc<Mutex<BTreeSet<IpAddr>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let sources = Arc::new(Mutex::new(BTreeSet::new()));
    let noted = Arc::clone(&sources);
    thread::spawn(move || {
        // Kept until all are there, so that those opened beforehand stay open.
        let mut kept = Vec::new();
        while let Ok((stream, from)) = listener.accept() {
            noted.lock().unwrap().insert(from.ip());
            kept.push(stream);
        }
    });
    (address, sources)
}

#[test]
fn connections_come_from_many_addresses_whatever_the_protocol_and_when_they_are_opened() {
    let rows: Vec<(u64, &str)> = (0..10).map(|n| (n, "ok")).collect();
    for more in [
        &["--protocol", "h2c", "--connections", "fresh"][..],
        &["--protocol", "http1", "--connections", "fresh"],
        &["--open-connections", "10"],
    ] {
        let (scratch, (address, sources)) = (Scratch::new(), noting_sources());
        let schedule = scratch.schedule(&rows);
        replay(&scratch, &schedule, &address, &[more, &["--timeout", "300ms"]].concat());
        // Where nothing succeeds, it is probed, from the first address.
        let of_invocations: Vec<IpAddr> =
            sources.lock().unwrap().iter().copied().filter(|ip| *ip != IpAddr::from([127, 0, 0, 1])).collect();
        assert_eq!(of_invocations.len(), 10, "{more:?}");
    }
}

/// A name of two addresses, in a mount namespace with a table of hosts of its own.
#[test]
fn all_addresses_of_a_name_are_used_round_robin_root() {
    if !Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|status| status.success()) {
        programs::say_skipped(
            "all_addresses_of_a_name_are_used_round_robin_root",
            "no mount namespace can be made here",
        );
        return;
    }
    let (listener, scratch) = (TcpListener::bind("0.0.0.0:0").unwrap(), Scratch::new());
    let port = listener.local_addr().unwrap().port();
    fs::write(scratch.path("hosts"), "127.0.0.2 both\n127.0.0.3 both\n").unwrap();
    let script = format!(
        "mount --bind {hosts} /etc/hosts && exec {loadgen} run --schedule {schedule} --address both:{port} \
         --timeout 200ms --out {out} --realtime off",
        hosts = scratch.path("hosts"),
        loadgen = env!("CARGO_BIN_EXE_loadgen"),
        schedule = scratch.schedule(&[(0, "ok"), (5, "ok"), (10, "ok"), (15, "ok")]),
        out = scratch.path("out")
    );
    let (code, _, errors) = ended(Command::new("unshare").args(["-rm", "sh", "-c", &script]).output().unwrap());
    // None gets a response: it is where they go that matters.
    assert_eq!(code, 3, "{errors}");
    let addresses: Vec<_> = scratch.rows().into_iter().filter_map(|row| row.address).collect();
    let expected = [2, 3, 2, 3].map(|last| format!("127.0.0.{last}:{port}"));
    assert_eq!(addresses, expected);
}

/// `localhost` as a name in both families, in a mount namespace with a table of hosts of its own.
#[test]
fn localhost_is_found_where_its_system_listens_root() {
    let usable = Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|status| status.success());
    let Some(listener) = TcpListener::bind("[::1]:0").ok().filter(|_| usable) else {
        let why = "no mount namespace can be made here, or there is no IPv6 loopback";
        programs::say_skipped("localhost_is_found_where_its_system_listens_root", why);
        return;
    };
    let (port, scratch) = (listener.local_addr().unwrap().port(), Scratch::new());
    fs::write(scratch.path("hosts"), "127.0.0.1 localhost\n::1 localhost\n").unwrap();
    let script = format!(
        "mount --bind {hosts} /etc/hosts && exec {loadgen} run --schedule {schedule} --address localhost:{port} \
         --timeout 200ms --out {out} --realtime off",
        hosts = scratch.path("hosts"),
        loadgen = env!("CARGO_BIN_EXE_loadgen"),
        schedule = scratch.schedule(&[(0, "ok")]),
        out = scratch.path("out")
    );
    let (code, _, errors) = ended(Command::new("unshare").args(["-rm", "sh", "-c", &script]).output().unwrap());
    assert!(code == 0 || code == 3, "{code}: {errors}");
    let rows = scratch.rows();
    assert_eq!((rows[0].outcome, rows[0].address.clone()), (Outcome::Timeout, Some(format!("[::1]:{port}"))));
}
