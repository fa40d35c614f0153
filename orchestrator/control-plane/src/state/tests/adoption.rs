//! What becomes of sandboxes that nobody wants any more when the control plane comes back.

use model::FunctionSpec;

use super::model_cluster::Cluster;
use crate::state::Request;

const DRAIN_DEADLINE_MS: u64 = 60_000;

fn spec(memory: u32) -> FunctionSpec {
    FunctionSpec { memory, ..FunctionSpec::new("f".parse().unwrap(), "any") }
}

/// A cluster with so many data planes, the first of which has an invocation in the only sandbox, and the function's id.
fn busy(data_planes: usize) -> (Cluster, u64) {
    let mut cluster = Cluster::new(1, data_planes);
    cluster.put(spec(100));
    let id = cluster.function_id("f").expect("it was registered");
    cluster.data_plane_reads(0);
    cluster.data_planes[0].arrive(id);
    cluster.quiesce(1);
    assert_eq!(cluster.data_planes[0].running(id), 1);
    (cluster, id)
}

fn delete(cluster: &mut Cluster) {
    cluster.request(|reply| Request::Delete { name: "f".parse().unwrap(), reply });
}

/// The control plane comes back, and hears of its peers in one order or the other.
fn restart(cluster: &mut Cluster, worker_first: bool) {
    cluster.restart_control_plane();
    if worker_first {
        cluster.connect_worker(0);
    }
    cluster.connect_data_plane(0);
    cluster.quiesce(1);
}

#[test]
fn what_runs_in_a_sandbox_of_a_deleted_function_finishes_and_then_it_ends() {
    for (order, worker_first) in [true, false].into_iter().enumerate() {
        let (mut cluster, id) = busy(1);
        delete(&mut cluster);
        restart(&mut cluster, worker_first);
        assert_eq!(cluster.data_planes[0].running(id), 1, "order {order}: it still runs");
        assert_eq!(cluster.state.cluster.tables.nodes.iter().map(|(_, node)| node.sandboxes().len()).sum::<usize>(), 1);
        cluster.data_planes[0].finish_one(id);
        cluster.quiesce(2);
        assert!(cluster.workers[0].sandboxes.is_empty(), "order {order}: and then it ends");
        assert!(
            cluster.state.cluster.tables.sandboxes.len() == 0
                && cluster.state.cluster.tables.functions.iter_mut().next().is_none()
        );
    }
}

#[test]
fn a_drain_over_a_restart_ends_at_the_deadline() {
    let (mut cluster, id) = busy(1);
    delete(&mut cluster);
    restart(&mut cluster, true);
    cluster.quiesce(DRAIN_DEADLINE_MS / 1000 - 5);
    assert_eq!(cluster.data_planes[0].running(id), 1, "it has its time");
    cluster.quiesce(10);
    assert!(cluster.workers[0].sandboxes.is_empty(), "and no more");
}

#[test]
fn what_nobody_holds_ends_once_that_is_known() {
    let (mut cluster, id) = busy(1);
    cluster.data_planes[0].finish_one(id);
    delete(&mut cluster);
    cluster.restart_control_plane();
    cluster.connect_worker(0);
    cluster.worker_reads(0);
    assert_eq!(cluster.workers[0].sandboxes.len(), 1, "who may hold it has not reported");
    cluster.quiesce(2);
    assert!(cluster.workers[0].sandboxes.is_empty());
}

#[test]
fn what_runs_in_a_sandbox_of_an_older_revision_or_on_a_drained_node_finishes_too() {
    for is_update in [true, false] {
        let (mut cluster, id) = busy(1);
        if is_update {
            cluster.put(spec(200));
        } else {
            cluster.request(|reply| Request::DrainNode { name: "w0-node".to_owned(), drained: true, reply });
        }
        restart(&mut cluster, true);
        assert_eq!(cluster.data_planes[0].running(id), 1, "update {is_update}: it still runs");
        cluster.data_planes[0].finish_one(id);
        cluster.quiesce(2);
        assert!(cluster.workers[0].sandboxes.is_empty(), "update {is_update}: and then it ends");
    }
}

/// Two data planes, the first of which uses the only sandbox of `f`, and a control plane that has begun anew since; the
/// function and the sandbox.
fn restarted_with_user() -> (Cluster, u64, u64) {
    let (mut cluster, id) = busy(2);
    let sandbox = *cluster.workers[0].sandboxes.keys().next().expect("it runs there");
    cluster.restart_control_plane();
    cluster.connect_data_plane(1);
    (cluster, id, sandbox)
}

/// The worker comes back: the sandbox ends, and the other data plane never has it.
fn expect_ended(cluster: &mut Cluster, id: u64, sandbox: u64, what: &str) {
    cluster.connect_worker(0);
    cluster.data_planes[1].arrive(id);
    cluster.deliver_from_data_plane(1);
    for _ in 0..5 {
        (0..2).for_each(|index| cluster.data_plane_reads(index));
        assert!(!cluster.data_planes[1].held.contains_key(&sandbox), "{what}: it was granted to the other one");
        cluster.quiesce(1);
    }
    assert!(!cluster.workers[0].sandboxes.contains_key(&sandbox), "{what}: it ends");
    assert_eq!(cluster.data_planes[1].running(id), 1, "{what}: another one serves");
}

const LONGER_THAN_DEAD_MS: u64 = 12_000;

#[test]
fn what_a_data_plane_holds_when_it_comes_back_after_the_node_was_given_up_is_granted_to_nobody() {
    for breaks in [false, true] {
        let (mut cluster, id, sandbox) = restarted_with_user();
        if breaks {
            cluster.sandboxes_break(0);
        }
        cluster.pass(LONGER_THAN_DEAD_MS);
        cluster.connect_data_plane(0);
        cluster.data_plane_reads(0);
        assert_eq!(cluster.data_planes[0].running(id), 0, "it is told that it is gone");
        expect_ended(&mut cluster, id, sandbox, &format!("breaks: {breaks}"));
    }
}

#[test]
fn what_was_found_broken_after_its_node_was_given_up_is_granted_to_nobody() {
    let (mut cluster, id, sandbox) = restarted_with_user();
    cluster.data_planes[0].held.clear();
    cluster.connect_data_plane(0);
    cluster.pass(LONGER_THAN_DEAD_MS);
    cluster.data_planes[0].report_broken(sandbox, id, Vec::new());
    cluster.deliver_all_from_data_plane(0);
    expect_ended(&mut cluster, id, sandbox, "broken");
}

#[test]
fn what_a_process_claimed_that_is_no_more_is_granted_to_nobody() {
    let (mut cluster, id, sandbox) = restarted_with_user();
    cluster.connect_data_plane(0);
    cluster.data_plane_reads(0);
    assert_eq!(cluster.data_planes[0].running(id), 1, "its worker is waited for");
    cluster.kill_data_plane(0);
    cluster.connect_data_plane(0);
    expect_ended(&mut cluster, id, sandbox, "claimed");
    assert!(!cluster.data_planes[0].held.contains_key(&sandbox));
}

#[test]
fn a_slot_that_cannot_be_counted_is_granted_to_nobody() {
    let (mut cluster, id, sandbox) = restarted_with_user();
    cluster.connect_worker(0);
    let key = cluster.state.cluster.data_planes.iter().find(|(_, known)| &*known.id.0 == "d0").unwrap().0;
    let function = cluster.state.cluster.tables.functions.iter_mut().find(|(function, _)| function.0 == id).unwrap().1;
    function.load_mut(key).set_held(u32::MAX);
    cluster.connect_data_plane(0);
    cluster.data_plane_reads(0);
    assert!(!cluster.data_planes[0].held.contains_key(&sandbox), "it is said to be gone");
    cluster.worker_reads(0);
    assert!(!cluster.workers[0].sandboxes.contains_key(&sandbox), "what may still run there is ended");
    cluster.data_planes[0].arrive(id);
    cluster.deliver_all_from_data_plane(0);
    cluster.quiesce(1);
    assert_eq!(cluster.data_planes[0].running(id), 0, "nor is another one granted");
}
