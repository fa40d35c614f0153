//! The tables in which a sandbox is counted. The methods here change them together, so that they never disagree.

use model::{FunctionId, SandboxId};

use super::{
    function::Functions,
    nodes::Nodes,
    sandbox::{Sandbox, SandboxState},
    sandboxes::Sandboxes,
    timers::{SandboxTimer, Timers},
};

/// Functions, nodes and sandboxes, with their timers.
#[derive(Default)]
pub(in crate::state) struct Tables {
    pub(in crate::state) functions: Functions,
    pub(in crate::state) nodes: Nodes,
    pub(in crate::state) sandboxes: Sandboxes,
    pub(in crate::state) timers: Timers,
}

impl Tables {
    /// Adds a sandbox that is to be created, if its node has room for it; `false` otherwise.
    pub(in crate::state) fn add_commanded(&mut self, id: SandboxId, sandbox: Sandbox) -> bool {
        let has_room = self.nodes.reserve(sandbox.node, id, sandbox.resources);
        if has_room {
            self.insert(id, sandbox);
        }
        has_room
    }

    /// Adds a sandbox that exists already, whether its node has room for it or not.
    pub(in crate::state) fn add_found(&mut self, id: SandboxId, sandbox: Sandbox) {
        self.nodes.adopt(sandbox.node, id, sandbox.resources);
        self.insert(id, sandbox);
    }

    fn insert(&mut self, id: SandboxId, sandbox: Sandbox) {
        if sandbox.state == SandboxState::Starting {
            self.timers.watch(sandbox.creation_due_us, id, SandboxTimer::Creation);
            self.nodes.get_mut(sandbox.node).starting += 1;
        }
        if let Some(function) = self.functions.known_mut(sandbox.function) {
            function.add_sandbox(id, sandbox.state);
            function.note_free(id, sandbox.is_free());
        }
        self.sandboxes.insert(id, sandbox);
    }

    /// Changes the state of a sandbox.
    pub(in crate::state) fn set_sandbox_state(&mut self, id: SandboxId, state: SandboxState) {
        let Some((before, sandbox)) = self.sandboxes.set_state(id, state) else { return };
        if before == SandboxState::Starting {
            self.timers.forget(sandbox.creation_due_us, id, SandboxTimer::Creation);
            self.nodes.get_mut(sandbox.node).starting -= 1;
        }
        if let Some(function) = self.functions.known_mut(sandbox.function) {
            function.count(before, state);
            function.note_free(id, sandbox.is_free());
        }
    }

    /// Removes a sandbox without a grant, and releases its resources. A deregistered function is removed with its last
    /// sandbox.
    pub(in crate::state) fn remove_sandbox(&mut self, id: SandboxId) {
        let Some(sandbox) = self.sandboxes.remove(id) else { return };
        debug_assert!(sandbox.grant().is_none(), "its grant is ended before");
        if sandbox.state() == SandboxState::Starting {
            self.timers.forget(sandbox.creation_due_us, id, SandboxTimer::Creation);
            self.nodes.get_mut(sandbox.node).starting -= 1;
        }
        self.nodes.release(sandbox.node, id, sandbox.resources);
        if let Some(function) = self.functions.known_mut(sandbox.function) {
            function.remove_sandbox(id, sandbox.state());
            if function.removed && function.sandboxes.is_empty() {
                self.remove_function(sandbox.function);
            }
        }
    }

    /// Removes a function without sandboxes.
    pub(in crate::state) fn remove_function(&mut self, id: FunctionId) {
        self.decide_again_at(id, None);
        self.functions.remove(id);
    }

    /// Gives a creation until `due_us`; `queued` if it has not begun, since it waits for others of its worker.
    pub(in crate::state) fn set_creation_due(&mut self, id: SandboxId, due_us: u64, queued: bool) {
        let Some(sandbox) = self.sandboxes.known_mut(id) else { return };
        debug_assert_eq!(sandbox.state(), SandboxState::Starting, "only a creation has a deadline");
        self.timers.forget(sandbox.creation_due_us, id, SandboxTimer::Creation);
        sandbox.creation_due_us = due_us;
        sandbox.queued_until_us = queued.then_some(due_us);
        self.timers.watch(due_us, id, SandboxTimer::Creation);
    }

    /// Decides on a function at `due_us` at the latest.
    pub(in crate::state) fn decide_by(&mut self, id: FunctionId, due_us: u64) {
        let due = self.functions.get(id).and_then(|function| function.due_us);
        self.decide_again_at(id, due.into_iter().chain([due_us]).min());
    }

    /// Decides on a function at `due_us`, and not before unless something happens to it.
    pub(in crate::state) fn decide_again_at(&mut self, id: FunctionId, due_us: Option<u64>) {
        if let Some(function) = self.functions.known_mut(id) {
            let old = std::mem::replace(&mut function.due_us, due_us);
            if old != due_us {
                self.timers.reschedule(id, old, due_us);
            }
        }
    }

    /// Takes the first function whose next decision is due.
    pub(in crate::state) fn pop_due_function(&mut self, now_us: u64) -> Option<FunctionId> {
        let id = self.timers.pop_due_function(now_us)?;
        if let Some(function) = self.functions.known_mut(id) {
            function.due_us = None;
        }
        Some(id)
    }
}
