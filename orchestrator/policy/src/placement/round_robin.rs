//! Placement `round-robin`: each node in turn, over all functions that use it.
//!
//! The order is that of node keys, which is stable while other nodes come and go. Closed and full nodes are skipped.

use super::Policy;

pub(super) const POLICY: Policy = Policy {
    name: "round-robin",
    about: "the next node with room, in an order that all functions share",
    pick: |candidates| candidates.next_round_robin(),
};
