//! Sandboxes that data planes found broken at a time when nobody could be told.

use model::FunctionSpec;

use super::model_cluster::Cluster;

/// A cluster with one free sandbox of a function, and the function's id.
fn with_one_sandbox() -> (Cluster, u64) {
    let mut cluster = Cluster::new(1, 1);
    let mut spec = FunctionSpec::new("f".parse().unwrap(), "any");
    spec.scale.max = Some(1);
    cluster.put(spec);
    let id = cluster.function_id("f").expect("it was registered");
    cluster.data_plane_reads(0);
    cluster.data_planes[0].arrive(id);
    cluster.quiesce(1);
    cluster.data_planes[0].finish_one(id);
    cluster.quiesce(1);
    assert_eq!(cluster.workers[0].sandboxes.len(), 1);
    (cluster, id)
}

/// What waits is served by another sandbox, and nothing is granted for ever.
fn expect_replaced(cluster: &mut Cluster, id: u64, what: &str) {
    let broken: Vec<u64> = cluster.workers[0].sandboxes.keys().copied().collect();
    cluster.data_planes[0].arrive(id);
    cluster.quiesce(5);
    assert_eq!(cluster.data_planes[0].running(id), 1, "{what}: what waits is served");
    assert!(
        broken.iter().all(|id| !cluster.workers[0].sandboxes.contains_key(id)),
        "{what}: the broken one is deleted"
    );
    assert!(cluster.data_planes[0].broken.is_empty(), "{what}: and forgotten by who found it broken");
    let read = cluster.data_planes[0].deltas_read;
    cluster.quiesce(5);
    assert_eq!(cluster.data_planes[0].deltas_read, read, "{what}: nothing is granted any more");
    let function = cluster.believed("f");
    assert!(function.free().is_empty(), "{what}");
}

#[test]
fn a_sandbox_that_broke_while_the_control_plane_was_away_is_replaced() {
    for worker_first in [true, false] {
        for deliver_first in [true, false] {
            let (mut cluster, id) = with_one_sandbox();
            cluster.restart_control_plane();
            cluster.sandboxes_break(0);
            if worker_first {
                cluster.connect_worker(0);
            }
            cluster.connect_data_plane(0);
            while deliver_first && cluster.data_planes[0].has_outgoing() {
                cluster.deliver_from_data_plane(0);
            }
            expect_replaced(&mut cluster, id, &format!("worker first: {worker_first}, heard first: {deliver_first}"));
        }
    }
}

#[test]
fn a_sandbox_that_broke_while_its_data_plane_was_disconnected_is_replaced() {
    let (mut cluster, id) = with_one_sandbox();
    cluster.cut_data_plane(0);
    cluster.sandboxes_break(0);
    expect_replaced(&mut cluster, id, "cut");
    let last_error = cluster.believed("f").backoff.last_error.clone();
    assert!(last_error.as_ref().is_some_and(|error| error.contains("refused")), "{last_error:?}");
}

#[test]
fn a_data_plane_forgets_a_sandbox_that_it_reported_as_broken() {
    let (mut cluster, id) = with_one_sandbox();
    cluster.sandboxes_break(0);
    assert_eq!(cluster.data_planes[0].broken.len(), 1);
    expect_replaced(&mut cluster, id, "reported");
}

/// Its holder still has it when it connects again: nobody else gets it before the news of it is heard.
#[test]
fn a_sandbox_that_broke_while_its_holder_was_disconnected_is_granted_to_nobody_else() {
    let mut cluster = Cluster::new(1, 2);
    let mut spec = FunctionSpec::new("f".parse().unwrap(), "any");
    spec.scale.max = Some(1);
    cluster.put(spec);
    let id = cluster.function_id("f").expect("it was registered");
    (0..2).for_each(|index| cluster.data_plane_reads(index));
    cluster.data_planes[0].arrive(id);
    cluster.quiesce(1);
    assert_eq!(cluster.data_planes[0].running(id), 1);
    cluster.cut_data_plane(0);
    cluster.sandboxes_break(0);
    let broken: Vec<u64> = cluster.data_planes[0].broken.keys().copied().collect();
    cluster.data_planes[1].arrive(id);
    cluster.deliver_from_data_plane(1);
    cluster.connect_data_plane(0);
    cluster.data_plane_reads(1);
    assert!(
        !broken.iter().any(|id| cluster.data_planes[1].held.contains_key(id)),
        "{broken:?} is what the first one has"
    );
    cluster.quiesce(5);
    assert_eq!(cluster.data_planes[1].running(id), 1, "another one serves it");
    assert!(cluster.data_planes[0].broken.is_empty());
}
