//! Placement `round-robin`: each node in turn, over all functions that use it.
//!
//! Turns go by node key, which stays when other nodes come and go. Nodes that are closed or full lose their turn.

use super::Policy;

pub(super) const POLICY: Policy = Policy {
    name: "round-robin",
    about: "the next node with room, in an order that all functions share",
    pick: |candidates| candidates.next_round_robin(),
};
