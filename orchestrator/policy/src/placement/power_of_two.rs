//! Placement `power-of-two`: of two random nodes with room, the one that would be less full.
//!
//! Two choices instead of one reduce the greatest load from O(log n / log log n) to O(log log n) above the average
//! (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001), for the price of one more sample.

use super::{Candidates, NodeKey, Policy};

pub(super) const POLICY: Policy = Policy {
    name: "power-of-two",
    about: "of two random nodes with room, the one with the lower reserved share",
    pick,
};

fn pick(candidates: &mut Candidates<'_>) -> Option<NodeKey> {
    let first = candidates.draw(None)?;
    // Another one than the first: a node compared with itself is no second choice.
    let Some(second) = candidates.draw(Some(first)) else { return Some(first) };
    let second_is_emptier = candidates.reserved_share_after(second) < candidates.reserved_share_after(first);
    Some(if second_is_emptier { second } else { first })
}
