//! Clients that invoke functions one invocation after the other until they are told to stop, and note every answer.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use tokio::time::Instant;

use crate::{
    http::{Answer, Ongoing},
    invocation::Invocation,
};

/// One invocation and how it ended.
#[derive(Debug)]
pub(crate) struct Noted {
    pub(crate) function: String,
    pub(crate) sent: Instant,
    /// An error is an invocation without an answer.
    pub(crate) outcome: Result<Answer, String>,
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
                    let outcome = invocation.begin(&address).and_then(Ongoing::answer);
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
