//! Nodes that fall silent together: then the cause is likely to be here, and nothing is replaced.

use std::{collections::BTreeSet, time::Duration};

use model::FunctionSpec;

use super::model_cluster::{Cluster, NODE_CPU};
use crate::state::{Acknowledgement, Request, cluster::NodeState};

/// Longer than a worker may be silent before it is dead.
const LONG_MS: u64 = 12_000;

/// As many workers, each of which runs an invocation in the only sandbox that it has room for; the function's id.
fn busy(workers: usize) -> (Cluster, u64) {
    let mut cluster = Cluster::new(workers, 1);
    let mut spec = FunctionSpec::new("f".parse().unwrap(), "any");
    spec.cpu = u32::try_from(NODE_CPU).unwrap();
    cluster.put(spec);
    let id = cluster.function_id("f").expect("it was registered");
    cluster.data_plane_reads(0);
    (0..workers).for_each(|_| cluster.data_planes[0].arrive(id));
    cluster.quiesce(2);
    assert_eq!(sandboxes(&cluster).len(), workers);
    (cluster, id)
}

fn sandboxes(cluster: &Cluster) -> BTreeSet<u64> {
    cluster.workers.iter().flat_map(|worker| worker.sandboxes.keys().copied()).collect()
}

/// The workers speak again: the same sandboxes are used as before, and there is no other.
fn expect_the_same(cluster: &mut Cluster, id: u64, before: &BTreeSet<u64>, what: &str) {
    let dead = cluster.state.cluster.tables.nodes.iter().filter(|(_, node)| node.state() == NodeState::Dead).count();
    assert_eq!(dead, 0, "{what}: nodes were given up");
    cluster.quiesce(1);
    let count = u32::try_from(before.len()).unwrap();
    assert_eq!(&sandboxes(cluster), before, "{what}: sandboxes were replaced");
    assert_eq!(cluster.data_planes[0].running(id), count, "{what}: what ran there runs");
    for _ in 0..count {
        cluster.data_planes[0].finish_one(id);
        cluster.data_planes[0].arrive(id);
    }
    cluster.quiesce(1);
    assert_eq!(cluster.data_planes[0].running(id), count, "{what}: the same sandboxes serve");
    assert_eq!(&sandboxes(cluster), before, "{what}: and no other");
}

#[test]
fn when_all_workers_are_silent_together_nothing_is_replaced_for_as_long_as_they_are() {
    for workers in [2, 3, 5] {
        for (disconnected, ms) in [(false, LONG_MS), (true, LONG_MS), (false, 10 * LONG_MS)] {
            let what = format!("{workers} workers, disconnected: {disconnected}, {ms} ms");
            let (mut cluster, id) = busy(workers);
            let before = sandboxes(&cluster);
            cluster.pass(2000);
            if disconnected {
                (0..workers).for_each(|worker| cluster.cut_worker(worker));
            }
            cluster.pass(ms);
            expect_the_same(&mut cluster, id, &before, &what);
        }
    }
}

#[test]
fn workers_that_return_one_after_the_other_are_not_dead_because_the_first_one_returned() {
    let (mut cluster, id) = busy(3);
    let before = sandboxes(&cluster);
    cluster.pass(LONG_MS);
    // From now on one third speaks, then two.
    cluster.pass_with(1000, &[true, false, false]);
    cluster.pass_with(1000, &[true, true, false]);
    expect_the_same(&mut cluster, id, &before, "one after the other");
}

#[test]
fn one_of_many_that_is_silent_is_replaced() {
    let (mut cluster, _) = busy(4);
    cluster.pass_with(LONG_MS, &[false, true, true, true]);
    let states: Vec<_> = cluster.state.cluster.tables.nodes.iter().map(|(_, node)| node.state()).collect();
    assert_eq!(states, [NodeState::Dead, NodeState::Ready, NodeState::Ready, NodeState::Ready]);
}

fn states(cluster: &Cluster) -> Vec<NodeState> {
    cluster.state.cluster.tables.nodes.iter().map(|(_, node)| node.state()).collect()
}

#[test]
fn workers_that_shut_down_are_no_evidence_about_the_others() {
    let (mut cluster, _) = busy(3);
    (0..2).for_each(|worker| cluster.end_worker(worker));
    cluster.pass_with(LONG_MS, &[false, false, true]);
    assert_eq!(states(&cluster), [NodeState::Dead, NodeState::Dead, NodeState::Ready]);
    cluster.pass(LONG_MS);
    assert_eq!(states(&cluster), [NodeState::Dead; 3], "the last one fell silent, and that is noticed");
}

#[test]
fn workers_that_fall_silent_one_after_the_other_do_not_do_so_together() {
    let (mut cluster, _) = busy(3);
    cluster.pass_with(5000, &[false, true, true]);
    cluster.pass_with(LONG_MS, &[false, false, true]);
    assert_eq!(states(&cluster), [NodeState::Dead, NodeState::Dead, NodeState::Ready]);
}

#[test]
fn who_falls_silent_long_after_others_that_did_so_together_is_replaced() {
    for disconnected in [false, true] {
        let (mut cluster, _) = busy(5);
        cluster.pass_with(LONG_MS, &[false, false, true, true, true]);
        if disconnected {
            cluster.kill_worker(2);
        }
        cluster.pass_with(LONG_MS, &[false, false, false, true, true]);
        let states = states(&cluster);
        assert!(!states[..2].contains(&NodeState::Dead), "together: {states:?}");
        assert_eq!(states[2..], [NodeState::Dead, NodeState::Ready, NodeState::Ready], "{disconnected}");
    }
}

#[test]
fn the_grace_of_a_data_plane_ends_though_workers_are_silent_together() {
    let (mut cluster, _) = busy(5);
    cluster.pass_with(LONG_MS, &[false, false, true, true, true]);
    cluster.kill_data_plane(0);
    let grace = cluster.state.settings.health.data_plane_grace;
    cluster.pass_with(u64::try_from(grace.as_millis()).unwrap() + 1000, &[false, false, true, true, true]);
    assert_eq!(cluster.state.cluster.data_planes.iter().count(), 0, "nobody waits for it any more");
}

#[test]
fn when_the_control_plane_itself_stood_still_nobody_was_silent() {
    for workers in [1, 2] {
        let (mut cluster, id) = busy(workers);
        let before = sandboxes(&cluster);
        cluster.stand_still(LONG_MS);
        let suspects =
            cluster.state.cluster.tables.nodes.iter().filter(|(_, node)| node.state() != NodeState::Ready).count();
        assert_eq!(suspects, 0, "in the moment in which it wakes");
        expect_the_same(&mut cluster, id, &before, "it stood still");
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

#[test]
fn what_was_acknowledged_while_the_control_plane_stood_still_is_read_before_it_answers() {
    let (mut cluster, _) = busy(1);
    cluster.put(FunctionSpec::new("g".parse().unwrap(), "any"));
    let mut known = cluster.request(|reply| Request::Acknowledged { name: "g".to_owned(), reply });
    cluster.data_plane_reads(0);
    cluster.stand_still(LONG_MS);
    assert!(known.try_recv().is_err(), "what the data plane said meanwhile is not read yet");
    cluster.deliver_all_from_data_plane(0);
    assert_eq!(known.try_recv(), Ok(Acknowledgement::Complete));
}

#[test]
fn a_sandbox_that_ended_while_the_control_plane_stood_still_did_not_last() {
    let (mut cluster, _) = busy(1);
    cluster.stand_still(LONG_MS);
    cluster.sandbox_exits(0);
    cluster.deliver_from_worker(0);
    assert_eq!(cluster.believed("f").backoff.failures, 1, "it was ready for two seconds");
}

#[test]
fn a_data_plane_that_was_away_has_its_grace_also_when_the_control_plane_stood_still() {
    let (mut cluster, _) = busy(1);
    let grace = ms(cluster.state.settings.health.data_plane_grace);
    cluster.cut_data_plane(0);
    cluster.stand_still(2 * grace);
    cluster.pass_with(grace - 1000, &[true]);
    assert_eq!(cluster.state.cluster.data_planes.iter().count(), 1, "it had no time to come back");
    cluster.pass_with(2000, &[true]);
    assert_eq!(cluster.state.cluster.data_planes.iter().count(), 0, "and no more than its grace");
}

#[test]
fn a_drain_has_its_time_also_when_the_control_plane_stood_still() {
    let (mut cluster, id) = busy(1);
    let deadline = ms(cluster.state.settings.health.drain_deadline);
    cluster.request(|reply| Request::DrainNode { name: "w0-node".to_owned(), drained: true, reply });
    cluster.stand_still(2 * deadline);
    cluster.quiesce(deadline / 1000 - 2);
    assert_eq!(cluster.data_planes[0].running(id), 1, "it had no time to end");
    cluster.quiesce(4);
    assert!(cluster.workers[0].sandboxes.is_empty(), "and no more than the deadline");
}

#[test]
fn a_worker_that_leaves_costs_a_function_one_decision_however_many_sandboxes_it_has_there() {
    let mut cluster = Cluster::new(4, 1);
    let mut spec = FunctionSpec::new("f".parse().unwrap(), "any");
    spec.cpu = u32::try_from(NODE_CPU / 4).unwrap();
    cluster.put(spec);
    let id = cluster.function_id("f").expect("it was registered");
    cluster.data_plane_reads(0);
    // One more than there is room for.
    (0..17).for_each(|_| cluster.data_planes[0].arrive(id));
    cluster.quiesce(20);
    assert_eq!(sandboxes(&cluster).len(), 16, "every node is full");
    let before = cluster.state.metrics.placement_failures.get();
    cluster.cut_worker(0);
    // Each decision looks for room in place of what is out of reach, and there is none.
    assert_eq!(cluster.state.metrics.placement_failures.get() - before, 1);
}
