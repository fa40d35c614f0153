//! What becomes of sandboxes that nobody wants any more when the control plane comes back.

use model::FunctionSpec;

use super::model_cluster::Cluster;
use crate::state::Request;

const DRAIN_DEADLINE_MS: u64 = 60_000;

fn spec(memory: u32) -> FunctionSpec {
    FunctionSpec { memory, ..FunctionSpec::new("f".parse().unwrap(), "any") }
}

/// A cluster whose only sandbox runs an invocation, and the function's id.
fn busy() -> (Cluster, u64) {
    let mut cluster = Cluster::new(1, 1);
    cluster.put(spec(100));
    let id = cluster.function_id("f").expect("it was registered");
    cluster.data_plane_reads(0);
    cluster.data_planes[0].arrive(id);
    cluster.settle(1);
    assert_eq!(cluster.data_planes[0].running(id), 1);
    (cluster, id)
}

fn delete(cluster: &mut Cluster) {
    cluster.request(Request::Delete { name: "f".parse().unwrap() });
}

/// The control plane comes back, and hears of its peers in one order or the other.
fn restart(cluster: &mut Cluster, worker_first: bool) {
    cluster.restart_control_plane();
    if worker_first {
        cluster.connect_worker(0);
    }
    cluster.connect_data_plane(0);
    cluster.settle(1);
}

#[test]
fn what_runs_in_a_sandbox_of_a_deleted_function_finishes_and_then_it_ends() {
    for (order, worker_first) in [true, false].into_iter().enumerate() {
        let (mut cluster, id) = busy();
        delete(&mut cluster);
        restart(&mut cluster, worker_first);
        assert_eq!(cluster.data_planes[0].running(id), 1, "order {order}: it still runs");
        assert_eq!(cluster.state.nodes.iter().map(|(_, node)| node.sandboxes.len()).sum::<usize>(), 1);
        cluster.data_planes[0].finish_one(id);
        cluster.settle(2);
        assert!(cluster.workers[0].sandboxes.is_empty(), "order {order}: and then it ends");
        assert!(cluster.state.sandboxes.is_empty() && cluster.state.functions.iter_mut().next().is_none());
    }
}

#[test]
fn a_drain_over_a_restart_ends_at_the_deadline() {
    let (mut cluster, id) = busy();
    delete(&mut cluster);
    restart(&mut cluster, true);
    cluster.settle(DRAIN_DEADLINE_MS / 1000 - 5);
    assert_eq!(cluster.data_planes[0].running(id), 1, "it has its time");
    cluster.settle(10);
    assert!(cluster.workers[0].sandboxes.is_empty(), "and no more");
}

#[test]
fn what_nobody_holds_ends_once_that_is_known() {
    let (mut cluster, id) = busy();
    cluster.data_planes[0].finish_one(id);
    delete(&mut cluster);
    cluster.restart_control_plane();
    cluster.connect_worker(0);
    cluster.worker_reads(0);
    assert_eq!(cluster.workers[0].sandboxes.len(), 1, "who may hold it has not reported");
    cluster.settle(2);
    assert!(cluster.workers[0].sandboxes.is_empty());
}

#[test]
fn what_runs_in_a_sandbox_of_an_older_revision_or_on_a_drained_node_finishes_too() {
    for is_update in [true, false] {
        let (mut cluster, id) = busy();
        if is_update {
            cluster.put(spec(200));
        } else {
            cluster.request(Request::DrainNode { name: "w0-node".to_owned(), drained: true });
        }
        restart(&mut cluster, true);
        assert_eq!(cluster.data_planes[0].running(id), 1, "update {is_update}: it still runs");
        cluster.data_planes[0].finish_one(id);
        cluster.settle(2);
        assert!(cluster.workers[0].sandboxes.is_empty(), "update {is_update}: and then it ends");
    }
}
