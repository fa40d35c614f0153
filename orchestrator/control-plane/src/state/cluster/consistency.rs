//! For tests: counts everything that the tables keep about each other from the sandboxes alone.

use std::collections::{BTreeMap, BTreeSet};

use super::{Cluster, SandboxState, SandboxTimer};

impl Cluster {
    /// # Panics
    /// If a table does not agree with the sandboxes.
    pub(in crate::state) fn assert_consistent(&self) {
        let _ = self.sandboxes.totals();
        self.assert_nodes();
        self.assert_functions();
        for (id, sandbox) in self.sandboxes.iter() {
            let has_timer = self.timers.has_sandbox(sandbox.creation_due_us, id, SandboxTimer::Creation);
            match sandbox.state() {
                // One that is queued is overdue after its deadline, and checked with the others of its kind.
                SandboxState::Starting => {
                    assert!(has_timer || sandbox.queued_until_us.is_some(), "{id} has a deadline")
                }
                _ => assert!(!has_timer, "{id} does not start any more"),
            }
            assert!(self.functions.get(sandbox.function).is_some(), "{id} is of a function");
        }
    }

    fn assert_nodes(&self) {
        for (key, node) in self.nodes.iter() {
            let there = || self.sandboxes.iter().filter(|(_, sandbox)| sandbox.node == key);
            let ids: BTreeSet<_> = there().map(|(id, _)| id).collect();
            assert_eq!(node.sandboxes, ids, "sandboxes of {}", node.name);
            let starting = there().filter(|(_, sandbox)| sandbox.state() == SandboxState::Starting).count();
            assert_eq!(node.starting as usize, starting, "creations on {}", node.name);
        }
    }

    fn assert_functions(&self) {
        for function in self.functions.iter() {
            let id = function.registered.id;
            let of_it = || self.sandboxes.iter().filter(|(_, sandbox)| sandbox.function == id);
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
