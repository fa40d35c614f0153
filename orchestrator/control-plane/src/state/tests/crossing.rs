//! Messages that cross: what was said before the newest word was read says nothing about it.

use model::FunctionSpec;

use super::model_cluster::Cluster;

/// Slots of a function's only sandbox that all data planes together hold.
fn held(cluster: &Cluster) -> u32 {
    cluster.data_planes.iter().flat_map(|known| known.held.values()).map(|held| held.slots).sum()
}

#[test]
fn slots_given_back_while_their_sandbox_comes_back_into_reach_are_not_granted_twice() {
    let mut cluster = Cluster::new(1, 2);
    let mut spec = FunctionSpec::new("f".parse().unwrap(), "any");
    (spec.concurrency, spec.scale.max) = (1, Some(1));
    cluster.put(spec);
    let id = cluster.function_id("f").expect("it was registered");
    (0..2).for_each(|data_plane| cluster.data_plane_reads(data_plane));
    cluster.data_planes[0].arrive(id);
    cluster.quiesce(1);
    cluster.data_planes[0].finish_one(id);
    cluster.quiesce(1);

    // The other one needs the slot, which the first gives back: that is under way …
    cluster.data_planes[1].arrive(id);
    cluster.deliver_from_data_plane(1);
    cluster.data_plane_reads(0);
    assert_eq!(held(&cluster), 0, "it was given back");
    // … while the sandbox's node is suspected, and trusted again.
    cluster.pass(2000);
    cluster.worker_sends_heartbeat(0);
    for _ in 0..8 {
        for data_plane in [1, 0] {
            cluster.deliver_from_data_plane(data_plane);
            cluster.data_plane_reads(data_plane);
            assert!(held(&cluster) <= 1, "two data planes use a sandbox for one invocation at a time");
        }
    }
    cluster.quiesce(3);
    assert_eq!(cluster.data_planes[1].running(id), 1, "and the one that needs the slot has it");
}
