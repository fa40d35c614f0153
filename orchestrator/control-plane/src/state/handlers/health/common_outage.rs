//! Nodes that become unresponsive together: so many at once point to the control plane, or its network, as the cause.

use std::collections::BTreeSet;

use policy::placement::NodeKey;

/// Share of the nodes, in percent; if more become unresponsive together, the cause is likely to be here.
const SELF_SUSPICION_PERCENT: usize = 30;

/// A node whose heartbeats are missing.
#[derive(Clone, Copy)]
pub(super) struct Unresponsive<'a> {
    /// Time of its last heartbeat, in microseconds.
    pub(super) since_us: u64,
    pub(super) node: NodeKey,
    pub(super) worker: &'a str,
}

/// Groups of nodes whose last heartbeats are within `window_us` microseconds and that are more than the decisive share
/// of all `known` nodes. Nodes of one worker alone never form one, because a worker has one process and one link.
pub(super) fn unresponsive_together(
    mut unresponsive: Vec<Unresponsive<'_>>,
    known: usize,
    window_us: u64,
) -> Vec<BTreeSet<NodeKey>> {
    unresponsive.sort_by_key(|one| (one.since_us, one.node));
    let mut groups = Vec::new();
    // The scan is linear: the end of a group only moves forward, and a group within the one before is skipped.
    let (mut end, mut covered) = (0, 0);
    // First node after `begin` that is of another worker.
    let mut other_worker = 0;
    for begin in 0..unresponsive.len() {
        let first = unresponsive[begin];
        while unresponsive.get(end).is_some_and(|one| one.since_us - first.since_us <= window_us) {
            end += 1;
        }
        other_worker = other_worker.max(begin);
        while unresponsive.get(other_worker).is_some_and(|one| one.worker == first.worker) {
            other_worker += 1;
        }
        let are_many = (end - begin) * 100 > known * SELF_SUSPICION_PERCENT;
        if are_many && other_worker < end && end > covered {
            groups.push(unresponsive[begin..end].iter().map(|one| one.node).collect());
            covered = end;
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups among ten nodes, of which nodes 0, 1, 2 … of one worker each had their last heartbeats at these times.
    fn together(since_us: &[u64]) -> Vec<Vec<u32>> {
        let names: Vec<_> = (0..since_us.len()).map(|index| format!("w{index}")).collect();
        let unresponsive = since_us.iter().zip(&names).zip(0..);
        let unresponsive = unresponsive.map(|((since_us, worker), key)| Unresponsive {
            since_us: *since_us,
            node: NodeKey(key),
            worker,
        });
        let groups = unresponsive_together(unresponsive.collect(), 10, 100);
        groups.iter().map(|group| group.iter().map(|key| key.0).collect()).collect()
    }

    #[test]
    fn only_who_fell_silent_within_one_window_of_many_others_did_so_together() {
        assert!(together(&[5, 5, 5]).is_empty(), "three of ten are not more than 30 %");
        assert_eq!(together(&[5, 5, 5, 5]), [[0, 1, 2, 3]]);
        assert_eq!(together(&[105, 5, 55, 5]), [[0, 1, 2, 3]]);
        assert!(together(&[5, 5, 5, 106]).is_empty(), "one came later");
        assert!(together(&[0, 101, 202, 303, 404, 505]).is_empty(), "one after the other");
        assert_eq!(together(&[0, 500, 501, 502, 503, 900]), [[1, 2, 3, 4]]);
        assert_eq!(together(&[0, 1, 2, 3, 500, 501, 502, 503]), [[0, 1, 2, 3], [4, 5, 6, 7]], "twice");
    }

    #[test]
    fn the_nodes_of_one_worker_fall_silent_alone() {
        let of = |worker, key| Unresponsive { since_us: 5, node: NodeKey(key), worker };
        assert!(unresponsive_together(vec![of("a", 0), of("a", 1), of("a", 2)], 3, 100).is_empty());
        assert_eq!(unresponsive_together(vec![of("a", 0), of("a", 1), of("b", 2)], 3, 100).len(), 1);
    }
}
