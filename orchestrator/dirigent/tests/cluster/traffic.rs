//! Clients that invoke functions one invocation after the other until they are stopped, and record every response.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    http::{HttpResponse, Ongoing},
    invocation::Invocation,
    wait::{check, wait_for},
};

/// One invocation and how it ended.
#[derive(Debug)]
pub(crate) struct Noted {
    pub(crate) function: String,
    pub(crate) sent: Instant,
    /// An error is an invocation without a response.
    pub(crate) outcome: Result<HttpResponse, String>,
}

/// Number of failures by status and error word; an invocation without a response is `none`. What was seen is also
/// written to the test's output, for those who read it.
pub(crate) fn failures(what: &str, noted: &[Noted]) -> BTreeMap<String, usize> {
    let mut failures = BTreeMap::new();
    let mut longest = Duration::ZERO;
    let mut failed = Vec::new();
    for note in noted {
        let failure = match &note.outcome {
            Ok(response) => {
                longest = longest.max(response.took);
                let is_ok = response.status == 200 && response.error().is_empty();
                (!is_ok).then(|| format!("{} {}", response.status, response.error()))
            }
            Err(_) => Some("none".to_owned()),
        };
        if let Some(failure) = failure {
            *failures.entry(failure).or_default() += 1;
            failed.push(note.sent);
        }
    }
    let lasted = failed.iter().max().zip(failed.iter().min()).map_or(Duration::ZERO, |(last, first)| *last - *first);
    eprintln!("{what}: {} invocations, failures {failures:?} over {lasted:?}, longest answer {longest:?}", noted.len());
    failures
}

/// Fails unless the function responded to every invocation.
pub(crate) fn assert_no_failure(what: &str, noted: &[Noted]) {
    let failed = noted.iter().find(|note| !note.outcome.as_ref().is_ok_and(|response| response.status == 200));
    assert!(failures(what, noted).is_empty(), "expected every invocation to be answered by its function: {failed:?}");
}

/// Clients under way.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    noted: Arc<Mutex<Vec<Noted>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// One client for each of `functions`, whose invocations run for `run_ms`.
    pub(crate) fn start(address: &str, functions: &[&str], run_ms: u32) -> Self {
        let (stop, noted) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let client = |function: &&str| {
            let (stop, noted) = (stop.clone(), noted.clone());
            let (address, function) = (address.to_owned(), (*function).to_owned());
            std::thread::spawn(move || {
                let invocation = Invocation::of(&function).run_ms(run_ms);
                while !stop.load(Ordering::Relaxed) {
                    let sent = Instant::now();
                    let outcome = invocation.begin(&address).and_then(Ongoing::response);
                    noted.lock().unwrap().push(Noted { function: function.clone(), sent, outcome });
                }
            })
        };
        let clients = functions.iter().map(client).collect();
        Self { stop, noted, clients }
    }

    /// Invocations that have ended so far.
    pub(crate) fn count(&self) -> usize {
        self.noted.lock().unwrap().len()
    }

    /// Waits until `more` invocations have ended from now on.
    pub(crate) fn wait_for_more(&self, more: usize) {
        let until = self.count() + more;
        wait_for("traffic", || check(self.count() >= until, format!("{} of {until}", self.count())));
    }

    /// Stops, and gives everything noted.
    pub(crate) fn stop(mut self) -> Vec<Noted> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().unwrap();
        }
        std::mem::take(&mut *self.noted.lock().unwrap())
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
