//! Creations that wait at their worker for longer than one may take: how many begin again, and where.

use std::collections::BTreeSet;

use model::FunctionSpec;

use super::{
    failures::{HALF_DEADLINE_MS, expect_no_blame, progress_at},
    model_cluster::{Cluster, NODE_CPU},
};
use crate::state::{Request, cluster::SandboxState};

/// Two checks of the creations that are overdue are no further apart.
const CHECK_MS: u64 = HALF_DEADLINE_MS / 2;
/// Creations that begin again in one input of the control plane, at most.
const MAX_AT_ONCE: u64 = 256;

fn put(cluster: &mut Cluster, name: &str, creations: u32, cpu: u32) {
    let mut spec = FunctionSpec::new(name.parse().unwrap(), "any");
    (spec.scale.min, spec.cpu, spec.memory) = (creations, cpu, 1);
    cluster.put(spec);
}

fn drain(cluster: &mut Cluster, node: usize, drained: bool) {
    cluster.request(|reply| Request::DrainNode { name: format!("w{node}-node"), drained, reply });
}

fn pass(cluster: &mut Cluster, ms: u64) {
    let all = vec![true; cluster.workers.len()];
    cluster.pass_with(ms, &all);
}

/// The sandboxes of a worker that are not ready, as it has them once it has read everything.
fn under_way(cluster: &mut Cluster, worker: usize) -> BTreeSet<u64> {
    cluster.worker_reads(worker);
    cluster.deliver_from_worker(worker);
    let sandboxes = cluster.workers[worker].sandboxes.iter();
    sandboxes.filter(|(_, sandbox)| !sandbox.ready).map(|(id, _)| *id).collect()
}

fn finish(cluster: &mut Cluster, worker: usize, sandbox: u64) {
    progress_at(cluster, worker, sandbox, false);
    cluster.worker_finishes(worker, sandbox);
    cluster.deliver_from_worker(worker);
}

fn all_wait(cluster: &mut Cluster, worker: usize) -> BTreeSet<u64> {
    let waiting = under_way(cluster, worker);
    waiting.iter().for_each(|id| progress_at(cluster, worker, *id, true));
    waiting
}

/// A cluster whose other nodes are drained while so many creations of `f`, each of that size, wait at the first worker for
/// as long as one may take. One of them becomes ready meanwhile, and another one after that which was commanded later.
fn overtaken(workers: usize, creations: u32, cpu: u32) -> Cluster {
    let mut cluster = Cluster::new(workers, 1);
    cluster.data_plane_reads(0);
    (1..workers).for_each(|node| drain(&mut cluster, node, true));
    pass(&mut cluster, 1000);
    put(&mut cluster, "f", creations + 1, cpu);
    let waiting = all_wait(&mut cluster, 0);
    assert_eq!(waiting.len(), creations as usize + 1);
    pass(&mut cluster, HALF_DEADLINE_MS);
    finish(&mut cluster, 0, *waiting.first().unwrap());
    pass(&mut cluster, HALF_DEADLINE_MS + 1000);
    put(&mut cluster, "later", 1, 1);
    let later = *under_way(&mut cluster, 0).last().unwrap();
    finish(&mut cluster, 0, later);
    assert_eq!(under_way(&mut cluster, 0).len(), creations as usize, "nowhere else is room");
    (1..workers).for_each(|node| drain(&mut cluster, node, false));
    cluster
}

#[test]
fn a_later_creation_that_is_ready_first_balances_two_queues_and_empties_none() {
    let mut cluster = overtaken(2, 200, 1);
    pass(&mut cluster, CHECK_MS);
    let lengths = [0, 1].map(|worker| under_way(&mut cluster, worker).len());
    assert!(lengths[0].abs_diff(lengths[1]) <= 1 && lengths[0] + lengths[1] == 200, "{lengths:?}");
    expect_no_blame(&cluster);
    // Each goes on with what it has: while both are overdue nothing is exchanged.
    let queues = [0, 1].map(|worker| all_wait(&mut cluster, worker));
    pass(&mut cluster, HALF_DEADLINE_MS);
    (0..2).for_each(|worker| finish(&mut cluster, worker, *queues[worker].last().unwrap()));
    let commanded = cluster.state.scaler.sandboxes_commanded;
    pass(&mut cluster, HALF_DEADLINE_MS + 1000);
    put(&mut cluster, "much-later", 20, 1);
    for (worker, before) in queues.iter().enumerate() {
        let newest = under_way(&mut cluster, worker).last().copied().unwrap();
        assert!(!before.contains(&newest), "both make one of these");
        finish(&mut cluster, worker, newest);
    }
    pass(&mut cluster, CHECK_MS);
    let again = cluster.state.scaler.sandboxes_commanded - commanded - 20;
    assert!(again <= 2, "{again} began again though each worker made one");
}

#[test]
fn the_creations_that_have_waited_longest_move_first_and_no_more_than_a_bound_at_once() {
    let mut cluster = overtaken(2, 900, 1);
    let waiting = under_way(&mut cluster, 0);
    let mut most = 0;
    for _ in 0..CHECK_MS / 100 {
        let before = cluster.state.scaler.sandboxes_commanded;
        pass(&mut cluster, 100);
        most = most.max(cluster.state.scaler.sandboxes_commanded - before);
    }
    assert!((1..=MAX_AT_ONCE).contains(&most), "{most} at once");
    let left = under_way(&mut cluster, 0);
    let moved = 900 - left.len();
    assert!((449..=451).contains(&moved), "{moved} of 900");
    assert!(left.iter().eq(waiting.iter().skip(moved)), "the oldest first");
}

#[test]
fn a_creation_keeps_its_room_while_no_other_node_has_any() {
    let mut cluster = overtaken(2, 9, 99);
    put(&mut cluster, "filler", 1, u32::try_from(NODE_CPU).unwrap());
    let filler = under_way(&mut cluster, 1);
    assert_eq!(filler.len(), 1, "the other node is full");
    let waiting = under_way(&mut cluster, 0);
    pass(&mut cluster, 3 * CHECK_MS);
    assert_eq!(under_way(&mut cluster, 0), waiting);
    assert_eq!(cluster.state.cluster.unschedulable.len(), 0);
}

#[test]
fn where_nothing_becomes_ready_creations_move_to_a_worker_that_is_not_late_and_else_stay() {
    for workers in [1, 2] {
        let mut cluster = Cluster::new(workers, 1);
        (1..workers).for_each(|node| drain(&mut cluster, node, true));
        put(&mut cluster, "f", 2, 1);
        let waiting = all_wait(&mut cluster, 0);
        (1..workers).for_each(|node| drain(&mut cluster, node, false));
        pass(&mut cluster, 2 * HALF_DEADLINE_MS - 1000);
        assert_eq!(under_way(&mut cluster, 0), waiting, "they may wait for so long");
        pass(&mut cluster, 2000);
        match workers {
            1 => assert_eq!(under_way(&mut cluster, 0), waiting, "to command them again would change nothing"),
            _ => assert_eq!([0, 1].map(|worker| under_way(&mut cluster, worker).len()), [0, 2]),
        }
        expect_no_blame(&cluster);
    }
}

#[test]
fn a_creation_that_begins_again_keeps_the_time_at_which_it_was_asked_for() {
    let mut cluster = overtaken(2, 3, 1);
    pass(&mut cluster, CHECK_MS);
    assert!(!under_way(&mut cluster, 1).is_empty(), "one has moved");
    cluster.quiesce(1);
    let moved: Vec<_> = cluster
        .rows
        .iter()
        .filter(|row| row.node == "w1-node" && row.outcome == record::CreationOutcome::Ready)
        .collect();
    assert!(!moved.is_empty(), "{:?}", cluster.rows);
    for row in moved {
        assert_eq!(row.requested_ns, 1_000_000_000, "{row:?}");
        assert!(row.decide_us.is_some_and(|waited_us| waited_us >= 2 * HALF_DEADLINE_MS * 1000), "{row:?}");
    }
}

#[test]
fn a_long_wait_leaves_the_nodes_avoided_that_failed_the_function() {
    let mut cluster = overtaken(6, 3, 1);
    let failed: Vec<_> =
        (1..5).map(|node| cluster.state.cluster.tables.nodes.find(&format!("w{node}-node")).unwrap()).collect();
    let id = cluster.state.registry.function("f").unwrap().id;
    let backoff = &mut cluster.state.cluster.tables.functions.get_mut(id).unwrap().backoff;
    backoff.avoid = failed.iter().map(|node| (*node, u64::MAX)).collect();
    pass(&mut cluster, CHECK_MS);
    let avoided: Vec<_> =
        cluster.state.cluster.tables.functions.get(id).unwrap().backoff.avoid.iter().map(|(node, _)| *node).collect();
    assert_eq!(avoided, failed);
    let lengths: Vec<_> = (0..6).map(|worker| under_way(&mut cluster, worker).len()).collect();
    assert_eq!(lengths, [2, 0, 0, 0, 0, 1], "it moves to the only node that did not fail it");
}

#[test]
fn nodes_that_can_have_nothing_hide_none_that_can() {
    let mut cluster = overtaken(20, 4, 1);
    // These have the shortest queues.
    (1..18).for_each(|node| drain(&mut cluster, node, true));
    pass(&mut cluster, CHECK_MS);
    let elsewhere: usize = (18..20).map(|worker| under_way(&mut cluster, worker).len()).sum();
    assert!(elsewhere >= 2, "{elsewhere} of 4 have moved");
}

#[test]
fn the_one_creation_of_a_function_that_failed_often_begins_again_as_others_do() {
    let mut cluster = overtaken(2, 2, 1);
    let id = cluster.state.registry.function("f").unwrap().id;
    cluster.state.cluster.tables.functions.get_mut(id).unwrap().backoff.failures = 9;
    let queue = |cluster: &mut Cluster| [0, 1].map(|worker| under_way(cluster, worker).len());
    pass(&mut cluster, CHECK_MS);
    assert_eq!(queue(&mut cluster), [2, 0], "of two, each waits for the other");
    let waiting = under_way(&mut cluster, 0);
    finish(&mut cluster, 0, *waiting.first().unwrap());
    let last = *waiting.last().unwrap();
    assert_eq!(queue(&mut cluster), [1, 0]);
    drain(&mut cluster, 1, true);
    put(&mut cluster, "other", 3, 1);
    drain(&mut cluster, 1, false);
    assert_eq!(queue(&mut cluster), [4, 0]);
    pass(&mut cluster, 2 * CHECK_MS);
    let waits = cluster
        .state
        .cluster
        .tables
        .sandboxes
        .iter()
        .filter(|(_, one)| one.function() == id && one.state() == SandboxState::Starting);
    let oldest = waits.map(|(id, _)| id.to_wire()).min().unwrap();
    assert!(oldest > last, "it is the only one of its function");
}

#[test]
fn a_worker_that_makes_sandboxes_takes_those_of_one_that_makes_none_also_when_some_wait_long_there() {
    let mut cluster = Cluster::new(2, 1);
    drain(&mut cluster, 1, true);
    put(&mut cluster, "f", 1, 1);
    put(&mut cluster, "filler", 1, u32::try_from(NODE_CPU).unwrap() - 1);
    assert_eq!(all_wait(&mut cluster, 0).len(), 2, "the node is full");
    drain(&mut cluster, 1, false);
    put(&mut cluster, "slow", 1, 1);
    let slow = all_wait(&mut cluster, 1);
    pass(&mut cluster, 2 * HALF_DEADLINE_MS - 1000);
    for name in ["first", "second"] {
        pass(&mut cluster, 2000);
        put(&mut cluster, name, 1, 1);
        let newest = *under_way(&mut cluster, 1).last().unwrap();
        assert!(!slow.contains(&newest));
        finish(&mut cluster, 1, newest);
    }
    pass(&mut cluster, CHECK_MS);
    cluster.worker_reads(1);
    let functions: Vec<_> = cluster.workers[1].sandboxes.values().map(|sandbox| sandbox.name.as_str()).collect();
    assert!(functions.contains(&"f"), "{functions:?}");
}
