//! For tests: what the tables keep of each other, counted from the sandboxes, functions and nodes alone.

use std::collections::{BTreeMap, BTreeSet};

use model::{Resources, SandboxId};
use policy::placement::NodeKey;

use super::{Cluster, SandboxState, SandboxTimer, totals::Totals};

impl Cluster {
    /// # Panics
    /// If a table does not agree with another one.
    pub(in crate::state) fn assert_consistent(&self) {
        let counted = Totals::count(self.tables.sandboxes.iter().map(|(_, sandbox)| sandbox));
        assert_eq!(self.tables.sandboxes.uncounted_totals(), counted, "counts over all sandboxes");
        self.assert_timers();
        self.assert_nodes();
        self.assert_functions();
        let is_live = |id| self.tables.functions.get(id).is_some_and(|function| !function.removed);
        assert!(self.unschedulable.functions().all(is_live), "only registered functions wait for room");
    }

    pub(in crate::state) fn watches_creation(&self, id: SandboxId) -> bool {
        self.tables.timers.sandboxes(SandboxTimer::Creation).any(|due| due == id)
    }

    fn assert_timers(&self) {
        let mut creations = 0;
        for (id, sandbox) in self.tables.sandboxes.iter() {
            let has_deadline = self.tables.timers.has_sandbox(sandbox.creation_due_us, id, SandboxTimer::Creation);
            creations += usize::from(has_deadline);
            match sandbox.state() {
                // One that is queued is overdue after its deadline, and checked with the others of its kind.
                SandboxState::Starting => {
                    assert!(has_deadline || sandbox.queued_until_us.is_some(), "{id} has a deadline");
                }
                _ => assert!(!has_deadline, "{id} does not start any more"),
            }
            let is_drained = sandbox.state() == SandboxState::Draining;
            assert!(
                !is_drained || self.tables.timers.sandboxes(SandboxTimer::Drain).any(|due| due == id),
                "{id} is drained"
            );
        }
        assert_eq!(self.tables.timers.sandboxes(SandboxTimer::Creation).count(), creations, "each is of a creation");
        let due: BTreeSet<_> = self
            .tables
            .functions
            .iter()
            .filter_map(|function| Some((function.due_us?, function.registered.id)))
            .collect();
        assert_eq!(*self.tables.timers.functions(), due, "when functions are due");
    }

    fn assert_nodes(&self) {
        let mut of_workers: BTreeMap<&str, usize> = BTreeMap::new();
        for (key, node) in self.tables.nodes.iter() {
            let there = || self.tables.sandboxes.iter().filter(|(_, sandbox)| sandbox.node == key);
            let ids: BTreeSet<_> = there().map(|(id, _)| id).collect();
            assert_eq!(*node.sandboxes(), ids, "sandboxes of {}", node.name);
            let starting = there().filter(|(_, sandbox)| sandbox.state() == SandboxState::Starting).count();
            assert_eq!(node.starting as usize, starting, "creations on {}", node.name);
            let sum = |of: fn(&Resources) -> u64| there().map(|(_, sandbox)| of(&sandbox.resources)).sum::<u64>();
            let reserved = Resources {
                cpu_millicores: sum(|resources| resources.cpu_millicores),
                memory_mib: sum(|resources| resources.memory_mib),
            };
            assert_eq!(self.tables.nodes.pool().reserved(key), Some(reserved), "resources of {}", node.name);
            self.assert_open(key);
            *of_workers.entry(node.worker()).or_default() += ids.len();
        }
        of_workers.retain(|_, sandboxes| *sandboxes > 0);
        assert_eq!(self.tables.nodes.sandboxes_of_workers(), of_workers, "sandboxes of each worker");
    }

    fn assert_open(&self, key: NodeKey) {
        let node = self.tables.nodes.get(key);
        assert_eq!(self.tables.nodes.pool().is_open(key), node.is_in_service(), "{} takes sandboxes", node.name);
    }

    fn assert_functions(&self) {
        let known: BTreeSet<_> = self.tables.functions.iter().map(|function| function.registered.id).collect();
        assert!(
            self.tables.sandboxes.iter().all(|(_, sandbox)| known.contains(&sandbox.function)),
            "each is of a function"
        );
        for function in self.tables.functions.iter() {
            let id = function.registered.id;
            let of_it = || self.tables.sandboxes.iter().filter(|(_, sandbox)| sandbox.function == id);
            let in_state = |state| of_it().filter(|(_, sandbox)| sandbox.state() == state).count();
            assert_eq!(function.sandboxes, of_it().map(|(id, _)| id).collect(), "sandboxes of function {id}");
            assert_eq!(function.ready as usize, in_state(SandboxState::Ready), "ready ones of function {id}");
            assert_eq!(function.starting as usize, in_state(SandboxState::Starting), "starting ones of function {id}");
            let free = of_it().filter(|(_, sandbox)| sandbox.is_free()).map(|(id, _)| id);
            assert_eq!(function.free, free.collect(), "free ones of function {id}");
            let mut held = BTreeMap::new();
            for grant in of_it().filter_map(|(_, sandbox)| sandbox.grant()) {
                let (slots, under_way) = held.entry(grant.data_plane).or_insert((0, 0));
                *slots += grant.slots;
                *under_way += if grant.acknowledged { 0 } else { grant.slots };
            }
            for (key, load) in &function.loads {
                let counted = held.remove(key).unwrap_or_default();
                assert_eq!((load.held, load.under_way), counted, "slots of function {id} at {key:?}");
            }
            assert!(held.is_empty(), "every holder has a load");
        }
    }
}
