//! Explains why no node has room: the largest node in service, and the reasons why the others are out of service.

use model::Resources;

/// In service, or the first reason why no sandbox may be placed on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::state) enum Service {
    In,
    WorkerFull,
    Drained,
    Leaving,
    Suspect,
    Dead,
}

/// All nodes together, as seen by who finds no room on any.
pub(in crate::state) struct Offer {
    is_empty: bool,
    /// The most CPU and the most memory of those in service; not all of it need be one node's.
    largest: Option<Resources>,
    missing: Missing,
}

/// Number of nodes out of service, by reason.
#[derive(Debug, Default)]
struct Missing {
    worker_full: u32,
    drained: u32,
    leaving: u32,
    suspect: u32,
    dead: u32,
}

impl Offer {
    /// Of these nodes.
    pub(in crate::state) fn of(nodes: impl Iterator<Item = (Service, Resources)>) -> Self {
        let mut offer = Self { is_empty: true, largest: None, missing: Missing::default() };
        for (service, capacity) in nodes {
            offer.is_empty = false;
            match service {
                Service::In => offer.largest = Some(larger(offer.largest.unwrap_or_default(), capacity)),
                out => offer.missing.count(out),
            }
        }
        offer
    }

    /// The reason why no sandbox of this size finds room, for operators.
    pub(in crate::state) fn no_room(&self, wanted: Resources) -> String {
        let size = |of: Resources| format!("{} MiB and {} millicores", of.memory_mib, of.cpu_millicores);
        if self.is_empty {
            return "no node has room: no worker has joined the cluster".to_owned();
        }
        match (self.largest, self.missing.in_words()) {
            (None, why) => format!("no node is in service: {}", why.unwrap_or_default()),
            (Some(largest), why) => {
                let bound =
                    if wanted.fits_in(largest) { String::new() } else { format!(" (largest {})", size(largest)) };
                let why = why.map(|why| format!("; of the others {why}")).unwrap_or_default();
                format!("no node has room for {}{bound}{why}", size(wanted))
            }
        }
    }
}

impl Missing {
    fn count(&mut self, service: Service) {
        match service {
            Service::In => {}
            Service::WorkerFull => self.worker_full += 1,
            Service::Drained => self.drained += 1,
            Service::Leaving => self.leaving += 1,
            Service::Suspect => self.suspect += 1,
            Service::Dead => self.dead += 1,
        }
    }

    /// `None` when none is missing.
    fn in_words(&self) -> Option<String> {
        let parts = [
            (self.worker_full, "of a worker that has as many sandboxes as one may have"),
            (self.drained, "drained (`dirigent node drain NAME --undo` takes it back)"),
            (self.leaving, "ending"),
            (self.suspect, "suspect (not heard of)"),
            (self.dead, "dead"),
        ];
        let text = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let text: Vec<String> = text.collect();
        (!text.is_empty()).then(|| text.join(", "))
    }
}

fn larger(one: Resources, other: Resources) -> Resources {
    Resources {
        cpu_millicores: one.cpu_millicores.max(other.cpu_millicores),
        memory_mib: one.memory_mib.max(other.memory_mib),
    }
}
