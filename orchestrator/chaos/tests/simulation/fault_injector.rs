//! Injects faults into the simulated network. Faults may overlap: the worst one determines the state of a link.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use turmoil::Sim;

use super::{
    event::Event,
    event_log::EventLog,
    fault::{Fault, Planned},
    host::Host,
};

/// The hosts whose program must not run. The software of a host checks this whenever it starts.
#[derive(Clone, Default)]
pub(crate) struct KilledHosts(Arc<Mutex<BTreeSet<Host>>>);

impl KilledHosts {
    /// Returns true if the program of `host` must not run.
    pub(crate) fn contains(&self, host: Host) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&host)
    }

    fn set(&self, host: Host, killed: bool) {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if killed {
            hosts.insert(host);
        } else {
            hosts.remove(&host);
        }
    }
}

/// The state of a link, from best to worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Link {
    #[default]
    Up,
    Held,
    Down,
}

/// Begins and ends the faults of a run.
pub(crate) struct FaultInjector {
    /// Future beginnings (true) and ends of faults with their times, the latest first.
    changes: Vec<(u64, bool, Fault)>,
    present: Vec<Fault>,
    hosts: Vec<Host>,
    links: BTreeMap<(Host, Host), Link>,
    killed: KilledHosts,
    event_log: EventLog,
}

impl FaultInjector {
    /// An injector for `planned` faults among `hosts`.
    pub(crate) fn new(planned: &[Planned], hosts: Vec<Host>, killed: KilledHosts, event_log: EventLog) -> Self {
        let begins = planned.iter().map(|plan| (plan.from_ms, true, plan.fault));
        let ends = planned.iter().map(|plan| (plan.until_ms, false, plan.fault));
        let mut changes: Vec<_> = begins.chain(ends).collect();
        // Stable, so that faults of the same millisecond keep the order of the plan.
        changes.sort_by_key(|(at_ms, ..)| std::cmp::Reverse(*at_ms));
        Self { changes, present: Vec::new(), hosts, links: BTreeMap::new(), killed, event_log }
    }

    /// Begins and ends the faults that are due.
    pub(crate) fn advance(&mut self, sim: &mut Sim<'_>, now_ms: u64) {
        while let Some((_, begins, fault)) = self.changes.pop_if(|(at_ms, ..)| *at_ms <= now_ms) {
            if begins {
                self.event_log.record(Event::FaultBegan { fault });
                self.present.push(fault);
                self.set_links(sim);
                self.stop(sim, fault);
            } else {
                self.event_log.record(Event::FaultEnded { fault });
                self.present.retain(|present| *present != fault);
                self.set_links(sim);
                self.start(sim, fault);
            }
        }
    }

    /// Ends the program. The links of a lost machine are down before, so that its connections cannot be closed
    /// properly.
    fn stop(&self, sim: &mut Sim<'_>, fault: Fault) {
        match fault {
            Fault::Kill(host) => {
                self.killed.set(host, true);
                // The restarted software waits without a listener, so connections are refused.
                sim.bounce(host.name());
            }
            Fault::Lose(host) => sim.crash(host.name()),
            Fault::Cut(..) | Fault::Stall(..) => {}
        }
    }

    fn start(&self, sim: &mut Sim<'_>, fault: Fault) {
        if let Some(host) = fault.down() {
            self.killed.set(host, false);
            sim.bounce(host.name());
        }
    }

    fn set_links(&mut self, sim: &Sim<'_>) {
        for (index, &a) in self.hosts.iter().enumerate() {
            for &b in &self.hosts[index + 1..] {
                let wanted = self.present.iter().map(|fault| effect(*fault, a, b)).max().unwrap_or_default();
                let present = self.links.insert((a, b), wanted).unwrap_or_default();
                let (a, b) = (a.name(), b.name());
                match (present, wanted) {
                    (Link::Held, Link::Up) => sim.release(a, b),
                    (Link::Down, Link::Up) => sim.repair(a, b),
                    (Link::Up | Link::Held, Link::Down) => sim.partition(a, b),
                    (Link::Up | Link::Down, Link::Held) => sim.hold(a, b),
                    _ => {}
                }
            }
        }
    }
}

/// The state of the link between two machines under a fault.
fn effect(fault: Fault, a: Host, b: Host) -> Link {
    let joins = |c: Host, d: Host| (a, b) == (c, d) || (b, a) == (c, d);
    match fault {
        Fault::Cut(c, d) if joins(c, d) => Link::Down,
        Fault::Stall(c, d) if joins(c, d) => Link::Held,
        Fault::Lose(host) if host == a || host == b => Link::Down,
        _ => Link::Up,
    }
}
