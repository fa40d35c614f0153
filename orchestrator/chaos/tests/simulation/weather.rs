//! Carries faults out on the simulated network. Faults may overlap: a link is as bad as the worst of them makes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use turmoil::Sim;

use super::{
    event::Event,
    fault::{Fault, Planned},
    host::Host,
    ledger::Ledger,
};

/// Which programs may run: asked by a host's software whenever it is started.
#[derive(Clone, Default)]
pub(crate) struct Killed(Arc<Mutex<BTreeSet<Host>>>);

impl Killed {
    /// Whether the program of `host` is dead.
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

/// How well a link works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Link {
    #[default]
    Up,
    Held,
    Down,
}

/// The faults of a run, past, present and to come.
pub(crate) struct Weather {
    /// Beginnings and ends to come, the latest first.
    changes: Vec<(u64, bool, Fault)>,
    present: Vec<Fault>,
    hosts: Vec<Host>,
    links: BTreeMap<(Host, Host), Link>,
    killed: Killed,
    ledger: Ledger,
}

impl Weather {
    /// The weather among `hosts`.
    pub(crate) fn new(planned: &[Planned], hosts: Vec<Host>, killed: Killed, ledger: Ledger) -> Self {
        let begins = planned.iter().map(|plan| (plan.from_ms, true, plan.fault));
        let ends = planned.iter().map(|plan| (plan.until_ms, false, plan.fault));
        let mut changes: Vec<_> = begins.chain(ends).collect();
        // Stable, so that faults of the same millisecond keep the order of the plan.
        changes.sort_by_key(|(at_ms, ..)| std::cmp::Reverse(*at_ms));
        Self { changes, present: Vec::new(), hosts, links: BTreeMap::new(), killed, ledger }
    }

    /// Carries out what is due.
    pub(crate) fn advance(&mut self, sim: &mut Sim<'_>, now_ms: u64) {
        while let Some((_, begins, fault)) = self.changes.pop_if(|(at_ms, ..)| *at_ms <= now_ms) {
            if begins {
                self.ledger.record(Event::Struck { fault });
                self.present.push(fault);
                self.set_links(sim);
                self.stop(sim, fault);
            } else {
                self.ledger.record(Event::Healed { fault });
                self.present.retain(|present| *present != fault);
                self.set_links(sim);
                self.start(sim, fault);
            }
        }
    }

    /// Ends the program. The links are down already when the machine is lost, so that no farewell gets out.
    fn stop(&self, sim: &mut Sim<'_>, fault: Fault) {
        match fault {
            Fault::Kill(host) => {
                self.killed.set(host, true);
                // What takes its place takes no connections, so they are refused.
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

/// What a fault does to the link between two machines.
fn effect(fault: Fault, a: Host, b: Host) -> Link {
    let joins = |c: Host, d: Host| (a, b) == (c, d) || (b, a) == (c, d);
    match fault {
        Fault::Cut(c, d) if joins(c, d) => Link::Down,
        Fault::Stall(c, d) if joins(c, d) => Link::Held,
        Fault::Lose(host) if host == a || host == b => Link::Down,
        _ => Link::Up,
    }
}
