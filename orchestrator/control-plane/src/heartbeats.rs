//! Heartbeats of workers, collected outside the owner: thousands of workers send four a second each, and none of them
//! is worth waking the owner for. The owner takes them with whatever input it handles next, at the latest before it
//! checks the health of workers.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use api::wire::WorkerHeartbeat;

use crate::state::Map;

/// The workers that may send heartbeats, and the newest heartbeat of each since the owner took them last.
#[derive(Default)]
pub(crate) struct Heartbeats(Mutex<Table>);

#[derive(Default)]
struct Table {
    connected: Map<String, Sender>,
    received: Map<String, u64>,
}

/// A connected worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    /// Its process.
    pub(crate) instance: Option<u64>,
    /// Source address of its stream, if known. A datagram from elsewhere is ignored: anybody can send one with its
    /// name.
    pub(crate) address: Option<IpAddr>,
}

impl Heartbeats {
    /// A worker is connected.
    pub(crate) fn connect(&self, worker: String, sender: Sender) {
        self.lock().connected.insert(worker, sender);
    }

    /// A worker is not connected any more; another process of its name still is.
    pub(crate) fn disconnect(&self, worker: &str, sender: Sender) {
        let mut table = self.lock();
        if table.connected.get(worker) == Some(&sender) {
            table.connected.remove(worker);
        }
    }

    /// Records a heartbeat that was received at `at_us` of the control plane's clock; `from` is the source address of a
    /// datagram, which anybody may send. Returns false, and records nothing, if it is of no connected worker.
    pub(crate) fn note(&self, heartbeat: WorkerHeartbeat, from: Option<IpAddr>, at_us: u64) -> bool {
        let mut table = self.lock();
        let is_known = table.connected.get(&heartbeat.worker).is_some_and(|sender| {
            let comes_from_there = match (from, sender.address) {
                (Some(from), Some(address)) => from.to_canonical() == address.to_canonical(),
                _ => true,
            };
            sender.instance.unwrap_or(0) == heartbeat.instance && comes_from_there
        });
        if is_known {
            table.received.insert(heartbeat.worker, at_us);
        }
        is_known
    }

    /// Those since the last call.
    pub(crate) fn take(&self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.lock().received).into_iter().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_connected_process_gives_signs_of_life_and_from_its_own_address() {
        let heartbeats = Heartbeats::default();
        let at = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        let heartbeat =
            |worker: &str, instance| WorkerHeartbeat { worker: worker.to_owned(), instance, ..Default::default() };
        assert!(!heartbeats.note(heartbeat("w", 1), at("10.0.0.1"), 1), "it is not connected");
        heartbeats.connect("w".to_owned(), Sender { instance: Some(1), address: at("10.0.0.1") });
        for (instance, from) in [(2, "10.0.0.1"), (0, "10.0.0.1"), (1, "10.0.0.2")] {
            assert!(!heartbeats.note(heartbeat("w", instance), at(from), 2), "{instance} from {from}");
        }
        assert!(!heartbeats.note(heartbeat("v", 1), at("10.0.0.1"), 2));
        assert_eq!(heartbeats.take(), []);
        assert!(heartbeats.note(heartbeat("w", 1), at("::ffff:10.0.0.1"), 3));
        assert!(heartbeats.note(heartbeat("w", 1), None, 4), "over a stream");
        assert_eq!(heartbeats.take(), [("w".to_owned(), 4)]);
        heartbeats.disconnect("w", Sender { instance: Some(2), address: None });
        assert!(heartbeats.note(heartbeat("w", 1), at("10.0.0.1"), 5), "another one of its name has left");
        heartbeats.disconnect("w", Sender { instance: Some(1), address: at("10.0.0.1") });
        assert!(!heartbeats.note(heartbeat("w", 1), at("10.0.0.1"), 6));
    }
}
