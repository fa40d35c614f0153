//! Heartbeats of workers, collected outside the owner: thousands of workers give four a second each, and none of them
//! is worth waking the owner for. It takes them up with whatever it handles next, at the latest when it looks at who is
//! silent.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use api::wire::WorkerHeartbeat;

use crate::state::Map;

/// Who may send heartbeats, and the newest of each since the owner last looked.
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
    /// Where its stream comes from, if that is known: datagrams from elsewhere are not its own.
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

    /// A heartbeat came at that time of the control plane's clock, in microseconds; `from` that address if it was a
    /// datagram, which anybody may send. False, and nothing noted, when it is no connected worker's.
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
